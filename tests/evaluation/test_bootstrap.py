"""The bootstrap over images: the slow way, a case by hand, coverage of a known difference, what must not change it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tag2mask.core.errors import ConfigError, DataError
from tag2mask.evaluation.bootstrap import ImageCounts, label_counts, paired_bootstrap
from tag2mask.evaluation.confusion import Matrix, confusion_matrix
from tag2mask.evaluation.metrics import SegmentationScores
from tests.helpers.refused import refused

CLASSES = ("cat", "dog")


def drawn(seed: int, n: int = 12, right: float = 0.7) -> list[Matrix]:
    """Confusion matrices of images with the ground truth of ``seed % 100``; a pixel is right with that probability."""
    truths = np.random.default_rng(seed % 100).integers(0, 3, (n, 8, 9)).astype(np.uint8)
    rng = np.random.default_rng((seed, 1))
    found = []
    for truth in truths:
        wrong = rng.random(truth.shape) > right
        labels = np.where(wrong, rng.integers(0, 3, truth.shape), truth).astype(np.uint8)
        found.append(confusion_matrix(labels, truth, 3))
    return found


def counts(matrices: list[Matrix]) -> ImageCounts:
    return ImageCounts.of([label_counts(matrix) for matrix in matrices])


def slow_miou(matrices: list[Matrix]) -> float:
    """In plain loops, from the definition."""
    total = [[sum(float(m[r, c]) for m in matrices) for c in range(3)] for r in range(3)]
    ious = []
    for label in range(3):
        union = sum(total[label]) + sum(row[label] for row in total) - total[label][label]
        if union > 0:
            ious.append(100 * total[label][label] / union)
    return sum(ious) / len(ious)


def test_scores_are_those_of_the_confusion_matrices() -> None:
    matrices = drawn(0)
    mine = counts(matrices)
    scores = SegmentationScores.from_matrix(np.sum(matrices, axis=0), CLASSES)
    assert mine.miou() == pytest.approx(scores.miou, abs=1e-12)
    assert mine.ious() == pytest.approx(scores.iou, abs=1e-12)
    for matrix, value in zip(matrices, mine.image_mious(), strict=True):
        assert value == pytest.approx(SegmentationScores.from_matrix(matrix, CLASSES).miou, abs=1e-12)


def test_it_is_the_slow_loop_over_resamples() -> None:
    first, second = drawn(0), drawn(100, right=0.75)
    found = paired_bootstrap([counts(first)], [counts(second)], resamples=200, seed=3)
    rng = np.random.default_rng(3)
    picks = rng.integers(0, 12, (200, 12))  # the same images as the function draws
    slow = np.array(
        [slow_miou([second[i] for i in pick]) - slow_miou([first[i] for i in pick]) for pick in picks.tolist()],
        dtype=np.float64,
    )
    value = slow_miou(second) - slow_miou(first)
    assert found.miou.value == pytest.approx(value, abs=1e-9)
    assert [found.miou.low, found.miou.high] == pytest.approx(np.percentile(slow, [2.5, 97.5]).tolist(), abs=1e-9)
    assert found.miou.sign_changes == pytest.approx(float((slow * value <= 0).mean()), abs=1e-12)
    assert found.resamples == 200


def test_a_case_by_hand() -> None:
    """Two images of 10 cat pixels on 10 of background; the second side finds the cat of the second image, else equal.

    Background and cat: all 20 truth pixels of the found image right; of the other one all is background.
    """
    right = np.array([[10, 0], [0, 10]])
    missed = np.array([[10, 0], [10, 0]])
    first, second = counts([missed, missed]), counts([missed, right])
    found = paired_bootstrap([first], [second], resamples=4000)
    # Both images: background 20/30, cat 10/20 against 20/40 and 0. Twice the first: no difference. Twice the second:
    # 100 and 100 against 50 and 0.
    whole = (100 * 20 / 30 + 50) / 2 - 25
    assert found.miou.value == pytest.approx(whole)
    assert (found.miou.low, found.miou.high) == (0.0, 75.0)
    assert found.miou.sign_changes == pytest.approx(0.25, abs=0.03)  # both draws are the first image
    background, cat = found.labels
    assert background.value == pytest.approx(100 * 20 / 30 - 50)
    assert cat.value == pytest.approx(50.0)


def test_a_label_that_is_in_no_resample_has_no_interval() -> None:
    matrix = np.array([[5, 0, 0], [1, 4, 0], [0, 0, 0]])
    better = np.array([[5, 0, 0], [0, 5, 0], [0, 0, 0]])
    found = paired_bootstrap([counts([matrix] * 3)], [counts([better] * 3)], resamples=50)
    assert np.isnan([found.labels[2].value, found.labels[2].low, found.labels[2].sign_changes]).all()
    expected = 100 - (100 * 5 / 6 + 100 * 4 / 5) / 2
    assert found.miou.value == pytest.approx(expected)
    assert found.miou.low == pytest.approx(expected)  # all images are the same: nothing varies
    assert found.miou.sign_changes == 0


def test_an_ignored_image_changes_nothing_but_the_draws() -> None:
    void = np.zeros((3, 3), dtype=np.int64)
    mine = counts([*drawn(0), void])
    assert np.isnan(mine.image_mious()[-1])
    assert mine.miou() == counts(drawn(0)).miou()


def test_identical_sides_have_no_difference_at_all() -> None:
    found = paired_bootstrap([counts(drawn(0))], [counts(drawn(0))], resamples=100)
    assert (found.miou.value, found.miou.low, found.miou.high) == (0.0, 0.0, 0.0)
    assert found.miou.sign_changes == 1
    assert all((label.low, label.high) == (0.0, 0.0) for label in found.labels)


def test_sides_exchanged_give_the_negative() -> None:
    first, second = [counts(drawn(0))], [counts(drawn(100, right=0.8))]
    forth, back = paired_bootstrap(first, second, resamples=300), paired_bootstrap(second, first, resamples=300)
    assert back.miou.value == -forth.miou.value
    assert [back.miou.low, back.miou.high] == pytest.approx([-forth.miou.high, -forth.miou.low], abs=1e-12)
    assert back.miou.sign_changes == forth.miou.sign_changes


def test_the_order_of_images_matters_to_the_draws_alone() -> None:
    first, second = drawn(0, n=40), drawn(100, n=40, right=0.8)
    turned = paired_bootstrap([counts(first[::-1])], [counts(second[::-1])], resamples=4000)
    found = paired_bootstrap([counts(first)], [counts(second)], resamples=4000)
    assert turned.miou.value == found.miou.value
    width = found.miou.high - found.miou.low
    assert [turned.miou.low, turned.miou.high] == pytest.approx([found.miou.low, found.miou.high], abs=0.1 * width)


def test_the_same_seed_gives_the_same_interval_and_parts_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    sides = [counts(drawn(0))], [counts(drawn(100))]
    found = paired_bootstrap(*sides, resamples=500, seed=1)
    assert paired_bootstrap(*sides, resamples=500, seed=1) == found
    assert paired_bootstrap(*sides, resamples=500, seed=2).miou.low != found.miou.low
    monkeypatch.setattr("tag2mask.evaluation.bootstrap._ROOM", 12 * 7)
    assert paired_bootstrap(*sides, resamples=500, seed=1) == found


def test_several_seeds_count_with_their_mean() -> None:
    first = [counts(drawn(0)), counts(drawn(100))]
    second = [counts(drawn(200)), counts(drawn(300))]
    found = paired_bootstrap(first, second, resamples=100)
    value = sum(c.miou() for c in second) / 2 - sum(c.miou() for c in first) / 2
    assert found.miou.value == pytest.approx(value, abs=1e-12)
    twice = paired_bootstrap([first[0]] * 3, [second[0]], resamples=100)
    once = paired_bootstrap([first[0]], [second[0]], resamples=100)
    assert [twice.miou.low, twice.miou.high] == pytest.approx([once.miou.low, once.miou.high], abs=1e-12)


def share(values: NDArray[np.float64], pixels: int) -> list[Matrix]:
    """Images whose background and class are both hit in that share of their pixels, and never elsewhere."""
    hits = np.rint(values * pixels).astype(np.int64)
    return [np.array([[h, 0, pixels - h], [0, h, pixels - h], [0, 0, 0]]) for h in hits]


def test_the_interval_covers_a_known_normal_difference() -> None:
    """Two labels of ``p`` pixels an image, hit in a normal share: the mIoU is 200 / 3 times the mean share.

    (The third label is in no ground truth but is where misses go: its IoU is 0, the unions stay as they are.) So the
    true difference is 200 / 3 times that of the means, and 95 % of the intervals hold it.
    """
    rng, covered, trials, truth = np.random.default_rng(5), 0, 200, 200 / 3 * 0.03
    for _ in range(trials):
        ease = rng.normal(0, 0.1, 60)  # images differ, alike for both sides: pairing takes that out
        first = np.clip(0.5 + ease, 0, 1)
        second = np.clip(0.53 + ease + rng.normal(0, 0.04, 60), 0, 1)
        found = paired_bootstrap([counts(share(first, 10_000))], [counts(share(second, 10_000))], resamples=400)
        covered += found.miou.low <= truth <= found.miou.high
        assert found.miou.high - found.miou.low < 200 / 3 * 4 * 1.5 * 0.04 / np.sqrt(60)  # unpaired it were 3.5 times
    assert 0.89 <= covered / trials <= 0.985  # 95 %, less a little for 60 images; ± 3 standard deviations of 200 trials


def test_bad_input_is_refused() -> None:
    mine = counts(drawn(0))
    with refused(ConfigError, "resamples = 0", "at least 1, such as 10000"):
        paired_bootstrap([mine], [mine], resamples=0)
    with refused(DataError, "no counts", "a side"):
        paired_bootstrap([mine], [])
    with refused(DataError, "12 images of 3 labels", "11 of 3", "other pixels"):
        paired_bootstrap([mine], [counts(drawn(0)[:-1])])
    with pytest.raises(DataError, match="not of the same images"):
        paired_bootstrap([mine], [counts(drawn(0)[::-1])])
    with pytest.raises(DataError, match="no image was counted"):
        ImageCounts.of([])


def test_the_classes_alone_and_their_share_are_the_slow_loop_too() -> None:
    first, second = drawn(0), drawn(100, right=0.75)
    found = paired_bootstrap([counts(first)], [counts(second)], resamples=200, seed=3)

    def foreground(matrices: list[Matrix]) -> float:
        return SegmentationScores.from_matrix(np.sum(matrices, axis=0), CLASSES).mean("iou")

    picks = np.random.default_rng(3).integers(0, 12, (200, 12)).tolist()
    pairs = [(foreground([first[i] for i in pick]), foreground([second[i] for i in pick])) for pick in picks]
    differences, shares = [b - a for a, b in pairs], [100 * b / a for a, b in pairs]
    before, after = foreground(first), foreground(second)
    assert counts(first).foreground() == pytest.approx(before, abs=1e-9)
    assert found.foreground.value == pytest.approx(after - before, abs=1e-9)
    ends = np.percentile(differences, [2.5, 97.5]).tolist()
    assert [found.foreground.low, found.foreground.high] == pytest.approx(ends, abs=1e-9)
    assert found.share.value == pytest.approx(100 * after / before, abs=1e-9)
    ends = np.percentile(shares, [2.5, 97.5]).tolist()
    assert [found.share.low, found.share.high] == pytest.approx(ends, abs=1e-9)
    assert found.share.sign_changes == pytest.approx(float(np.mean([s <= 100 for s in shares])), abs=1e-12)
    total = SegmentationScores.from_matrix(np.sum(first, axis=0), CLASSES)
    assert counts(first).f1_foreground() == pytest.approx(total.f1_foreground, abs=1e-9)


def test_on_data_without_background_all_labels_are_the_classes() -> None:
    """Ground truth of classes alone: predicted background is missed, and no third label."""
    covered = np.array([[0, 0, 0], [3, 5, 2], [1, 0, 9]])
    better = np.array([[0, 0, 0], [0, 8, 2], [1, 0, 9]])
    found = paired_bootstrap([counts([covered] * 2)], [counts([better] * 2)], resamples=20)
    assert found.miou == found.foreground
    assert counts([covered]).miou() == pytest.approx((100 * 5 / 10 + 100 * 9 / 12) / 2)
