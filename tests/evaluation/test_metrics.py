"""Scores from a confusion matrix: hand-made cases, identities, names of averages, the sums of LPCAM's Table 1."""

import math

import numpy as np
import pytest
from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score

from tag2mask.core.errors import DataError
from tag2mask.evaluation.confusion import Matrix
from tag2mask.evaluation.metrics import PER_LABEL, SegmentationMetrics, SegmentationScores
from tests.helpers.refused import refused

ABC = ("a", "b", "c")


def random_matrix(seed: int, n_labels: int = 4) -> Matrix:
    return np.random.default_rng(seed).integers(1, 1000, (n_labels, n_labels))


def test_a_case_by_hand() -> None:
    metrics = SegmentationMetrics(["a", "b"])
    metrics.update([[0, 0, 1, 1, 2, 2]], [[0, 1, 1, 0, 2, 255]])
    scores = metrics.compute()
    assert scores.matrix.tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert scores.labels == ("background", "a", "b")
    third = 100 / 3
    np.testing.assert_allclose(scores.iou, [third, third, 100])
    np.testing.assert_allclose(scores.fp, [third, third, 0])
    np.testing.assert_allclose(scores.fn, [third, third, 0])
    np.testing.assert_allclose(scores.precision, [50, 50, 100])
    np.testing.assert_allclose(scores.recall, [50, 50, 100])
    assert scores.miou == pytest.approx((third + third + 100) / 3)
    assert scores.mean("iou") == pytest.approx((third + 100) / 2)
    assert scores.mean("precision") == pytest.approx(75)
    assert scores.mean("recall", with_background=True) == pytest.approx(200 / 3)
    assert scores.pooled_precision == pytest.approx(200 / 3)
    assert scores.pooled_recall == pytest.approx(200 / 3)


def test_pooled_numbers_ask_only_whether_a_pixel_is_foreground() -> None:
    scores = SegmentationScores.from_matrix(np.array([[10, 1, 0], [3, 0, 4], [0, 2, 0]]), ["a", "b"])
    assert scores.pooled_precision == pytest.approx(100 * 6 / 7)
    assert scores.pooled_recall == pytest.approx(100 * 6 / 9)
    assert scores.mean("precision") == 0


@pytest.mark.parametrize("seed", range(5))
def test_identities(seed: int) -> None:
    s = SegmentationScores.from_matrix(random_matrix(seed), ABC)
    np.testing.assert_allclose(s.iou + s.fp + s.fn, 100)
    np.testing.assert_allclose(s.precision, 100 * s.iou / (s.iou + s.fp))
    np.testing.assert_allclose(s.recall, 100 * s.iou / (s.iou + s.fn))
    true, guessed = s.matrix.sum(1), s.matrix.sum(0)
    union = true + guessed - np.diag(s.matrix)
    np.testing.assert_allclose(s.fp, 100 * (1 - true / union))
    np.testing.assert_allclose(s.fn, 100 * (1 - guessed / union))


def test_equals_scikit_learn() -> None:
    rng = np.random.default_rng(3)
    truth, guess = rng.integers(0, 4, (2, 20, 20))
    metrics = SegmentationMetrics(ABC)
    metrics.update(guess, truth)
    scores = metrics.compute()
    flat = {"y_true": truth.ravel(), "y_pred": guess.ravel(), "average": None}
    np.testing.assert_allclose(scores.iou, 100 * jaccard_score(**flat))
    np.testing.assert_allclose(scores.precision, 100 * precision_score(**flat))
    np.testing.assert_allclose(scores.recall, 100 * recall_score(**flat))


def test_swapping_truth_and_prediction_swaps_the_errors() -> None:
    matrix = random_matrix(9)
    one, other = (SegmentationScores.from_matrix(m, ABC) for m in (matrix, matrix.T))
    np.testing.assert_allclose(one.iou, other.iou)
    np.testing.assert_allclose(one.fp, other.fn)
    np.testing.assert_allclose(one.precision, other.recall)


def test_images_together_are_one_image_not_a_mean_of_images() -> None:
    rng = np.random.default_rng(4)
    truths, guesses = rng.integers(0, 4, (2, 3, 8, 8)).astype(np.uint8)
    guesses[0] = truths[0]
    single, split, rest = SegmentationMetrics(ABC), SegmentationMetrics(ABC), SegmentationMetrics(ABC)
    single.update(np.concatenate(list(guesses)), np.concatenate(list(truths)))
    split.update(guesses[0], truths[0])
    for guess, truth in zip(guesses[1:], truths[1:], strict=True):
        rest.update(guess, truth)
    split.merge(rest)
    np.testing.assert_array_equal(single.matrix, split.matrix)
    assert (single.n_images, split.n_images) == (1, 3)
    per_image = []
    for guess, truth in zip(guesses, truths, strict=True):
        one = SegmentationMetrics(ABC)
        one.update(guess, truth)
        per_image.append(one.compute().miou)
    assert split.compute().miou == pytest.approx(single.compute().miou)
    assert abs(split.compute().miou - float(np.mean(per_image))) > 1


def test_labels_that_cannot_be_scored_are_dropped_and_listed() -> None:
    matrix = np.array([[6, 0, 2, 0], [2, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    scores = SegmentationScores.from_matrix(matrix, ABC)  # a: missed; b: only imagined; c: nowhere
    assert (scores.never_predicted, scores.without_truth, scores.absent) == (("a",), ("b",), ("c",))
    np.testing.assert_allclose(scores.iou, [60, 0, 0, np.nan])
    assert scores.miou == pytest.approx(20)
    assert scores.mean("iou") == 0
    assert scores.mean("precision") == 0  # b alone: a has no pixel to be right about
    assert scores.mean("recall", with_background=True) == pytest.approx((75 + 0) / 2)


def test_a_mean_of_nothing_is_nan() -> None:
    scores = SegmentationScores.from_matrix(np.array([[5, 0], [0, 0]]), ["a"])
    assert scores.iou[0] == 100
    assert math.isnan(scores.miou), "the background alone is no mean"
    assert math.isnan(scores.mean("recall"))
    assert math.isnan(scores.pooled_precision)


def test_no_mean_without_a_class_in_ground_truth() -> None:
    """Masks of 0 and 255: whatever is predicted, only the background can be right."""
    scores = SegmentationScores.from_matrix(np.array([[5, 3], [0, 0]]), ["a"])
    values = dict(scores.values())
    means = {"miou", "miou_foreground", *PER_LABEL[1:], *(f"{m}_with_background" for m in PER_LABEL[1:])}
    assert all(math.isnan(values[name]) for name in means)
    assert values["iou/background"] == pytest.approx(62.5)
    assert not scores.shows_classes


def test_every_average_has_its_own_name() -> None:
    scores = SegmentationScores.from_matrix(random_matrix(2), ABC)
    values = dict(scores.values())
    assert len(values) == len(scores.values()) == 3 + 4 + 4 + 2 + 5 * 4
    assert values["miou"] == pytest.approx(np.mean(scores.iou))
    assert values["miou_foreground"] == pytest.approx(np.mean(scores.iou[1:]))
    for metric in PER_LABEL[1:]:
        assert values[metric] == pytest.approx(np.mean(getattr(scores, metric)[1:]))
        assert values[f"{metric}_with_background"] == pytest.approx(np.mean(getattr(scores, metric)))
    assert values["recall/b"] == scores.recall[2]
    assert values["iou/background"] == scores.iou[0]


@pytest.mark.parametrize(
    ("fp", "fn", "miou", "background"),
    [(26.5, 26.2, 48.8, 78.8), (33.1, 16.2, 52.1, 80.1), (29.8, 16.7, 54.9, 82.9)],
    ids=["CAM", "LPCAM-F", "LPCAM"],
)
def test_sums_of_table_1_hold_for_foreground_means(fp: float, fn: float, miou: float, background: float) -> None:
    """With the table's FP and FN in all 20 classes, mIoU is the table's if the background's IoU is what it must be."""
    matrix = np.zeros((21, 21))
    np.fill_diagonal(matrix, 1000 - 10 * fp - 10 * fn)
    matrix[0, 1:], matrix[1:, 0] = 10 * fp, 10 * fn
    wrong = 200 * (fp + fn)
    matrix[0, 0] = wrong * background / (100 - background)
    scores = SegmentationScores.from_matrix(np.rint(matrix).astype(np.int64), [str(i) for i in range(20)])
    assert scores.mean("fp") == pytest.approx(fp, abs=0.05)
    assert scores.mean("fn") == pytest.approx(fn, abs=0.05)
    assert scores.iou[0] == pytest.approx(background, abs=0.05)
    assert scores.miou == pytest.approx(miou, abs=0.05)
    assert 100 - fp - fn == pytest.approx(scores.mean("iou"), abs=0.05)


def test_nothing_counted_is_an_error() -> None:
    metrics = SegmentationMetrics(ABC)
    metrics.update([[0]], [[255]])
    with refused(DataError, "nothing was evaluated", "ground truth", "every pixel is ignored"):
        metrics.compute()


@pytest.mark.parametrize(
    ("classes", "text"),
    [
        ([], "classes names none; expected"),
        (["a", "b", "a"], "classes names 'a' twice"),
        (["background"], "classes names 'background', which is label 0"),
    ],
)
def test_classes_must_be_names_each_once(classes: list[str], text: str) -> None:
    with refused(DataError, text):
        SegmentationMetrics(classes)


def test_counts_of_other_classes_are_not_added() -> None:
    with refused(DataError, "cannot add", "['b']", "['a']"):
        SegmentationMetrics(["a"]).merge(SegmentationMetrics(["b"]))


def test_scores_keep_their_counts_when_more_come() -> None:
    metrics = SegmentationMetrics(["a"])
    metrics.update([[0, 1]], [[0, 1]])
    before = metrics.compute()
    metrics.update([[0, 1]], [[1, 0]])
    assert (before.matrix.sum(), metrics.compute().matrix.sum()) == (2, 4)
    assert before.miou == 100
    assert metrics.compute().miou == pytest.approx(100 / 3)


def test_refined_seeds_are_scored_where_they_are_sure() -> None:
    metrics = SegmentationMetrics(["a"], unsure="ignore")
    metrics.update([[0, 255, 1]], [[0, 1, 1]])
    assert metrics.compute().miou == 100


def test_f1_is_dice_of_each_class_and_its_mean() -> None:
    scores = SegmentationScores.from_matrix(random_matrix(4), ABC)
    np.testing.assert_allclose(scores.f1, 2 * scores.iou / (100 + scores.iou) * 100)
    np.testing.assert_allclose(scores.f1, 2 * scores.precision * scores.recall / (scores.precision + scores.recall))
    assert scores.f1_foreground == pytest.approx(float(scores.f1[1:].mean()))
    assert dict(scores.values())["f1_foreground"] == scores.f1_foreground
    rng = np.random.default_rng(8)
    truth, guess = rng.integers(0, 4, (2, 30, 30))
    metrics = SegmentationMetrics(ABC)
    metrics.update(guess, truth)
    theirs = f1_score(truth.ravel(), guess.ravel(), labels=[1, 2, 3], average="macro")
    assert metrics.compute().f1_foreground == pytest.approx(100 * theirs)


def test_data_without_background_has_no_label_0() -> None:
    """Two classes and no background: what is predicted as background is missed, and no label of its own."""
    metrics = SegmentationMetrics(["a", "b"])
    metrics.update([[1, 1, 0, 2, 2, 2]], [[1, 1, 1, 1, 2, 2]])
    scores = metrics.compute()
    assert not scores.has_background
    assert scores.iou[0] == 0
    assert scores.miou == scores.mean("iou") == pytest.approx((50 + 100 * 2 / 3) / 2)
    assert SegmentationScores.from_matrix(scores.matrix, ["a", "b"]).miou == pytest.approx(scores.miou * 2 / 3)
    metrics.update([[0]], [[0]])  # one pixel of background anywhere, and it is a label as others
    assert metrics.compute().has_background
    assert metrics.compute().miou == pytest.approx((50 + 50 + 100 * 2 / 3) / 3)
