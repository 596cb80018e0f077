"""Raw scores: what a map was before each image's own maximum divided it, on one scale for all images and classes.

A method's raw score of a cell, z (CAM: the logit; LPCAM: a difference of similarities), goes through one fixed
increasing function of the method into [0, 1], the same for every image and class: u. So thresholds, histograms and
background rules take raw scores as they take maps. Of classes that an image is not tagged with only a histogram of u
is kept: it says how high the scores of a class rise where the class is not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool2d

from tag2mask.core.errors import WeightsError
from tag2mask.core.resize import bilinear
from tag2mask.evaluation.threshold_rules.evidence import ABSENT_BINS
from tag2mask.inference.multiscale import MapHead, activation, add_mirror

_CODES = 127
"""Steps that a stored map of u is parted into, from its own smallest value to its largest; a quarter of them would do
(the best IoU of thin cracks at 31 steps, and at half the rows and columns, is within 0.2 points)."""


@dataclass(frozen=True, slots=True)
class RawScores:
    """How a method gives raw scores.

    Attributes:
        head: features of one scale -> z of some classes, of any sign.
        unit: z -> u in [0, 1], increasing and the same for all images and classes; keeps the shape.
        n_classes: C, classes that the head knows, columns 0 to C - 1.
    """

    head: MapHead
    unit: Callable[[Tensor], Tensor]
    n_classes: int

    def every_class(self, device: torch.device) -> Tensor:
        """(C,) int64, all class columns."""
        return torch.arange(self.n_classes, device=device)

    def parted(self, scores: Tensor, tags: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """What is kept of the raw scores of every class.

        Args:
            scores: (C, h, w), z: the mean over the scales.
            tags: K columns of the classes present.

        Returns:
            u of the classes present, (K, h, w) float32 on the CPU; and cells by u of the classes absent, (C, 251)
            int64, at half the rows and columns; the rows of those present are zero.

        Raises:
            WeightsError: a score is NaN or infinite.
        """
        if not torch.isfinite(scores).all():
            raise WeightsError(
                "a raw score is NaN or infinite: the network's features or the classifier's weights are not finite. "
                "Train the classifier again with a smaller lr, or load other weights"
            )
        units = self.unit(scores.float()).clamp(0, 1).cpu()
        present = units[list(tags)]
        absent = cells_by_score(halved(units))
        absent[list(tags)] = 0
        return present, absent


def cells_by_score(units: Tensor) -> Tensor:
    """(K, 251) int64: how many cells of each map (K, h, w) of u round to each 250th."""
    n_maps = len(units)
    bins = (units.flatten(1) * (ABSENT_BINS - 1)).round().long()
    places = bins + torch.arange(n_maps)[:, None] * ABSENT_BINS
    return torch.bincount(places.flatten(), minlength=n_maps * ABSENT_BINS).reshape(n_maps, ABSENT_BINS)


def logit_unit(scores: Tensor) -> Tensor:
    """A cell's logit into [0, 1]: ``1/2 + z / 80``, cut off beyond -40 and 40. 0.5 is probability one half.

    It is a straight line, for a sigmoid presses together what is near certain: of thin and tiny things the best
    threshold lies at logits of 10 to 30, and means and variances of scores (Otsu, midpoints) are those of logits.
    """
    return (0.5 + scores / 80).clamp(0, 1)


def similarity_unit(scores: Tensor) -> Tensor:
    """A difference of mean similarities into [0, 1]: ``(1 + z) / 2``; beyond -1 and 1 it is cut off."""
    return ((1 + scores) / 2).clamp(0, 1)


@dataclass(frozen=True, slots=True)
class CellLogits:
    """The logits of a linear classifier at every cell, with its bias; the mean of the image and its mirror image.

    Attributes:
        weights: (C, D) float32, one row for each class.
        bias: (C,) float32.
    """

    weights: Tensor
    bias: Tensor

    def __call__(self, features: Tensor, classes: Tensor) -> Tensor:
        """Logits (K, h, w) of the class columns ``classes``, as `MapHead` says."""
        rows, bias = (values.to(features.device)[classes] for values in (self.weights, self.bias))
        views = activation(rows, features)
        return add_mirror(views) / len(views) + bias[:, None, None]


def halved(units: Tensor) -> Tensor:
    """Means of 2 x 2 cells: (K, h, w) to (K, ceil(h / 2), ceil(w / 2)); the last row and column may have fewer."""
    if not len(units):
        return units.new_zeros(0, -(-units.shape[1] // 2), -(-units.shape[2] // 2))
    return avg_pool2d(units, 2, ceil_mode=True, count_include_pad=False)


def packed(units: Tensor, absent: Tensor) -> NDArray[np.uint8]:
    """Raw scores as one array of bytes, small once it is deflated.

    Each map is stored at half its rows and columns, from its smallest value to its largest in 127 steps. Of each code
    stays its difference to what its neighbours on the left and above make likely, which is next to nothing on a smooth
    map; counts stay by their bytes, the low ones together. The bytes are: how many a count has, the two ends of each
    map in float32, the codes, the counts.

    Args:
        units: (K, h, w), u of the classes present.
        absent: (C, 251), as `RawScores.parted` gives it.
    """
    values = halved(units.float()).cpu().numpy()
    low, high = values.min(axis=(1, 2), initial=1), values.max(axis=(1, 2), initial=0)
    span = np.where(high > low, high - low, 1)[:, None, None]
    codes = np.rint((values - low[:, None, None]) / span * _CODES).astype(np.uint8)
    for axis in (1, 2):  # modulo 256, undone by sums modulo 256
        codes = np.diff(codes, axis=axis, prepend=np.uint8(0))
    cells = absent.cpu().numpy().astype("<u4")
    most = max(1, (int(cells.max(initial=0)).bit_length() + 7) // 8)
    planes = cells[..., None].view(np.uint8).reshape(*cells.shape, 4)[..., :most]
    limits = np.stack([low, high], axis=1).astype("<f4")
    parts = (limits.reshape(-1).view(np.uint8), codes.ravel(), np.moveaxis(planes, -1, 0).ravel())
    return np.concatenate([np.array([most], np.uint8), *parts])


def unpacked(given: NDArray[np.uint8], n_maps: int, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """What `packed` was given, nearly: u (K, h, w) float32 in [0, 1] at ``size`` = (h, w), and (C, 251) int64.

    Raises:
        ValueError: these are not the bytes of K maps of that size.
    """
    height, width = (-(-side // 2) for side in size)
    ends = np.cumsum([1, 8 * n_maps, n_maps * height * width])
    most, limits, codes, counts = np.split(np.ascontiguousarray(given), ends)
    low, high = np.frombuffer(limits.tobytes(), "<f4").reshape(n_maps, 2).T[..., None, None]
    codes = codes.reshape(n_maps, height, width)
    for axis in (1, 2):
        codes = np.add.accumulate(codes, axis=axis, dtype=np.uint8)
    units = torch.from_numpy(low + codes.astype(np.float32) / _CODES * (high - low))
    whole = bilinear(units, 2 * height, 2 * width)  # each stored cell is two by two, as when it was halved
    planes = counts.reshape(int(most[0]), -1, ABSENT_BINS).astype(np.int64)
    cells = sum((plane << (8 * place) for place, plane in enumerate(planes)), np.zeros(planes.shape[1:], np.int64))
    return whole[:, : size[0], : size[1]], torch.from_numpy(cells)
