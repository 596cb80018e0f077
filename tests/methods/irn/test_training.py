"""The boundary branch is trained: it learns, resumes, shares work, and says what is wrong with its seeds."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tag2mask.backbones.files import WEIGHTS
from tag2mask.config.settings import validate
from tag2mask.core.errors import ConfigError, DataError, StageError, TrainingError
from tag2mask.core.types import Sample
from tag2mask.data.base import Labels
from tag2mask.data.transforms import TrainTransform
from tag2mask.inference.runner import image_tensor
from tag2mask.methods.irn import training as train_module
from tag2mask.methods.irn.affinity import boundary_loss
from tag2mask.methods.irn.network import BoundaryNet, boundary_map, build_boundary, load_boundary
from tag2mask.methods.irn.settings import IrnSettings, WalkSettings
from tag2mask.methods.irn.training import train_boundary
from tag2mask.training.label_images import LabelImages, LabelsOf
from tests.helpers.refused import lacking, refused
from tests.methods.irn import drawn as irn_drawn
from tests.methods.irn.drawn import SIZE, data, seeds, settings
from tests.training.toy import HALF, Drawn, engine

ROOT = Path(__file__).resolve().parents[3]


def train(
    out: Path, images: Drawn | None = None, labels: LabelsOf = seeds, seed: int = 0, **values: Any
) -> BoundaryNet:
    train_boundary(
        data() if images is None else images, labels, settings(**values), out=out, seed=seed, engine=engine()
    )
    return load_boundary(out / WEIGHTS)


def unsure(_sample: Sample) -> Labels:
    return np.full(SIZE, 255, dtype=np.uint8)


def edges(net: BoundaryNet, images: Drawn) -> Tensor:
    """Boundary maps (N, h, w) of whole images."""
    found = []
    for sample in images.samples:
        image = images.image(sample)
        with torch.no_grad():
            found.append(boundary_map(net, image_tensor(image, (image.height, image.width), net.mean, net.std)))
    return torch.stack(found)


def whole_loss(edge: Tensor, images: Drawn) -> float:
    labels = torch.stack([torch.from_numpy(seeds(s))[2::4, 2::4] for s in images.samples])
    return boundary_loss(edge, labels, 4).item()


def test_it_learns_where_the_boundaries_are(tmp_path: Path) -> None:
    """On ImageNet features: an edge at the border of a bright quarter, next to none within it and far from it."""
    images = data([(0,), (1,), (0, 1), (2,)] * 2)
    schedule = {"epochs": 20, "batch_size": 8, "lr": 0.5, "rescale": (1, 1), "crop": 64}
    values = validate(IrnSettings, {"train": schedule, "radius": 4}, "irn")
    torch.manual_seed(0)
    before = edges(build_boundary(values.backbone).eval(), images)
    train_boundary(images, seeds, values, out=tmp_path, seed=0, engine=engine())
    after = edges(load_boundary(tmp_path / WEIGHTS), images)
    assert whole_loss(after, images) < 0.6 * whole_loss(before, images)
    first = after[0, 2:6]  # class 0 is the upper left quarter: rows 0 to 7 and columns 0 to 9 of 16 x 20 cells
    border, inside, outside = first[:, 9:11].amax(1), first[:, 2:8], first[:, 13:18]
    assert border.min() > 0.3
    assert max(inside.mean(), outside.mean()) < 0.1
    assert border.mean() > 5 * max(inside.mean(), outside.mean())


def test_backbone_is_left_bit_for_bit_and_the_whole_branch_moves(tmp_path: Path) -> None:
    torch.manual_seed(0)
    fresh = build_boundary(settings().backbone).state_dict()
    trained = train(tmp_path).state_dict()
    assert sorted(p.name for p in tmp_path.iterdir()) == [WEIGHTS]
    assert all(torch.equal(v, fresh[k]) for k, v in trained.items() if k.startswith("body."))
    assert all(not torch.equal(v, fresh[k]) for k, v in trained.items() if not k.startswith("body."))


def test_same_seed_same_file_other_seed_other(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(tmp_path / name, seed=seed)
    a, b, c = ((tmp_path / name / WEIGHTS).read_bytes() for name in "abc")
    assert a == b != c


def test_interrupted_training_resumes_to_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(tmp_path / "whole", epochs=3)
    calls = iter(range(100))

    def failing(*arguments: Any) -> Tensor:
        return boundary_loss(*arguments) * (float("nan") if torch.is_grad_enabled() and next(calls) == 7 else 1)

    monkeypatch.setattr(train_module, "boundary_loss", failing)
    with pytest.raises(TrainingError) as caught:
        train(tmp_path / "cut", epochs=3)
    assert not lacking(caught.value, "loss is nan … epoch 2 of 3, step 4 of 6 … train.lr=0.01 … after epoch 1 is kept")
    assert not (tmp_path / "cut" / WEIGHTS).exists()
    train(tmp_path / "cut", epochs=3)
    assert next(calls) == 8 + 8, "four steps of two parts after the first epoch"
    assert (tmp_path / "cut" / WEIGHTS).read_bytes() == (tmp_path / "whole" / WEIGHTS).read_bytes()


def test_parts_of_a_batch_give_its_gradients(tmp_path: Path) -> None:
    """Unlike parts whose losses are averaged: the images' numbers of pairs differ."""
    states = []
    for accumulate in (1, 4):
        train(tmp_path / str(accumulate), accumulate=accumulate, epochs=1)
        states.append(load_file(tmp_path / str(accumulate) / WEIGHTS))
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-4, atol=1e-6)


def test_rate_falls_to_zero_as_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = []
    step = torch.optim.SGD.step

    def noted(self: torch.optim.SGD, *arguments: Any, **options: Any) -> Any:
        (group,) = self.param_groups
        rates.append(group["lr"])
        assert (group["weight_decay"], group["momentum"]) == (1e-4, 0.0)
        return step(self, *arguments, **options)

    monkeypatch.setattr(torch.optim.SGD, "step", noted)
    train(tmp_path)
    assert rates == pytest.approx([0.1 * (1 - t / 4) ** 0.9 for t in range(4)], rel=1e-12)


def test_images_without_a_sure_pixel_are_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def some(sample: Sample) -> Labels:
        return unsure(sample) if sample.id in {"001", "004", "007"} else seeds(sample)

    with caplog.at_level("WARNING", "tag2mask"):
        train(tmp_path / "all", labels=some)
    assert "irn: 3 of 8 images are left out: every pixel of their labels is ignored" in caplog.text
    kept = data()
    kept.samples = [s for s in kept.samples if s.id not in {"001", "004", "007"}]
    train(tmp_path / "kept", kept)
    assert (tmp_path / "all" / WEIGHTS).read_bytes() == (tmp_path / "kept" / WEIGHTS).read_bytes()


def test_nothing_sure_is_an_error_with_advice(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        train(tmp_path, labels=unsure)
    text = str(caught.value)
    assert "irn: every pixel of the labels of all 8 images is ignored" in text
    assert "bring these together (lower 'foreground' and raise 'background', or lower 'margin')" in text
    assert list(tmp_path.iterdir()) == []


def test_background_alone_trains(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING", "tag2mask"):
        net = train(tmp_path, data([(), (), ()]))
    assert caplog.text == ""
    assert edges(net, data([()])).mean() < 0.5, "all pairs are alike, so edges fall"


def test_no_images_is_an_error(tmp_path: Path) -> None:
    empty = data()
    empty.samples = []
    with refused(DataError, "irn:", "no images to train on"):
        train(tmp_path, empty)


def test_seeds_of_another_size_name_the_image(tmp_path: Path) -> None:
    with refused(DataError, "image '00", "are 30 x 40 pixels", "image is 64 x"):
        train(tmp_path, labels=lambda _sample: np.zeros((30, 40), dtype=np.uint8))


def test_items_are_crops_with_their_labels_at_stride_4() -> None:
    """Without augmentation to a crop larger than the image: the rest is mean colour and unsure."""
    images = data()
    items = LabelImages(images, images.samples, seeds, TrainTransform(96, HALF, HALF, flip=0), 3, grid=(24, 24))
    image, labels = items[(1, 3)]
    assert image.shape == (3, 96, 96)
    assert (labels.shape, labels.dtype) == ((24, 24), torch.uint8)
    reached = image.abs().sum(0) > 0
    rows, columns = reached.any(1).nonzero()[:, 0], reached.any(0).nonzero()[:, 0]
    top, left = int(rows[0]), int(columns[0])
    full = torch.full((96, 96), 255, dtype=torch.uint8)
    full[top : top + 64, left : left + 80] = torch.from_numpy(seeds(images.samples[3]))
    assert torch.equal(labels, full[2::4, 2::4])
    assert {0, 1, 2, 255} == set(labels.flatten().tolist())
    assert torch.equal(items[(1, 3)][0], image)
    assert not torch.equal(items[(2, 3)][0], image)


def test_defaults_are_the_published() -> None:
    s = IrnSettings()
    assert (s.train.epochs, s.train.batch_size, s.train.optimiser, s.train.lr) == (3, 32, "sgd", 0.1)
    assert (s.train.weight_decay, s.train.momentum, s.train.schedule, s.train.poly_power) == (1e-4, 0.0, "poly", 0.9)
    assert (s.train.rescale, s.train.crop, s.radius, s.checkpoint) == ((0.5, 1.5), 512, 10, None)
    w = WalkSettings()
    assert (w.radius, w.beta, w.log2_steps, w.power, w.mirror) == (5, 10, 8, 1.0, True)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"train": {"crop": 50}}, "crop = 50: expected a multiple of 4"),
        (
            {"train": {"crop": 72}},
            "train.crop = 72 … radius = 10 … at least 76",
        ),
        ({"train": {"rescale": [1.5, 0.5]}}, "rescale = [1.5, 0.5] … [smallest, largest] … both above 0"),
        ({"train": {"batch_size": 6}}, "batch_size = 6 … accumulate = 4 parts"),
        ({"train": {"head_lr": 1}}, "unknown setting 'irn.train.head_lr'"),
        (
            {"checkpoint": "a.pth"},
            "checkpoint = a.pth … network resnet50_irn … backbone.name = efficientnet",
        ),
        ({"radius": 1}, "setting 'irn.radius' = 1"),
    ],
)
def test_settings_that_make_no_sense(values: dict[str, Any], text: str) -> None:
    with refused(ConfigError, text):
        validate(IrnSettings, values, "irn")


def test_no_room_on_the_disk_is_said_beforehand(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "tag2mask"):
        train(tmp_path)
    assert "irn: 8 images, 2 epochs; at most 1 MB on disk while it trains, 1 MB after" in caplog.text
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda _path: type("Usage", (), {"free": 1000})())
        with refused(StageError, "irn needs about 1 MB", "1 MB are free"):
            train(tmp_path / "full")


@pytest.mark.slow
def test_two_processes_train_the_same_network(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["-m", "tests.methods.irn.drawn", str(tmp_path / "two")]
    result = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=240)
    assert result.returncode == 0, result.stderr
    assert "stride" not in result.stderr, "gradients are copied into another layout at each step"
    irn_drawn.main(tmp_path / "one")
    for parts, equal in (
        ("2", torch.equal),
        ("4", torch.allclose),
    ):  # of two parts a process sums are rounded otherwise
        one, two = (load_file(tmp_path / name / parts / WEIGHTS) for name in ("one", "two"))
        assert one.keys() == two.keys()
        assert all(equal(one[k], two[k]) for k in one)
        assert [p.name for p in (tmp_path / "two" / parts).iterdir()] == [WEIGHTS]
