"""Evidence for the rules that choose a threshold: of stored maps, and of a classifier that sees parts of an image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from torch import Tensor

from tag2mask.config.engine import Engine
from tag2mask.core.errors import DataError
from tag2mask.core.prefetch import prefetch_known
from tag2mask.core.resize import bilinear
from tag2mask.core.types import ActivationMaps, Sample
from tag2mask.data.base import Dataset
from tag2mask.evaluation.threshold_rules.evidence import PROBED, ImageEvidence, agreement, erasure, histogram
from tag2mask.methods.cam.classifier import LoadedClassifier, load_classifier

Read = Callable[[Sample], ActivationMaps]
"""Gives the stored maps of a sample, (K, h, w); called from several threads."""

_THREADS = 2


def histograms(read: Read, samples: Sequence[Sample], advance: Callable[[], None]) -> Iterator[ImageEvidence]:
    """Histograms of the maps of every sample with a map; ``advance`` is called after each sample."""

    def one(sample: Sample) -> ImageEvidence | None:
        found = read(sample)
        return histogram(sample.id, found.classes, found.maps.float().numpy()) if found.classes else None

    return prefetch_known(one, samples, _THREADS, advance)


def agreements(
    first: Read, second: Read, samples: Sequence[Sample], advance: Callable[[], None]
) -> Iterator[ImageEvidence]:
    """How far two stages of maps agree on every sample with a map."""

    def one(sample: Sample) -> ImageEvidence | None:
        a, b = first(sample), second(sample)
        if not a.classes and not b.classes:
            return None
        return agreement(sample.id, a.classes, a.maps.float().numpy(), b.maps.float().numpy())

    return prefetch_known(one, samples, _THREADS, advance)


_BLUR = 16
"""The blur's standard deviation is this part of the long side: shapes go, colours stay."""


@dataclass(frozen=True, slots=True)
class Erased:
    """One image as the classifier will see it."""

    sample: Sample
    maps: ActivationMaps  # at the size of the image that the classifier sees
    image: Tensor  # (3, H, W), normalised
    fill: Tensor  # (3, H, W), what stands where it is erased


def erasures(
    folder: Path,
    dataset: Dataset,
    read: Read,
    samples: Sequence[Sample],
    fill: str,
    engine: Engine,
    advance: Callable[[], None],
) -> Iterator[ImageEvidence]:
    """What a classifier says of the regions of every sample with a map, alone and erased.

    The region of a class is where its seeds are: its map is the largest and above the threshold. ``folder`` is as the
    training of the classifier left it; ``fill`` is ``mean`` (its training's mean colour) or ``blur`` (the image,
    blurred).
    """
    classifier = load_classifier(folder, engine)
    if classifier.classes != dataset.classes:
        raise DataError(
            f"split '{dataset.split}' has the classes {list(dataset.classes)}, the classifier in {folder} was trained "
            f"on {list(classifier.classes)}: give both the same data.classes"
        )

    def prepare(sample: Sample) -> Erased | None:
        found = read(sample)
        if not found.classes:
            return None
        photo = dataset.image(sample)
        size = classifier.size(photo)
        maps = ActivationMaps(found.classes, bilinear(found.maps.float(), *size))
        return Erased(sample, maps, classifier.tensor(photo, size), _filling(photo, size, classifier, fill))

    for given in prefetch_known(prepare, samples, advance=advance):
        yield probe(classifier, given)


def _filling(photo: Image.Image, size: Sequence[int], classifier: LoadedClassifier, fill: str) -> Tensor:
    if fill == "mean":
        return torch.zeros(3, *size)  # of a normalised image
    small = photo.resize((size[1], size[0]), Image.Resampling.BICUBIC)
    return classifier.tensor(small.filter(ImageFilter.GaussianBlur(max(size) / _BLUR)), size)


def probe(classifier: LoadedClassifier, given: Erased) -> ImageEvidence:
    """The evidence of one image: every present class at every threshold of `PROBED`."""
    masks = regions(given.maps.maps)
    image, fill = given.image.to(classifier.device), given.fill.to(classifier.device)

    def probabilities(kept: Sequence[Tensor]) -> NDArray[np.float64]:
        """(N, C) of the image where only what a mask (H, W) holds is left."""
        return classifier.probabilities([torch.where(mask.to(classifier.device), image, fill) for mask in kept])

    whole, nothing = probabilities([torch.ones_like(masks[0, 0]), torch.zeros_like(masks[0, 0])])
    columns = list(given.maps.classes)
    gains = np.stack(
        [
            probabilities(list(mine))[:, column] - probabilities(list(~mine))[:, column]
            for column, mine in zip(columns, masks, strict=True)
        ]
    )
    areas = masks.double().mean(dim=(2, 3)).numpy()
    return erasure(given.sample.id, columns, gains, areas, (whole - nothing)[columns])


def regions(maps: Tensor) -> Tensor:
    """(K, 19, H, W): where the seeds of each map (K, H, W) are, at each threshold of `PROBED`."""
    values, largest = maps.max(dim=0)
    above = torch.stack([values > t for t in torch.tensor(PROBED)])
    own = torch.stack([largest == k for k in range(len(maps))])
    return own[:, None] & above
