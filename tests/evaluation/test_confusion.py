"""One confusion matrix: counts against a loop, ignored pixels, errors that name the image."""

import numpy as np
import pytest
import torch

from tag2mask.core.errors import DataError
from tag2mask.evaluation.confusion import LabelImage, Matrix, confusion_matrix, label_image
from tests.helpers.refused import refused


def loop(prediction: LabelImage, truth: LabelImage, n_labels: int) -> Matrix:
    """The same counts, one pixel at a time."""
    counts = np.zeros((n_labels, n_labels), dtype=np.int64)
    for row in range(truth.shape[0]):
        for column in range(truth.shape[1]):
            if truth[row, column] != 255:
                counts[truth[row, column], prediction[row, column]] += 1
    return counts


@pytest.mark.parametrize("n_labels", [1, 2, 21, 255])
def test_equals_a_count_pixel_by_pixel(n_labels: int) -> None:
    rng = np.random.default_rng(n_labels)
    truth = rng.integers(0, n_labels, (23, 17)).astype(np.uint8)
    truth[rng.random(truth.shape) < 0.2] = 255
    prediction = rng.integers(0, n_labels, truth.shape).astype(np.uint8)
    found = confusion_matrix(prediction, truth, n_labels)
    np.testing.assert_array_equal(found, loop(prediction, truth, n_labels))
    assert found.dtype == np.int64
    assert found.sum() == (truth != 255).sum()


def test_equals_torchmetrics() -> None:
    from torchmetrics.classification import MulticlassConfusionMatrix

    rng = np.random.default_rng(1)
    truth, prediction = rng.integers(0, 5, (2, 30, 40)).astype(np.uint8)
    truth[:4] = 255
    oracle = MulticlassConfusionMatrix(5, ignore_index=255)
    oracle.update(torch.from_numpy(prediction).long(), torch.from_numpy(truth).long())
    np.testing.assert_array_equal(confusion_matrix(prediction, truth, 5), oracle.compute().numpy())


def test_rows_are_ground_truth() -> None:
    assert confusion_matrix([[0, 1, 1]], [[0, 0, 255]], 2).tolist() == [[1, 1], [0, 0]]


def test_reads_tensors_bools_and_wide_integers() -> None:
    truth = torch.tensor([[0, 1]])
    assert confusion_matrix(truth == 1, truth, 2).tolist() == [[1, 0], [0, 1]]
    assert label_image(np.array([[3, 255]], dtype=np.int32), "truth").dtype == np.uint8


def test_shapes_must_be_equal() -> None:
    with refused(DataError, "'cat_1' has shape (2, 3)", "ground truth (3, 2)", "resize the prediction"):
        confusion_matrix(np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8), 2, sample_id="cat_1")


def test_an_ignored_prediction_is_refused_unless_allowed() -> None:
    prediction, truth = [[255, 1, 0]], [[1, 1, 0]]
    with refused(DataError, "'x' is 255 (ignored)", "1 pixels", "refined seeds"):
        confusion_matrix(prediction, truth, 2, sample_id="x")
    assert confusion_matrix(prediction, truth, 2, unsure="ignore").tolist() == [[1, 0], [0, 1]]


def test_a_255_under_ignored_truth_is_still_refused() -> None:
    with pytest.raises(DataError, match="255"):
        confusion_matrix([[255]], [[255]], 2)


def test_labels_beyond_the_classes_are_named() -> None:
    with refused(DataError, "'x'", "label 3 (2 pixels)", "classes end at 2"):
        confusion_matrix([[0, 0]], [[3, 3]], 3, sample_id="x")
    with refused(DataError, "prediction holds", "label 7 (1 pixels)", "classes end at 2"):
        confusion_matrix([[0, 7]], [[0, 255]], 3)


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        (np.zeros((1, 2, 2), np.uint8), "shape (1, 2, 2) … expected one label image (H, W)"),
        (np.zeros((2, 2), np.float32), "is float32; expected whole numbers"),
        (np.array([[-1, 4]]), "holds labels -1..4; expected 0..254"),
        (np.array([[0, 256]]), "holds labels 0..256"),
    ],
)
def test_what_is_no_label_image(labels: LabelImage, text: str) -> None:
    with refused(DataError, text):
        label_image(labels, "prediction", "x")
