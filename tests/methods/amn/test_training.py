"""AMN is trained: it learns, resumes, shares work, and says what is wrong with its seeds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tag2mask.backbones.files import WEIGHTS, save_network
from tag2mask.core.errors import ConfigError, DataError, TrainingError, WeightsError
from tag2mask.core.types import Sample
from tag2mask.data.base import Labels
from tag2mask.data.transforms import TrainTransform
from tag2mask.inference.runner import image_tensor
from tag2mask.methods.amn import training as train_module
from tag2mask.methods.amn.network import build_amn, load_amn
from tag2mask.methods.amn.training import begin_with, train_amn
from tag2mask.training.images import tag_vector
from tag2mask.training.label_images import LabelImages, LabelsOf, at_grid
from tag2mask.training.losses import pixel_loss
from tests.backbones.make import network
from tests.helpers.refused import lacking, refused
from tests.methods.amn import drawn as amn_drawn
from tests.methods.amn.drawn import settings
from tests.methods.irn.drawn import SIZE, data, seeds
from tests.training.toy import HALF, Drawn, engine

ROOT = Path(__file__).resolve().parents[3]


def train(
    out: Path, images: Drawn | None = None, labels: LabelsOf = seeds, seed: int = 0, **values: Any
) -> dict[str, Tensor]:
    train_amn(data() if images is None else images, labels, settings(**values), out=out, seed=seed, engine=engine())
    return load_file(out / WEIGHTS)


@pytest.mark.parametrize("condition", [[4], []], ids=["conditioned", "plain"])
def test_it_learns_the_classes_of_pixels(tmp_path: Path, condition: list[int]) -> None:
    """The arg max finds the bright quarters; told the tags of other classes, the conditioned network does not."""
    images = data([(0,), (1,), (0, 1), (2,)] * 2)
    schedule = {"epochs": 30, "batch_size": 8, "accumulate": 1, "lr": 3e-3, "head_lr": 1e-2}
    train(tmp_path, images, train={**schedule, "rescale": (1, 1), "crop": 80}, condition=condition)
    net, classes = load_amn(tmp_path / WEIGHTS)
    assert classes == images.classes
    for sample in images.samples[:4]:
        tags, truth = tag_vector(sample, 3)[None], at_grid(torch.from_numpy(seeds(sample)), 8, 10)
        image = image_tensor(images.image(sample), SIZE, net.mean, net.std)[None]
        with torch.no_grad():
            told, misled = (net(image, t)[0].argmax(0) for t in (tags, 1 - tags))
        assert (told == truth)[truth != 255].float().mean() > 0.95
        if condition:
            assert not torch.isin(misled, torch.tensor(sample.tags) + 1).all()
            assert (misled == truth)[(truth > 0) & (truth != 255)].float().mean() < 0.5


def test_everything_moves_but_frozen_statistics(tmp_path: Path) -> None:
    torch.manual_seed(0)
    fresh = build_amn(settings(), 3).state_dict()
    trained = train(tmp_path, train={"lr": 1e-3})
    assert sorted(p.name for p in tmp_path.iterdir()) == [WEIGHTS]
    kept = {k for k, v in trained.items() if torch.equal(v, fresh[k])}
    assert kept == {k for k in trained if "running" in k or "num_batches" in k}


def test_rates_are_those_of_backbone_and_head_and_constant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    step = torch.optim.Adam.step

    def noted(self: torch.optim.Adam, *arguments: Any, **options: Any) -> Any:
        seen.append([(g["lr"], g["weight_decay"], len(g["params"])) for g in self.param_groups])
        return step(self, *arguments, **options)

    monkeypatch.setattr(torch.optim.Adam, "step", noted)
    train(tmp_path)
    body = len(list(build_amn(settings(), 3).body.parameters()))
    assert seen == [[(5e-6, 1e-4, body), (1e-4, 1e-4, 2 + 8)]] * 4


def test_same_seed_same_file_other_seed_other(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(tmp_path / name, seed=seed)
    a, b, c = ((tmp_path / name / WEIGHTS).read_bytes() for name in "abc")
    assert a == b != c


def test_interrupted_training_resumes_to_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(tmp_path / "whole", train={"epochs": 3})
    calls = iter(range(100))

    def failing(*arguments: Any) -> Tensor:
        return pixel_loss(*arguments) * (float("nan") if torch.is_grad_enabled() and next(calls) == 7 else 1)

    monkeypatch.setattr(train_module, "pixel_loss", failing)
    with pytest.raises(TrainingError) as caught:
        train(tmp_path / "cut", train={"epochs": 3})
    assert not lacking(
        caught.value, "loss is nan … epoch 2 of 3, step 4 of 6 … learning rates 5e-06, 0.0001; precision"
    )
    assert not lacking(caught.value, "train.lr=5e-07 train.head_lr=1e-05 … after epoch 1 is kept")
    train(tmp_path / "cut", train={"epochs": 3})
    assert (tmp_path / "cut" / WEIGHTS).read_bytes() == (tmp_path / "whole" / WEIGHTS).read_bytes()


def test_parts_of_a_batch_give_its_gradients(tmp_path: Path) -> None:
    """Unlike parts whose losses are averaged: the images' numbers of cells differ. Without dropout, with sgd."""
    states = [
        train(tmp_path / str(n), train={"accumulate": n, "epochs": 1, "optimiser": "sgd", "lr": 0.1}, dropout=0)
        for n in (1, 4)
    ]
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-4, atol=1e-6)


def test_one_class_trains(tmp_path: Path) -> None:
    images = Drawn([(0,), (), (0,), (0,)], n_classes=1, size=SIZE)
    state = train(tmp_path, images)
    assert state["head.convs.0.weight"].shape[0] == 2
    assert load_amn(tmp_path / WEIGHTS)[1] == ("class 0",)


def test_background_alone_trains(tmp_path: Path) -> None:
    """A batch without any foreground gives no NaN."""
    assert all(torch.isfinite(v).all() for v in train(tmp_path, data([(), (), (), ()])).values())


def test_items_are_crops_with_tags_and_labels_on_the_grid() -> None:
    images = data()
    transform = TrainTransform(96, HALF, HALF, flip=0)
    items = LabelImages(images, images.samples, seeds, transform, 3, grid=(12, 12), tags=True)
    image, tags, labels = items[(1, 3)]
    assert (image.shape, labels.shape, labels.dtype) == ((3, 96, 96), (12, 12), torch.uint8)
    assert tags.tolist() == [1, 1, 0]
    reached = image.abs().sum(0) > 0
    top, left = int(reached.any(1).nonzero()[0]), int(reached.any(0).nonzero()[0])
    full = torch.full((96, 96), 255, dtype=torch.uint8)
    full[top : top + 64, left : left + 80] = torch.from_numpy(seeds(images.samples[3]))
    assert torch.equal(labels, full[4::8, 4::8])
    assert {0, 1, 2, 255} == set(labels.flatten().tolist())


def wrong(value: int, index: str = "003") -> LabelsOf:
    """The seeds, but one image's foreground has another label."""

    def give(sample: Sample) -> Labels:
        labels = seeds(sample)
        return np.where((labels > 0) & (labels < 255), value, labels).astype(np.uint8) if sample.id == index else labels

    return give


def test_label_above_the_class_list_names_the_image(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        train(tmp_path, labels=wrong(9))
    assert not lacking(caught.value, "image '003' hold 9, … 3 classes … expected 0 ")
    assert list(tmp_path.iterdir()) == []


def test_seeds_of_other_tags_name_both(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        train(tmp_path, labels=wrong(3))  # its tags are classes 0 and 1
    assert not lacking(caught.value, "image '003' show class 2, … tags are class 0, class 1 … no class in common")
    with refused(DataError, "image '007' show class 1", "tags are none"):
        train(tmp_path, labels=lambda sample: np.full(SIZE, 2, np.uint8) if sample.id == "007" else seeds(sample))


def test_seeds_of_another_size_name_the_image(tmp_path: Path) -> None:
    with refused(DataError, "image '00", "are 30 x 40 pixels", "image is 64 x"):
        train(tmp_path, labels=lambda _sample: np.zeros((30, 40), dtype=np.uint8))


def test_nothing_sure_is_an_error_with_advice(tmp_path: Path) -> None:
    with refused(DataError, "amn:", "all 8 images is ignored"):
        train(tmp_path, labels=lambda _sample: np.full(SIZE, 255, dtype=np.uint8))


def test_images_without_a_sure_pixel_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def some(sample: Sample) -> Labels:
        return np.full(SIZE, 255, dtype=np.uint8) if sample.id == "001" else seeds(sample)

    with caplog.at_level("WARNING", "tag2mask"):
        train(tmp_path, labels=some)
    assert "amn: 1 of 8 images are left out: every pixel of their labels is ignored" in caplog.text


@pytest.mark.parametrize(("negatives", "count"), [("keep", 8), ("drop", 7)])
def test_images_without_tags_take_part_or_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, negatives: str, count: int
) -> None:
    assert sum(not sample.tags for sample in data().samples) == 1
    with caplog.at_level("INFO", "tag2mask"):
        train(tmp_path, train={"epochs": 1}, negatives=negatives)
    assert f"amn: {count} images, 1 epochs" in caplog.text


def test_smoothing_for_too_few_classes_stops_before_the_training(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"smoothing = 0.6 .* expected less than 0.5"):
        train(tmp_path, Drawn([(0,)], n_classes=1, size=SIZE), smoothing=0.6)


@pytest.mark.slow
def test_the_backbone_begins_with_the_weights_of_a_classifier(tmp_path: Path) -> None:
    given = network(seed=5, stride=8)
    save_network(given, tmp_path / "classifier.safetensors", ["x", "y", "z"])
    net = build_amn(settings(), 3)
    head = {name: value.clone() for name, value in net.head.state_dict().items()}
    begin_with(net, tmp_path / "classifier.safetensors")
    own = given.body.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in net.body.state_dict().items())
    assert all(torch.equal(value, head[name]) for name, value in net.head.state_dict().items())
    for first in (None, tmp_path / "classifier.safetensors"):
        train_amn(
            data(), seeds, settings(train={"lr": 1e-9, "head_lr": 1e-9}), out=tmp_path / str(first is None), seed=0,
            engine=engine(), first=first,
        )  # fmt: skip
        trained, _ = load_amn(tmp_path / str(first is None) / WEIGHTS)
        near = [torch.allclose(v, own[n], atol=1e-5) for n, v in trained.body.state_dict().items() if "conv" in n]
        assert all(near) == (first is not None)


def test_a_classifier_of_another_network_is_refused_by_what_differs(tmp_path: Path) -> None:
    save_network(network(stride=16), tmp_path / "classifier.safetensors", ["x", "y", "z"])
    with refused(WeightsError, "classifier.safetensors", "backbone.stride = 16, of AMN 8", "reads.first"):
        begin_with(build_amn(settings(), 3), tmp_path / "classifier.safetensors")


def test_two_processes_train_the_same_network(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["-m", "tests.methods.amn.drawn", str(tmp_path / "two")]
    result = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=240)
    assert result.returncode == 0, result.stderr
    assert "stride" not in result.stderr, "gradients are copied into another layout at each step"
    amn_drawn.main(tmp_path / "one")
    for parts in ("2", "4"):  # Adam divides by the gradient's size, which makes much of a last bit
        one, two = (load_file(tmp_path / name / parts / WEIGHTS) for name in ("one", "two"))
        assert one.keys() == two.keys()
        for key, value in one.items():
            torch.testing.assert_close(two[key], value, rtol=1e-5, atol=2e-6, msg=key)
        assert [p.name for p in (tmp_path / "two" / parts).iterdir()] == [WEIGHTS]
