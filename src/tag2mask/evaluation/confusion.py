"""One confusion matrix over a data set: rows are the ground truth, columns the prediction, ignored pixels left out."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tag2mask.core.errors import DataError
from tag2mask.core.types import IGNORE
from tag2mask.data.forms import Numbers, array_of

Matrix = NDArray[np.int64]
"""(L, L) pixel counts for L labels, background first; row = truth, column = prediction."""

LabelImage = NDArray[np.uint8]
"""(H, W) label indices 0..254, 255 ignored."""

_CODES = 256

# np.bincount and not torchmetrics' MulticlassConfusionMatrix: the same counts in 1 ms instead of 51 ms for a 375 x 500
# image on one core, no torch, and the threshold sweep needs a third axis, which torchmetrics has not.


def label_image(labels: Numbers, what: str, sample_id: str = "") -> LabelImage:
    """Check that ``labels``, in any form, is an (H, W) image of whole numbers 0..255 and return it as uint8.

    The error names ``what`` it is, ``prediction`` or ``truth``, and the image, here and below.
    """
    array = array_of(labels, _of(what, sample_id))
    if array.ndim != 2:
        raise DataError(f"{_of(what, sample_id)} has shape {array.shape}; expected one label image (H, W)")
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind not in "biu":
        raise DataError(f"{_of(what, sample_id)} is {array.dtype}; expected whole numbers, as argmax gives them")
    if array.size and (array.min() < 0 or array.max() >= _CODES):
        raise DataError(
            f"{_of(what, sample_id)} holds labels {array.min()}..{array.max()}; expected 0..254, or 255 (ignored)"
        )
    return array.astype(np.uint8)


def check_shapes(prediction: tuple[int, ...], truth: tuple[int, ...], sample_id: str = "") -> None:
    """Refuse a prediction that is not of the ground truth's size."""
    if prediction != truth:
        raise DataError(
            f"{_of('prediction', sample_id)} has shape {prediction}, its ground truth {truth}; "
            "resize the prediction to the ground truth (never the ground truth)"
        )


def check_labels(pixels_of: NDArray[np.int64], n_labels: int, what: str, sample_id: str = "") -> None:
    """Refuse values, given the (256,) pixels of each, that are neither one of ``n_labels`` labels nor 255."""
    stray = np.flatnonzero(pixels_of[n_labels:IGNORE]) + n_labels
    if stray.size:
        raise DataError(
            f"{_of(what, sample_id)} holds label {stray[0]} ({pixels_of[stray[0]]} pixels), but the classes end at "
            f"{n_labels - 1}; check the data set's class list (tag2mask doctor)"
        )


def confusion_matrix(
    prediction: Numbers,
    truth: Numbers,
    n_labels: int,
    *,
    sample_id: str = "",
    unsure: Literal["error", "ignore"] = "error",
) -> Matrix:
    """Count the pixels of one image by ground truth, 255 ignored, and prediction: (H, W) labels below ``n_labels``.

    Where ``unsure`` is ``ignore`` the prediction too may be 255, as in refined seeds.
    """
    guess, true = label_image(prediction, "prediction", sample_id), label_image(truth, "truth", sample_id)
    check_shapes(guess.shape, true.shape, sample_id)
    codes = true.astype(np.intp).ravel() * _CODES + guess.ravel()
    counts = np.bincount(codes, minlength=_CODES * _CODES).reshape(_CODES, _CODES).astype(np.int64, copy=False)
    check_labels(counts.sum(axis=1), n_labels, "truth", sample_id)
    guessed = counts.sum(axis=0)
    if guessed[IGNORE] and unsure == "error":
        raise DataError(
            f"{_of('prediction', sample_id)} is 255 (ignored) at {guessed[IGNORE]} pixels: refined seeds are not masks."
            " Evaluate them with unsure='ignore' and name the result miou_sure, or evaluate pseudo-masks"
        )
    check_labels(guessed, n_labels, "prediction", sample_id)
    return counts[:n_labels, :n_labels].copy()


def _of(what: str, sample_id: str) -> str:
    return f"{what} of '{sample_id}'" if sample_id else what
