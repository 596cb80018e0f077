"""A segmentation network is trained: it learns, resumes, shares work, and says what is wrong with its masks."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from tag2mask.backbones.files import WEIGHTS
from tag2mask.config.settings import validate
from tag2mask.core.errors import DataError, TrainingError
from tag2mask.core.types import Sample
from tag2mask.data.base import Labels
from tag2mask.segmentation import training as train_module
from tag2mask.segmentation.networks.factory import load_segmenter
from tag2mask.segmentation.settings import SegmentTrainSettings
from tag2mask.segmentation.training import output_counts, segment_rate, segmentation_loss, train_segmenter
from tag2mask.segmentation.training_data import SegmentTransform
from tag2mask.training.label_images import LabelImages, LabelsOf, at_grid
from tests.helpers.refused import lacking, refused
from tests.methods.irn.drawn import SIZE, data, seeds
from tests.segmentation import segment_drawn
from tests.segmentation.segment_drawn import build, settings
from tests.segmentation.toy_net import predict_labels
from tests.training.toy import HALF, Drawn, engine

ROOT = Path(__file__).resolve().parents[2]


def train(
    out: Path,
    images: Drawn | None = None,
    masks: LabelsOf = seeds,
    seed: int = 0,
    kind: str = "deeplabv2",
    **values: Any,
) -> dict[str, Tensor]:
    """Weights after a training; values are of its schedule."""
    train_segmenter(
        data() if images is None else images, masks, settings(kind, **values), out=out, seed=seed, engine=engine()
    )
    return load_file(out / WEIGHTS)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "epochs"), [("fpn", 20), ("deeplabv2", 40)])
def test_it_learns_the_labels_of_pixels(kind: str, epochs: int, tmp_path: Path) -> None:
    images = data([(0,), (1,), (0, 1), (2,)] * 2)
    schedule: dict[str, Any] = {"batch_size": 8, "accumulate": 1, "lr": 3e-3, "head_lr": 1e-2, "crop": 80}
    train(tmp_path, images, kind=kind, rescale=(1, 1), epochs=epochs, **schedule)
    net, classes = load_segmenter(tmp_path / WEIGHTS)
    assert classes == images.classes
    for sample in images.samples[:4]:
        found = predict_labels(net, np.array(images.image(sample)), net.mean, net.std)
        truth = seeds(sample)
        assert (found == truth)[truth != 255].mean() > 0.9


def test_items_are_crops_of_images_with_masks_and_padding_is_255_never_background() -> None:
    transform = SegmentTransform(settings(crop=100, rescale=(1, 1)).train, HALF, HALF)
    images = LabelImages(data(), data().samples, seeds, transform, 0)
    for index, sample in enumerate(data().samples):
        image, labels = images[(0, index)]
        mask = torch.from_numpy(seeds(sample))
        assert any(torch.equal(labels[:64, :80], side) for side in (mask, mask.flip(1)))
        assert (labels[64:] == 255).all()
        assert (labels[:, 80:] == 255).all()
        assert (image[:, 64:] == 0).all()
    again, other = images[(0, 3)], images[(7, 3)]
    assert torch.equal(again[0], images[(0, 3)][0])
    assert any(not torch.equal(images[(0, i)][0], images[(e, i)][0]) for e in (1, 2, 3) for i in range(4))
    assert other[0].shape == (3, 100, 100)


def test_everything_moves_but_frozen_batch_norms(tmp_path: Path) -> None:
    fresh = build().state_dict()
    trained = train(tmp_path, lr=1e-3)
    assert sorted(p.name for p in tmp_path.iterdir()) == [WEIGHTS]
    kept = {k for k, v in trained.items() if torch.equal(v, fresh[k])}
    assert kept == {k for k in trained if "bn" in k}


def test_same_seed_same_file_other_seed_other(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(tmp_path / name, seed=seed, kind="fpn", epochs=1, photometric=True, max_share=0.9)
    a, b, c = ((tmp_path / name / WEIGHTS).read_bytes() for name in "abc")
    assert a == b != c


@pytest.mark.parametrize("kind", ["fpn", "deeplabv2"])
def test_interrupted_training_resumes_to_the_same_file(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it ends within an epoch, and where batch norms learn."""
    values: dict[str, Any] = {"kind": kind, "iterations": 5, "warmup": 1, "hold": 2}
    train(tmp_path / "whole", **values)
    calls = iter(range(100))

    def failing(*arguments: Any) -> Tensor:
        return segmentation_loss(*arguments) * (float("nan") if torch.is_grad_enabled() and next(calls) == 7 else 1)

    monkeypatch.setattr(train_module, "segmentation_loss", failing)
    with pytest.raises(TrainingError) as caught:
        train(tmp_path / "cut", **values)
    assert not lacking(caught.value, "loss is nan … epoch 2 of 3, step 4 of 5 … after epoch 1 is kept")
    assert not (tmp_path / "cut" / WEIGHTS).exists()
    train(tmp_path / "cut", **values)
    assert next(calls) == 8 + 6, "three steps of two parts after the first epoch"
    assert (tmp_path / "cut" / WEIGHTS).read_bytes() == (tmp_path / "whole" / WEIGHTS).read_bytes()


def test_parts_of_a_batch_give_its_gradients(tmp_path: Path) -> None:
    """Unlike parts whose losses are averaged: the images' numbers of pixels differ."""
    states = [train(tmp_path / str(n), accumulate=n, epochs=1, optimiser="sgd", lr=0.1, balanced=True) for n in (1, 4)]
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-4, atol=1e-6)


def test_rates_of_the_groups_and_as_many_steps_as_iterations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    step = torch.optim.SGD.step

    def noted(self: torch.optim.SGD, *arguments: Any, **options: Any) -> Any:
        seen.append([(g["lr"], g["weight_decay"], g["momentum"]) for g in self.param_groups])
        return step(self, *arguments, **options)

    monkeypatch.setattr(torch.optim.SGD, "step", noted)
    train(tmp_path, iterations=3, hold=2, optimiser="sgd", momentum=0.9, weight_decay=5e-4, lr=2.5e-4, head_lr=2.5e-3)
    assert len(seen) == 3
    train(tmp_path / "one", iterations=1, optimiser="sgd")
    assert len(seen) == 4, "also where it ends within the first epoch"
    for number, groups in enumerate(seen[:3]):
        factor = (1 - (number - number % 2) / 3) ** 0.9
        rates = [rate for rate, *_ in groups]
        assert rates == pytest.approx([2.5e-4 * factor, 2.5e-3 * factor, 5e-3 * factor], rel=1e-12)
        assert [(decay, momentum) for _, decay, momentum in groups] == [(5e-4, 0.9), (5e-4, 0.9), (0, 0.9)]


def test_masks_without_a_sure_pixel_are_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def some(sample: Sample) -> Labels:
        return np.full(SIZE, 255, dtype=np.uint8) if sample.id in {"001", "004"} else seeds(sample)

    with caplog.at_level("INFO", "tag2mask"):
        train(tmp_path / "all", masks=some)
    assert "segmenter: 2 of 8 images are left out: every pixel of their labels is ignored" in caplog.text
    assert "segmenter: deeplabv2 on test_efficientnet, first weights: none" in caplog.text
    kept = data()
    kept.samples = [s for s in kept.samples if s.id not in {"001", "004"}]
    train(tmp_path / "kept", kept)
    assert (tmp_path / "all" / WEIGHTS).read_bytes() == (tmp_path / "kept" / WEIGHTS).read_bytes()


@pytest.mark.parametrize(
    ("mask", "text"),
    [
        (
            np.zeros((30, 40)),
            "the labels of image '00[0-7]' are 30 x 40 pixels, but the image is 64 x 80 (height x width)",
        ),
        (np.full(SIZE, 4), "the labels of image '000' hold 4, but the data has 3 classes"),
        (np.full(SIZE, 255), "segmenter: every pixel of the labels of all 8 images is ignored (255)"),
    ],
)
def test_masks_that_cannot_be_used(mask: np.ndarray, text: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=re.escape(text).replace(re.escape("00[0-7]"), "00[0-7]")):
        train(tmp_path, masks=lambda _sample: mask.astype(np.uint8))
    assert not (tmp_path / WEIGHTS).exists()


def test_no_images_is_an_error(tmp_path: Path) -> None:
    empty = data()
    empty.samples = []
    with refused(DataError, "segmenter:", "no images to train on"):
        train(tmp_path, empty)


def test_background_alone_trains(tmp_path: Path) -> None:
    train(tmp_path, data([(), (), ()]), balanced=True)


@pytest.mark.slow
def test_two_processes_train_the_same_network(tmp_path: Path) -> None:
    """Of networks without batch norms that learn, or whose statistics stay; the other one says that it depends."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["-m", "tests.segmentation.segment_drawn", str(tmp_path / "two")]
    result = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=240)
    assert result.returncode == 0, result.stderr
    segment_drawn.main(tmp_path / "one")
    one, two = (load_file(tmp_path / name / "deeplabv2" / WEIGHTS) for name in ("one", "two"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[k], two[k]) for k in one)


def test_rates_are_set_anew_every_ten_steps_as_published() -> None:
    settings = validate(SegmentTrainSettings, {"hold": 10, "poly_power": 0.9}, "train")
    factor = segment_rate(settings, 20_000)
    assert [factor(step) for step in (0, 9)] == [1, 1]
    assert factor(10) == factor(19) == pytest.approx((1 - 10 / 20_000) ** 0.9, rel=1e-12)
    assert factor(19_999) == pytest.approx((10 / 20_000) ** 0.9, rel=1e-12)


def test_warm_up_rises_from_a_millionth_and_meets_the_linear_decay() -> None:
    settings = validate(SegmentTrainSettings, {"warmup": 1500, "poly_power": 1.0}, "train")
    factor = segment_rate(settings, 40_000)
    assert factor(0) == pytest.approx(1e-6, rel=1e-9)
    assert factor(750) == pytest.approx((1 - 750 / 40_000) * (0.5 + 0.5e-6), rel=1e-12)
    assert factor(1500) == pytest.approx(1 - 1500 / 40_000, rel=1e-12)
    assert factor(39_999) == pytest.approx(1 / 40_000, rel=1e-9)
    rising = [factor(step) for step in range(1400)]
    assert rising == sorted(rising)


def test_constant_rates_do_not_fall() -> None:
    factor = segment_rate(validate(SegmentTrainSettings, {"schedule": "constant"}, "train"), 100)
    assert {factor(step) for step in range(100)} == {1.0}


@pytest.mark.parametrize(
    ("n", "drop_last", "epochs"),
    [(10_582, True, 19), (10_582, False, 19), (25, True, 10_000), (25, False, 6667), (3, True, 20_000)],
)
def test_iterations_become_epochs_that_hold_them(n: int, drop_last: bool, epochs: int) -> None:
    values = {"iterations": 20_000, "batch_size": 10, "accumulate": 2, "drop_last": drop_last}
    assert validate(SegmentTrainSettings, values, "train").for_images(n).epochs == epochs


def test_without_iterations_epochs_stay() -> None:
    settings = validate(SegmentTrainSettings, {"epochs": 5}, "train")
    assert settings.for_images(1000) is settings


@pytest.mark.parametrize(
    ("n", "values", "epochs"),
    [
        (60, {"min_steps": 400}, 134),  # three batches of 16 an epoch
        (60, {"min_steps": 400, "drop_last": False}, 100),
        (6000, {"min_steps": 400}, 6),
        (5, {"min_steps": 400}, 400),
        (60, {"min_steps": 400, "iterations": 30}, 10),
        (60, {"min_steps": 3}, 6),
    ],
)
def test_few_images_take_more_epochs_for_the_least_number_of_steps(n: int, values: dict[str, Any], epochs: int) -> None:
    settings = validate(SegmentTrainSettings, {"batch_size": 16, **values}, "train")
    assert settings.for_images(n).epochs == epochs
    assert settings.for_images(n).for_images(n).epochs == epochs


def drawn(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits (3, 4, 8, 6), and labels with padding in the second image, without foreground in the third."""
    torch.manual_seed(seed)
    labels = torch.randint(0, 4, (3, 8, 6)).to(torch.uint8)
    labels[1, 5:] = 255
    labels[2] = 0
    return torch.randn(3, 4, 8, 6), labels


def test_plain_loss_is_torchs_mean_over_pixels_that_are_not_255() -> None:
    logits, labels = drawn()
    expected = F.cross_entropy(logits, labels.long(), ignore_index=255)
    torch.testing.assert_close(segmentation_loss([(1.0, logits)], labels), expected)


def test_balanced_loss_is_the_mean_over_background_plus_the_mean_over_foreground() -> None:
    logits, labels = drawn()
    sides: dict[bool, list[float]] = {True: [], False: []}
    for n, y, x in np.ndindex(3, 8, 6):
        label = int(labels[n, y, x])
        if label != 255:
            scores = logits[n, :, y, x].tolist()
            sides[label == 0].append(math.log(sum(math.exp(s) for s in scores)) - scores[label])
    expected = sum(sum(terms) / len(terms) for terms in sides.values())
    assert segmentation_loss([(1.0, logits)], labels, balanced=True).item() == pytest.approx(expected, rel=1e-5)


def test_outputs_are_weighed_and_compared_with_labels_of_their_size() -> None:
    logits, labels = drawn()
    small = torch.randn(3, 4, 4, 3)
    less = torch.stack(
        [
            torch.from_numpy(np.array(Image.fromarray(one.numpy()).resize((3, 4), Image.Resampling.NEAREST)))
            for one in labels
        ]
    )
    expected = F.cross_entropy(logits, labels.long(), ignore_index=255)
    expected = expected + 0.4 * F.cross_entropy(small, less.long(), ignore_index=255)
    torch.testing.assert_close(segmentation_loss([(1.0, logits), (0.4, small)], labels), expected)


@pytest.mark.parametrize("side", [41, 21, 31])
def test_labels_of_deeplabs_outputs_are_pillows(side: int) -> None:
    labels = torch.randint(0, 21, (321, 321), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    expected = np.array(Image.fromarray(labels.numpy()).resize((side, side), Image.Resampling.NEAREST))
    assert torch.equal(at_grid(labels, side, side), torch.from_numpy(expected))


@pytest.mark.parametrize("balanced", [True, False])
def test_parts_of_a_batch_add_up_to_it(balanced: bool) -> None:
    logits, labels = drawn()
    small = F.avg_pool2d(logits, 2)
    outputs = [(1.0, logits), (0.4, small)]
    whole = segmentation_loss(outputs, labels, balanced)
    counts = output_counts(labels, [(8, 6), (4, 3)])
    assert counts.shape == (2, 2)
    assert counts[0].tolist() == [int((labels == 0).sum()), int(((labels != 0) & (labels != 255)).sum())]
    parts = [
        segmentation_loss([(weight, values[part]) for weight, values in outputs], labels[part], balanced, counts)
        for part in (slice(0, 1), slice(1, 3))
    ]
    torch.testing.assert_close(sum(parts), whole)
    mean = sum(segmentation_loss([(w, v[p]) for w, v in outputs], labels[p]) for p in (slice(0, 1), slice(1, 3))) / 2
    assert abs(float(mean) - float(whole)) > 1e-3, "the case does not tell a mean of means from the mean"


@pytest.mark.parametrize("balanced", [True, False])
def test_nothing_sure_gives_no_loss_and_no_gradient(balanced: bool) -> None:
    logits = torch.randn(1, 4, 4, 4, requires_grad=True)
    loss = segmentation_loss([(1.0, logits)], torch.full((1, 4, 4), 255, dtype=torch.uint8), balanced)
    loss.backward()  # type: ignore[no-untyped-call]  # torch's own
    assert loss.item() == 0
    assert logits.grad is not None
    assert (logits.grad == 0).all()


def test_pixels_of_255_have_no_gradient_and_others_have() -> None:
    logits, labels = drawn()
    logits.requires_grad_()
    segmentation_loss([(1.0, logits)], labels, balanced=True).backward()  # type: ignore[no-untyped-call]  # torch's own
    assert logits.grad is not None
    moved = logits.grad.abs().sum(1) > 0
    assert torch.equal(moved, labels != 255)
