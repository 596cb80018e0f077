"""A training is the same interrupted or not, stops at NaN, and Fabric says nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tag2mask.core.errors import ConfigError, DataError, StageError, TrainingError
from tag2mask.core.progress import LOG
from tag2mask.core.types import Sample
from tag2mask.training.checkpoint import CHECKPOINT, RECORD, discard_checkpoint
from tag2mask.training.fit import fit
from tag2mask.training.images import TagImages
from tests.helpers.refused import refused
from tests.training.stopped import Killing
from tests.training.toy import Toy, engine, images, train_settings, weights

WORDS = "cannot read a.jpg: core.errors.DataError: no, tag2mask: copy it again"
ROOT = Path(__file__).resolve().parents[2]


def trained(out: Path, seed: int = 3, n: int = 13, **values: object) -> Toy:
    settings = train_settings(**values)
    module = Toy(settings)
    fit(module, images(n, seed), out=out, seed=seed, engine=engine())
    return module


def equal(a: Toy, b: Toy) -> bool:
    return all(torch.equal(v, weights(b)[k]) for k, v in weights(a).items())


def interrupted(out: Path, step: int) -> None:
    """Run until a step of the training and stop there by an error."""
    settings = train_settings()
    module = Toy(settings)
    module.poison_step = step
    with pytest.raises(TrainingError):
        fit(module, images(), out=out, seed=3, engine=engine())


def test_same_seed_same_weights_other_seed_others(tmp_path: Path) -> None:
    first, second, other = trained(tmp_path / "a"), trained(tmp_path / "b"), trained(tmp_path / "c", seed=4)
    assert equal(first, second)
    assert not equal(first, other)


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    settings = train_settings(epochs=15, optimiser="adam")
    module = Toy(settings).eval()
    data = images()
    batch = torch.utils.data.default_collate([data[(99, i)] for i in range(13)])
    before = _loss(module, batch)
    fit(module, data, out=tmp_path, seed=3, engine=engine())
    assert _loss(module.eval(), batch) < 0.8 * before


def _loss(module: Toy, batch: tuple[torch.Tensor, torch.Tensor]) -> float:
    with torch.no_grad():
        logits = module.logits(batch[0])
    return float(torch.nn.functional.multilabel_soft_margin_loss(logits, batch[1]))


@pytest.mark.parametrize("step", [4, 8], ids=["after one epoch", "after two epochs"])
def test_interrupted_and_resumed_equals_uninterrupted_bit_for_bit(tmp_path: Path, step: int) -> None:
    whole = trained(tmp_path / "whole")
    interrupted(tmp_path / "cut", step)
    resumed = trained(tmp_path / "cut")
    assert equal(whole, resumed)
    assert resumed.steps == whole.steps - step // 3 * 3


def test_another_number_of_threads_is_not_taken_in_silence(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    interrupted(tmp_path, 4)
    torch.set_num_threads(2)
    trained(tmp_path)
    assert "training: was begun with engine.threads=1 and resumes with 2" in caplog.text
    assert "engine.threads=1 resumes as it was begun" in caplog.text


def test_resuming_a_finished_training_changes_nothing(tmp_path: Path) -> None:
    first = trained(tmp_path)
    again = trained(tmp_path)
    assert equal(first, again)
    assert again.steps == 0


def test_checkpoint_of_other_settings_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trained(tmp_path / "a", lr=0.005)
    with caplog.at_level("WARNING", "tag2mask"):
        module = trained(tmp_path / "a")
    assert "is of other settings, another seed or other data; the training starts anew" in caplog.text
    assert equal(module, trained(tmp_path / "b"))


def test_one_checkpoint_that_needs_no_pickle_and_can_be_discarded(tmp_path: Path) -> None:
    trained(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [CHECKPOINT]
    checkpoint = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    assert (checkpoint["epoch"], checkpoint["step"], checkpoint[RECORD]["threads"]) == (3, 9, 1)
    discard_checkpoint(tmp_path)
    assert list(tmp_path.iterdir()) == []


class Script(torch.nn.Module):
    """What is pickled by name."""


@pytest.mark.parametrize(
    "value", [[1], torch.zeros(2), 3, "text", None, {}, {RECORD: {"identity": "x"}}, {RECORD: [1]}, Script()]
)
def test_checkpoints_that_hold_something_else_count_as_none(
    tmp_path: Path, value: object, caplog: pytest.LogCaptureFixture
) -> None:
    torch.save(value, tmp_path / CHECKPOINT)
    with caplog.at_level("WARNING", "tag2mask"):
        again = trained(tmp_path)
    assert "checkpoint.ckpt is damaged" in caplog.text
    assert "training starts from its beginning" in caplog.text
    assert again.steps == 9


@pytest.mark.parametrize("damage", ["empty", "cut at its end", "cut in its midst", "changed", "a pipe"])
def test_checkpoints_that_are_cut_or_changed_count_as_none(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    done = trained(tmp_path)
    path, whole = tmp_path / CHECKPOINT, (tmp_path / CHECKPOINT).read_bytes()
    with zipfile.ZipFile(path) as archive:  # in the midst of a tensor, where torch would read on
        part = max(archive.infolist(), key=lambda info: info.file_size)
    middle = whole.index(part.filename.encode()) + 200
    changed = {
        "empty": b"",
        "cut at its end": whole[:-100],
        "cut in its midst": whole[: len(whole) // 2],
        "changed": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
    }
    if damage in changed:
        path.write_bytes(changed[damage])
    else:
        path.unlink()
        os.mkfifo(path)
    with caplog.at_level("WARNING", "tag2mask"):
        again = trained(tmp_path)
    assert "checkpoint.ckpt is damaged" in caplog.text
    assert "training starts from its beginning" in caplog.text
    assert equal(again, done)
    assert path.read_bytes() == whole


def test_the_callers_randomness_is_left_alone(tmp_path: Path) -> None:
    settings = train_settings(epochs=1)
    module = Toy(settings)
    before = torch.get_rng_state()
    fit(module, images(), out=tmp_path, seed=3, engine=engine())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_fewer_images_than_a_batch_or_workers_train(tmp_path: Path, n: int) -> None:
    settings = train_settings(batch_size=8, epochs=2)
    module = Toy(settings)
    before = weights(module)
    fit(module, images(n), out=tmp_path, seed=3, engine=engine())
    assert module.steps == 2
    assert any(not torch.equal(v, before[k]) for k, v in weights(module).items())


@pytest.mark.slow
def test_worker_processes_change_nothing(tmp_path: Path) -> None:
    settings = train_settings(epochs=2)
    module = Toy(settings)
    fit(module, images(5), out=tmp_path / "a", seed=3, engine=engine(workers=3))
    assert equal(module, trained(tmp_path / "b", n=5, epochs=2))


class Broken(TagImages):
    """Its third image cannot be read."""

    def read(self, sample: Sample) -> Any:
        """As an image file that is cut off."""
        if sample.id == "002":
            try:
                raise OSError("truncated")
            except OSError as error:
                raise DataError(WORDS) from error
        return super().read(sample)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_of_the_data_keeps_its_words(tmp_path: Path, workers: int) -> None:
    settings = train_settings(epochs=1)
    data = images(4)  # one batch
    data.__class__ = Broken
    with pytest.raises(DataError) as caught:
        fit(Toy(settings), data, out=tmp_path, seed=3, engine=engine(workers=workers))
    assert str(caught.value) == WORDS


def test_parts_of_a_batch_add_up_to_it(tmp_path: Path) -> None:
    """Without dropout, four parts of one image give the gradients of one part of four."""
    results = []
    for accumulate in (1, 4):
        settings = train_settings(accumulate=accumulate, optimiser="sgd", epochs=1)
        module = Toy(settings)
        module.net.get_submodule("body").add_module("2", torch.nn.Identity())
        fit(module, images(), out=tmp_path / str(accumulate), seed=3, engine=engine())
        assert module.steps == 3
        results.append(weights(module))
    for name, value in results[0].items():
        torch.testing.assert_close(value, results[1][name], rtol=1e-5, atol=1e-7)


def test_a_killed_decoder_is_a_mistake_with_a_remedy(tmp_path: Path) -> None:
    """As the kernel kills it when memory is short."""
    data, settings = Killing.drawn(signal.SIGKILL), train_settings()
    with refused(StageError, "decodes images", "was killed", "engine.workers=0"):
        fit(Toy(settings), data, out=tmp_path, seed=3, engine=engine(workers=1))


def test_nan_stops_before_the_weights_are_spoilt(tmp_path: Path) -> None:
    settings = train_settings()
    module = Toy(settings)
    module.poison_step = 4
    with pytest.raises(TrainingError) as caught:
        fit(module, images(), out=tmp_path, seed=3, engine=engine())
    text = str(caught.value)
    assert "the loss is nan in epoch 2 of 3, step 5 of 9" in text
    assert "Lower the rates, such as train.lr=0.001 train.head_lr=0.002" in text
    assert "The checkpoint after epoch 1 is kept, but other settings train from the beginning" in text
    assert "The same command fails again in the same way (a setting train.… is typed as training.train.…)" in text
    assert all(torch.isfinite(v).all() for v in weights(module).values())


def test_nan_in_the_first_epoch_promises_no_checkpoint(tmp_path: Path) -> None:
    settings = train_settings(precision="bfloat16")
    module = Toy(settings)
    module.poison_step = 0
    with pytest.raises(
        TrainingError, match=r"epoch 1 of 3, step 1 of 9 .*precision bfloat16.*train.precision=float32$"
    ):
        fit(module, images(), out=tmp_path, seed=3, engine=engine())


def test_bfloat16_trains(tmp_path: Path) -> None:
    module = trained(tmp_path, precision="bfloat16")
    assert all(v.dtype == torch.float32 and torch.isfinite(v).all() for v in weights(module).values())


def test_float16_on_the_cpu_is_refused(tmp_path: Path) -> None:
    with refused(ConfigError, "train.precision = 'float16'", "a GPU", "float32 or bfloat16"):
        trained(tmp_path, precision="float16")


def test_no_images_is_an_error(tmp_path: Path) -> None:
    with refused(DataError, "training:", "no images to train on"):
        trained(tmp_path, n=0)


def test_fabric_says_nothing(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    recwarn: pytest.WarningsRecorder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(LOG, "handlers", [])  # one of the command line's, whose stream is closed by now
    trained(tmp_path)
    out, err = capfd.readouterr()
    assert out + err == ""
    assert [str(w.message) for w in recwarn.list] == []


def test_one_process_within_a_slurm_job_trains_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fabric would take the tasks of the job for processes of the training and wait for them."""
    alone = trained(tmp_path / "alone", epochs=1)
    for name, value in {
        "NTASKS": 2,
        "NNODES": 1,
        "JOB_ID": 7,
        "JOB_NAME": "j",
        "PROCID": 0,
        "LOCALID": 0,
        "NODEID": 0,
    }.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    assert equal(trained(tmp_path / "job", epochs=1), alone)


def test_full_disk_leaves_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(state: dict[str, Any], stream: Any) -> None:
        save(state, stream)
        if state["epoch"] == 2:
            monkeypatch.setattr(Path, "write_bytes", no_room)

    def no_room(path: Path, content: bytes) -> None:
        path.touch()
        raise OSError(28, "No space left on device")

    save = torch.save
    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(StageError, match="No space left on device"):
        trained(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [CHECKPOINT]
    assert torch.load(tmp_path / CHECKPOINT, weights_only=True)["epoch"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("kill", ["7", "save"], ids=["in a step", "while a checkpoint is written"])
def test_killed_and_run_again_equals_uninterrupted(tmp_path: Path, kill: str) -> None:
    command = [sys.executable, "-m", "tests.training.toy", str(tmp_path / "cut"), "1"]
    first = subprocess.run([*command, kill], cwd=ROOT, check=False, capture_output=True)
    assert first.returncode == -signal.SIGKILL
    second = subprocess.run([*command, "never"], cwd=ROOT, check=False, capture_output=True, text=True)
    assert second.returncode == 0, second.stderr
    whole = weights(trained(tmp_path / "whole"))
    found = load_file(tmp_path / "cut" / "toy.safetensors")
    assert found.keys() == whole.keys()
    assert all(torch.equal(found[k], whole[k]) for k in whole)
