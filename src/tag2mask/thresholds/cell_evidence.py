"""Whether every pixel is of a class, judged by the cells of images with one tag: the maths of ``data.background=auto``.

Without a background an image with one tag is that class everywhere, so each of its cells says by itself which class it
is. With one, images of different classes share cells of the background that say nothing. A linear classifier of cells
is fitted on some of the images and tried on the cells of the others; features that see little beyond their cell keep it
from recognising the image instead. What counts is the pair of classes that it parts worst: some classes may come with
surroundings of their own, such as sky and water, but hardly all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Cells = NDArray[np.float32]
"""(n, D) features of cells, one row each."""
FOLDS = 4
_RIDGE = 1e-2
_CENTRE, _RIM = 0.4, 0.6
_UPPER, _LOWER = 0.35, 0.65


@dataclass(frozen=True, slots=True)
class ImageCells:
    """The cells of one image with one tag.

    Attributes:
        column: class column of the tag.
        cells: (n, D).
        places: (n, 2), in [0, 1]: from the middle of the image (0) to its rim (1), and from its top to its bottom.
    """

    column: int
    cells: Cells
    places: NDArray[np.float32]


def parted(images: Sequence[ImageCells]) -> dict[tuple[int, int], float]:
    """How well the cells of two classes are parted, for each pair of classes: balanced accuracy, 0..1.

    Each image is judged by a classifier that has not seen it. Every class has at least `FOLDS` images.
    """
    columns = sorted({image.column for image in images})
    folds = _folds([image.column for image in images])
    of_image = np.repeat(np.arange(len(images)), [len(image.cells) for image in images])
    truth = np.array([columns.index(image.column) for image in images])[of_image]
    scores = _held_out(np.concatenate([i.cells for i in images]), truth, folds[of_image], len(columns))
    found = {}
    for a, b in combinations(range(len(columns)), 2):
        shares = [np.mean(scores[truth == own, own] > scores[truth == own, other]) for own, other in ((a, b), (b, a))]
        found[columns[a], columns[b]] = float(np.mean(shares))
    return found


def placed(images: Sequence[ImageCells]) -> float:
    """How well a cell tells where in its image it lies, 0..1: middle or rim, top or bottom, whichever it tells better.

    One half says that it does not: things are anywhere, as in pictures taken from above.
    """
    folds = _folds([image.column for image in images])
    of_image = np.repeat(np.arange(len(images)), [len(image.cells) for image in images])
    cells, places = np.concatenate([i.cells for i in images]), np.concatenate([i.places for i in images])
    found = [0.5]
    for axis, (low, high) in enumerate(((_CENTRE, _RIM), (_UPPER, _LOWER))):
        used = (places[:, axis] < low) | (places[:, axis] > high)
        truth = (places[used, axis] > high).astype(int)
        if min(np.bincount(truth, minlength=2)) >= len(images):
            scores = _held_out(cells[used], truth, folds[of_image[used]], 2)
            right = scores.argmax(axis=1) == truth
            found.append(float(np.mean([right[truth == side].mean() for side in (0, 1)])))
    return max(found)


def _folds(columns: Sequence[int]) -> NDArray[np.intp]:
    """The fold of each image; those of a class go around."""
    found, seen = np.zeros(len(columns), dtype=np.intp), dict.fromkeys(columns, 0)
    for place, column in enumerate(columns):
        found[place], seen[column] = seen[column] % FOLDS, seen[column] + 1
    return found


def _held_out(cells: Cells, truth: NDArray[np.intp], folds: NDArray[np.intp], n: int) -> NDArray[np.float64]:
    """(cells, n) scores of each class, by a fit to the cells of the other folds where every class weighs the same."""
    values = cells.astype(np.float64)
    values = (values - values.mean(axis=0)) / np.maximum(values.std(axis=0), 1e-6)
    values = np.concatenate([values, np.ones((len(values), 1))], axis=1)
    wanted = np.eye(n)[truth]
    scores = np.zeros((len(values), n))
    for fold in range(FOLDS):
        inside = folds != fold
        counts = np.bincount(truth[inside], minlength=n)
        weights = 1 / np.maximum(counts, 1)[truth[inside]] / n
        weighted = values[inside].T * weights
        matrix = weighted @ values[inside] + _RIDGE * np.eye(values.shape[1])
        scores[~inside] = values[~inside] @ np.linalg.solve(matrix, weighted @ wanted[inside])
    return scores
