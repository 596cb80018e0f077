"""Label images of a split: refined seeds by hand and by brute force, masks against the plain count."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from tag2mask.core.errors import DataError
from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset, Labels
from tag2mask.evaluation.confusion import LabelImage
from tag2mask.evaluation.label_images import ConfidentMetrics, evaluate_masks
from tag2mask.evaluation.metrics import SegmentationMetrics
from tag2mask.evaluation.result_tables import score_rows
from tag2mask.evaluation.thresholds import Threshold
from tests.helpers.refused import refused


def test_by_hand() -> None:
    metrics = ConfidentMetrics(["cat", "dog"])
    metrics.update([[0, 0, 255, 1], [2, 2, 255, 1]], [[0, 1, 1, 1], [2, 0, 255, 255]])
    found = dict(metrics.compute().values())
    # known: 2 background, 3 cat, 1 dog; sure of these: 0 (right), 1 as 0, 1 (right), 2 (right), 0 as 2
    assert found["coverage"] == pytest.approx(100 * 5 / 6)
    assert found["precision_sure"] == pytest.approx(100 * 3 / 5)
    assert found["miou_sure"] == pytest.approx(100 * (1 / 3 + 1 / 2 + 1 / 2) / 3)
    assert found["coverage/cat"] == pytest.approx(100 * 2 / 3)
    assert found["coverage/background"] == 100
    assert found["precision_sure/dog"] == 50
    assert found["iou_sure/background"] == pytest.approx(100 / 3)
    assert "miou" not in found


def drawn(seed: int) -> tuple[LabelImage, LabelImage]:
    rng = np.random.default_rng(seed)
    values = np.array([0, 1, 2, 3, 255], np.uint8)
    return rng.choice(values, (9, 11)), rng.choice(values[[0, 1, 3, 4]], (9, 11))


def test_equals_counting_pixel_by_pixel() -> None:
    metrics = ConfidentMetrics(["a", "b", "c"])
    pairs = [pixel for seed in range(4) for pixel in zip(*(array.ravel() for array in drawn(seed)), strict=True)]
    for seed in range(4):
        metrics.update(*drawn(seed))
    known = [(guess, true) for guess, true in pairs if true != 255]
    sure = [(guess, true) for guess, true in known if guess != 255]
    found = metrics.compute()
    assert found.coverage == pytest.approx(100 * len(sure) / len(known))
    assert found.precision_sure == pytest.approx(100 * sum(g == t for g, t in sure) / len(sure))
    ious = []
    for label in range(4):
        both = sum(g == t == label for g, t in sure)
        either = sum(label in pair for pair in sure)
        ious.append(100 * both / either)
    assert found.miou_sure == pytest.approx(sum(ious) / 4)


def test_sure_everywhere_is_plain_mean_iou() -> None:
    guess, truth = drawn(7)
    guess = np.where(guess == 255, 0, guess)
    sure, plain = ConfidentMetrics(["a", "b", "c"]), SegmentationMetrics(["a", "b", "c"])
    sure.update(guess, truth)
    plain.update(guess, truth)
    assert sure.compute().coverage == 100
    assert sure.compute().miou_sure == plain.compute().miou


def test_ignored_everywhere_covers_nothing_and_has_no_precision() -> None:
    metrics = ConfidentMetrics(["a"])
    metrics.update([[255, 255]], [[0, 1]])
    scores = metrics.compute()
    assert scores.coverage == 0
    assert math.isnan(scores.precision_sure)
    rows = score_rows(
        scores, Threshold(0.3), stage="s", method="s", split="train", n_images=1, seed=0, time="2026-01-01T00:00:00Z"
    )
    assert {r.metric: r.value for r in rows if "/" not in r.metric} == {
        "coverage": 0.0, "precision_sure": None, "miou_sure": None, "miou_foreground_sure": None,
        "f1_foreground_sure": None,
    }  # fmt: skip


def test_a_truth_that_is_ignored_everywhere_is_no_evaluation() -> None:
    metrics = ConfidentMetrics(["a"])
    metrics.update([[0, 255]], [[255, 255]])
    with refused(DataError, "no refined seeds", "no image with ground truth"):
        metrics.compute()


class Pairs(Dataset):
    """Random truths; every fourth image has none, and the ground truth of image 5 is ignored everywhere."""

    name, split, classes, has_truth = "pairs", "train", ("a", "b", "c"), True

    def __init__(self, n: int) -> None:
        self.samples = [Sample(f"im{i:02}", ()) for i in range(n)]

    def image(self, sample: Sample) -> Image.Image:
        raise NotImplementedError

    def truth(self, sample: Sample) -> Labels | None:
        number = int(sample.id[2:])
        truth = drawn(number)[1]
        return None if number % 4 == 0 else np.full_like(truth, 255) if number == 5 else truth


def labels_of(sample: Sample) -> LabelImage:
    return drawn(int(sample.id[2:]))[0]


def test_a_split_is_scored_as_one_matrix_and_image_by_image() -> None:
    dataset, counted = Pairs(9), []
    found = evaluate_masks(dataset, labels_of, unsure=True, advance=lambda: counted.append(1))
    metrics = ConfidentMetrics(dataset.classes)
    for sample in dataset.samples:
        truth = dataset.truth(sample)
        if truth is not None:
            metrics.update(labels_of(sample), truth)
    assert (found.split, found.n_images, found.n_without_truth, len(counted)) == ("train", 6, 3, 9)
    assert repr(found.scores.values()) == repr(metrics.compute().values()), "NaN where NaN is"
    assert found.image_metrics == ("coverage", "precision_sure")
    values = {i.id: i.values for i in found.images}
    assert list(values) == ["im01", "im02", "im03", "im05", "im06", "im07"]
    assert all(math.isnan(v) for v in values["im05"])
    one = ConfidentMetrics(dataset.classes)
    one.update(*drawn(6))
    assert values["im06"] == (one.compute().coverage, one.compute().precision_sure)


def test_masks_are_scored_over_the_samples_requested() -> None:
    dataset = Pairs(9)
    chosen = dataset.samples[1:4]
    found = evaluate_masks(dataset, lambda s: labels_of(s) % 255, samples=chosen)
    metrics = SegmentationMetrics(dataset.classes)
    for sample in chosen:
        truth = dataset.truth(sample)
        assert truth is not None
        metrics.update(labels_of(sample) % 255, truth)
    assert (found.scores.matrix == metrics.matrix).all()
    assert [(i.id, len(i.values)) for i in found.images] == [("im01", 1), ("im02", 1), ("im03", 1)]


def test_ignored_pixels_in_masks_and_a_split_without_ground_truth_are_refused() -> None:
    with pytest.raises(DataError, match=r"prediction of 'im01' is 255 \(ignored\) at \d+ pixels"):
        evaluate_masks(Pairs(9), labels_of)
    with refused(DataError, "split 'train'", "ground truth", "its masks cannot be evaluated"):
        evaluate_masks(Pairs(9), labels_of, samples=Pairs(1).samples)


def test_a_mask_of_another_size_names_its_image() -> None:
    with refused(DataError, "'im01' has shape (2, 2)", "ground truth (9, 11)"):
        evaluate_masks(Pairs(9), lambda s: np.zeros((2, 2), np.uint8))


def test_seeds_that_are_confident_of_the_background_alone_have_no_mean() -> None:
    """Half of the image is confident background and right: a mIoU of 100 would say what is not so."""
    metrics = ConfidentMetrics(["cat"])
    metrics.update([[0, 0, 255, 255]], [[0, 0, 1, 1]])
    scores = metrics.compute()
    assert (scores.coverage, scores.precision_sure) == (50, 100)
    assert math.isnan(scores.miou_sure)
    metrics.update([[0, 0]], [[0, 1]])  # a class below the background is no class of the seeds either
    scores = metrics.compute()
    assert [math.isnan(v) for v in (scores.miou_sure, scores.miou_foreground_sure, scores.f1_foreground_sure)] == [
        True
    ] * 3
    metrics.update([[1]], [[1]])
    scores = metrics.compute()
    assert scores.miou_sure == pytest.approx((100 * 3 / 4 + 50) / 2)
    assert scores.miou_foreground_sure == pytest.approx(50)
    assert scores.f1_foreground_sure == pytest.approx(100 * 2 / 3)
