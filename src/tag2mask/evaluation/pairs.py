"""Maps beside their truth, image by image, at the truth's size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tag2mask.core.errors import DataError
from tag2mask.core.prefetch import ahead
from tag2mask.core.types import ActivationMaps, Sample
from tag2mask.data.base import Dataset
from tag2mask.evaluation.confusion import LabelImage


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """The maps and the truth of one image.

    Attributes:
        sample: the image and its tags.
        truth: (H, W) labels 0..C, 255 void.
        classes: K class columns, one for each map.
        maps: (K, H, W) float32, bilinearly resized to the truth.
    """

    sample: Sample
    truth: LabelImage
    classes: tuple[int, ...]
    maps: NDArray[np.float32]


def pairs(
    dataset: Dataset,
    read_maps: Callable[[Sample], ActivationMaps],
    samples: Sequence[Sample],
    *,
    threads: int = 2,
    advance: Callable[[], None] | None = None,
) -> Iterator[Pair]:
    """Maps and truth of every sample that has a truth, in order.

    Args:
        dataset: the split.
        read_maps: gives a sample's maps, (K, h, w) of any size; called from several threads.
        samples: those of the split to go over.
        threads: how many images are read and resized ahead.
        advance: called after each image, those without a truth included.

    Raises:
        DataError: at the end, where no image had a truth.
    """
    found = False
    for pair in ahead(lambda sample: _read(dataset, read_maps, sample), samples, threads):
        if pair is not None:
            found = True
            yield pair
        if advance is not None:
            advance()
    if not found:
        raise DataError(
            f"no image of split '{dataset.split}' has a truth, so its seeds cannot be evaluated. Give masks, or "
            "evaluate a split that has them"
        )


def _read(dataset: Dataset, read_maps: Callable[[Sample], ActivationMaps], sample: Sample) -> Pair | None:
    truth = dataset.truth(sample)
    if truth is None:
        return None
    found = read_maps(sample)
    maps = ActivationMaps(found.classes, found.maps.float()).resize(*truth.shape).maps
    return Pair(sample, truth, found.classes, maps.cpu().numpy())
