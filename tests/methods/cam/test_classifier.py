"""The classifier on tags: its files, its average precision, and the data sets that break others."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import average_precision_score

from tag2mask.backbones.build import build_network
from tag2mask.backbones.files import METRICS_JSON, WEIGHTS, load_network
from tag2mask.backbones.settings import BackboneSettings
from tag2mask.config.settings import validate
from tag2mask.core.errors import DataError, TrainingError
from tag2mask.core.types import Sample
from tag2mask.methods.cam import training
from tag2mask.methods.cam import training as training_module
from tag2mask.methods.cam.classifier import (
    average_precision,
    binary_average_precision,
    mean_precision,
)
from tag2mask.methods.cam.kinds import ClassifierSettings
from tag2mask.methods.cam.training import held_out_loss, train_classifier
from tag2mask.training.losses import multilabel_soft_margin
from tests.helpers.refused import refused
from tests.methods.cam import drawn as train_drawn
from tests.training.toy import Drawn, engine

ROOT = Path(__file__).resolve().parents[3]

TAGS: list[tuple[int, ...]] = [(0,), (1,), (2,), (0, 1), (1, 2), (0, 2), (0, 1, 2), ()]


def settings(negatives: str = "keep", **train: Any) -> ClassifierSettings:
    """A tiny network, two short epochs."""
    schedule = {"epochs": 2, "batch_size": 4, "long_side": (40, 56), "crop": 48, **train}
    backbone = {"name": "test_efficientnet", "weights": "none"}
    values = {"backbone": backbone, "train": schedule, "negatives": negatives}
    return validate(ClassifierSettings, values, "classifier")


def train(out: Path, data: Drawn, val: Drawn | None = None, seed: int = 0, **values: Any) -> dict[str, float | None]:
    train_classifier(data, settings(**values), out=out, seed=seed, engine=engine())
    return average_precision(out, val, engine()) if val else {}


def head(folder: Path) -> torch.Tensor:
    return load_network(folder / WEIGHTS)[0].class_weights().detach()


def slow_logits(folder: Path, data: Drawn, long_side: int) -> np.ndarray[Any, Any]:
    """Logits of whole images, in plain steps."""
    net, _ = load_network(folder / WEIGHTS)
    rows = []
    for sample in data.samples:
        image = data.image(sample)
        factor = long_side / max(image.size)
        size = (round(image.width * factor), round(image.height * factor))
        values = np.asarray(image.resize(size, Image.Resampling.BICUBIC), dtype=np.float32) / 255
        values = (values - np.asarray(net.mean, np.float32)) / np.asarray(net.std, np.float32)
        with torch.no_grad():
            rows.append(net(torch.from_numpy(values).permute(2, 0, 1)[None])[0].numpy())
    return np.stack(rows)


def test_writes_weights_and_metrics_and_nothing_else(tmp_path: Path) -> None:
    data = Drawn(TAGS)
    train(tmp_path, data)
    assert sorted(p.name for p in tmp_path.iterdir()) == [METRICS_JSON, WEIGHTS]
    net, classes = load_network(tmp_path / WEIGHTS)
    assert classes == data.classes
    assert net.trained == (True, True, True)
    about = json.loads((tmp_path / METRICS_JSON).read_text())
    assert about == {
        "classes": list(classes), "trained": [True] * 3, "long_side": 48, "average_precision": None, "left_out": [],
    }  # fmt: skip


def test_average_precision_is_scikit_learns(tmp_path: Path) -> None:
    val = Drawn([*TAGS, (1,), (2,), (0,), ()], size=(52, 40))
    result = train(tmp_path, Drawn(TAGS), val)
    scores = slow_logits(tmp_path, val, 48)
    truth = np.array([[c in s.tags for c in range(3)] for s in val.samples])
    expected = [100 * average_precision_score(truth[:, c], scores[:, c]) for c in range(3)]
    assert list(result.values()) == pytest.approx(expected, abs=1e-4)
    assert mean_precision(result) == pytest.approx(np.mean(expected), abs=1e-4)


def test_average_precision_is_torchmetrics_bit_for_bit() -> None:
    from torchmetrics.functional.classification import binary_average_precision as oracle

    generator = torch.Generator().manual_seed(0)
    for n in (1, 2, 7, 100, 1000):
        for levels in (1, 3, 10**6):
            scores = torch.randint(levels, (n,), generator=generator).double() / levels
            tags = (torch.rand(n, generator=generator) < 0.4).long()
            tags[0] = 1
            assert binary_average_precision(scores, tags).item() == oracle(scores, tags).item()


def test_it_learns(tmp_path: Path) -> None:
    data = Drawn(TAGS * 4)
    schedule: dict[str, Any] = {"epochs": 6, "batch_size": 8, "lr": 3e-3, "head_lr": 3e-2}
    scores = train(tmp_path, data, data, **schedule)
    mean = mean_precision(scores)
    assert mean is not None
    assert mean > 75


def test_classes_without_held_out_image_are_left_out(tmp_path: Path) -> None:
    scores = train(tmp_path, Drawn(TAGS), Drawn([(0,), (0, 2), ()]))
    assert scores["class 1"] is None
    first, third = scores["class 0"], scores["class 2"]
    assert first is not None
    assert third is not None
    assert mean_precision(scores) == pytest.approx((first + third) / 2)


def test_classes_without_training_image_are_masked_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = Drawn([(0,), (2,), (0, 2), (2,)], n_classes=4)
    with caplog.at_level("WARNING", "tag2mask"):
        result = train(tmp_path, data, Drawn([(0,), (1,), (2,)], n_classes=4), weight_decay=0)
    assert (
        "2 of 4 classes have no image in split 'train' and are left out of the training: class 1, class 3"
        in caplog.text
    )
    assert load_network(tmp_path / WEIGHTS)[0].trained == (True, False, True, False)
    assert [name for name, value in result.items() if value is None] == ["class 1", "class 3"]
    torch.manual_seed(0)
    fresh = build_network(settings().backbone, 4).class_weights()
    moved = (head(tmp_path) != fresh).any(dim=1)
    assert moved.tolist() == [True, False, True, False]


def test_same_seed_same_file_other_seed_other(tmp_path: Path) -> None:
    files = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(tmp_path / name, Drawn(TAGS), seed=seed)
        files.append((tmp_path / name / WEIGHTS).read_bytes())
    assert files[0] == files[1] != files[2]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_interrupted_training_resumes_to_the_same_file(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tmp_path / "whole", Drawn(TAGS), epochs=3, precision=precision)
    loss = multilabel_soft_margin
    calls = iter(range(100))

    def failing(*arguments: Any) -> torch.Tensor:
        return loss(*arguments) * (float("inf") if torch.is_grad_enabled() and next(calls) == 3 else 1)

    monkeypatch.setattr(training_module, "multilabel_soft_margin", failing)
    with refused(TrainingError, "the loss is inf", "epoch 2 of 3"):
        train(tmp_path / "cut", Drawn(TAGS), epochs=3, precision=precision)
    assert not (tmp_path / "cut" / WEIGHTS).exists()
    train(tmp_path / "cut", Drawn(TAGS), epochs=3, precision=precision)
    assert next(calls) < 3 + 1 + 4 + 1  # two steps of epoch 1 were not made again
    assert (tmp_path / "cut" / WEIGHTS).read_bytes() == (tmp_path / "whole" / WEIGHTS).read_bytes()


def test_images_without_tags_are_kept_or_dropped(tmp_path: Path) -> None:
    with_negatives = Drawn([(0,), (1,), (2,), (0, 1), (), (), (), ()])
    without = Drawn([(0,), (1,), (2,), (0, 1)])
    for name, data, negatives in (
        ("kept", with_negatives, "keep"),
        ("dropped", with_negatives, "drop"),
        ("none", without, "keep"),
    ):
        train(tmp_path / name, data, negatives=negatives)
    kept, dropped, none = ((tmp_path / n / WEIGHTS).read_bytes() for n in ("kept", "dropped", "none"))
    assert dropped == none != kept


@pytest.mark.parametrize(
    "data",
    [
        Drawn([(1,)]),
        Drawn([(0,), (0,)], n_classes=1),
        Drawn([(0,)], n_classes=1, size=(1, 30)),
        Drawn([(0,), (1, 2), ()]),
    ],
    ids=["one image", "one class", "one row of pixels", "fewer than a batch"],
)
def test_small_data_sets_train(tmp_path: Path, data: Drawn) -> None:
    result = train(tmp_path, data, data)
    assert torch.isfinite(head(tmp_path)).all()
    precision = mean_precision(result)
    assert precision is not None
    assert 0 < precision <= 100


@pytest.mark.parametrize("tags", [[], [(), ()]], ids=["no image", "no tag"])
def test_nothing_to_learn_is_an_error(tmp_path: Path, tags: list[tuple[int, ...]]) -> None:
    with refused(DataError, "split 'train' has a tag", "nothing to learn"):
        train(tmp_path, Drawn(tags))


def test_held_out_split_of_other_classes_is_refused(tmp_path: Path) -> None:
    train(tmp_path, Drawn(TAGS))
    with refused(DataError, "split 'train' has the classes ['class 0'],", "was trained on ['class 0', 'class 1'"):
        average_precision(tmp_path, Drawn([(0,)], n_classes=1), engine())


def test_no_held_out_image_of_any_class_gives_no_mean(tmp_path: Path) -> None:
    result = train(tmp_path, Drawn(TAGS), Drawn([(), ()]))
    assert result == {"class 0": None, "class 1": None, "class 2": None}


def test_defaults_are_the_light_schedule_on_the_bundled_network() -> None:
    defaults = ClassifierSettings()
    assert defaults.backbone == BackboneSettings()
    assert (defaults.backbone.name, defaults.backbone.stride, defaults.backbone.weights) == (
        "efficientnet_lite0",
        None,
        "bundled",
    )
    assert (defaults.train.epochs, defaults.negatives) == (6, "keep")


def test_few_images_train_as_many_steps_as_are_the_least(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        train(tmp_path, Drawn(TAGS), min_steps=7)
    assert "8 images, 4 epochs" in caplog.text


def test_a_training_ends_by_images_held_out_which_do_not_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    looked: list[set[str]] = []

    def noted(net: Any, dataset: Drawn, samples: Any, long_side: int) -> float:
        looked.append({s.id for s in samples})
        assert long_side == 48
        return held_out_loss(net, dataset, samples, long_side)

    monkeypatch.setattr(training, "held_out_loss", noted)
    stop = {"held_out": 0.25, "every": 1, "patience": 2, "gain": 0.9, "decay": 0.5, "most_steps": 99}
    with caplog.at_level("INFO"):
        train(tmp_path, Drawn(TAGS), stop=stop)
    assert len(looked) == 3, "a loss, and two that are no tenth of it"
    assert {len(ids) for ids in looked} == {2}
    assert "after 3 epochs the rates fall to 0, by epoch 5" in caplog.text
    assert "6 images" in caplog.text


def test_the_held_out_loss_is_that_of_the_training_on_whole_images(tmp_path: Path) -> None:
    data = Drawn(TAGS)
    train(tmp_path, data)
    net, _ = load_network(tmp_path / WEIGHTS)
    logits = torch.from_numpy(slow_logits(tmp_path, data, 48))
    tags = torch.tensor([[float(c in s.tags) for c in range(3)] for s in data.samples])
    expected = float(multilabel_soft_margin(logits, tags))
    assert held_out_loss(net, data, data.samples, 48) == pytest.approx(expected, rel=1e-4)


def test_one_image_a_class_trains_its_epochs_and_says_why(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train(tmp_path, Drawn([(0,), (1,), (2,)]), stop={"held_out": 0.5})
    assert "train.stop" in caplog.text
    assert "train.min_steps" in caplog.text
    assert load_network(tmp_path / WEIGHTS)[0].trained == (True, True, True)


class Alike(Drawn):
    """The same grey square again and again, of a few pixels a side."""

    def image(self, sample: Sample) -> Image.Image:
        return Image.new("RGB", self.size, "grey")


@pytest.mark.parametrize("kind", ["gap", "top-k", "lse"])
@pytest.mark.parametrize("size", [(40, 40), (3, 2)], ids=["alike", "smaller than the stride"])
def test_images_that_are_all_alike_or_tiny_train_without_an_error(
    tmp_path: Path, kind: str, size: tuple[int, int]
) -> None:
    data = Alike(TAGS, size=size)
    joined = {"levels": [4, 8, 16], "join_channels": 8, "name": "test_efficientnet", "weights": "none"}
    values = {"backbone": joined, "train": settings().train.model_dump(), "pooling": kind}
    train_classifier(data, validate(ClassifierSettings, values, "classifier"), out=tmp_path, seed=0, engine=engine())
    net, _ = load_network(tmp_path / WEIGHTS)
    assert all(bool(p.isfinite().all()) for p in net.parameters())
    found = average_precision(tmp_path, data, engine())
    assert found == pytest.approx({f"class {c}": 50.0 for c in range(3)}), "equal scores are one rank: 4 of 8"


@pytest.mark.slow
@pytest.mark.parametrize("stop", [False, True])
def test_two_processes_write_the_same_files(tmp_path: Path, stop: bool) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["-m", "tests.methods.cam.drawn", str(tmp_path / "two"), *(["stop"] if stop else [])]
    result = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=240)
    assert result.returncode == 0, result.stderr
    assert "stride" not in result.stderr, "gradients are copied into another layout at each step"
    train_drawn.main(tmp_path / "one", stop)
    for name in (METRICS_JSON, WEIGHTS):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert sorted(p.name for p in (tmp_path / "two").iterdir()) == [METRICS_JSON, WEIGHTS]
