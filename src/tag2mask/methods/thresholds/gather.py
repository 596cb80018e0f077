"""Evidence for rules from stored maps, image by image: each is read once, ahead of the counting, and not kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from tag2mask.core.prefetch import ahead
from tag2mask.core.types import ActivationMaps, Sample
from tag2mask.evaluation.threshold_rules.evidence import ImageEvidence, agreement, histogram

Read = Callable[[Sample], ActivationMaps]
"""Gives the stored maps of a sample, (K, h, w); called from several threads."""

_THREADS = 2


def histograms(read: Read, samples: Sequence[Sample], advance: Callable[[], None]) -> Iterator[ImageEvidence]:
    """Histograms of the maps of every sample with a map; ``advance`` is called after each sample."""

    def one(sample: Sample) -> ImageEvidence | None:
        found = read(sample)
        return histogram(sample.id, found.classes, found.maps.float().numpy()) if found.classes else None

    return _counted(one, samples, advance)


def agreements(
    first: Read, second: Read, samples: Sequence[Sample], advance: Callable[[], None]
) -> Iterator[ImageEvidence]:
    """How far two stages of maps agree on every sample with a map.

    Raises:
        DataError: the maps of a sample are not of the same size and classes.
    """

    def one(sample: Sample) -> ImageEvidence | None:
        a, b = first(sample), second(sample)
        if not a.classes and not b.classes:
            return None
        return agreement(sample.id, a.classes, a.maps.float().numpy(), b.maps.float().numpy())

    return _counted(one, samples, advance)


def _counted(
    one: Callable[[Sample], ImageEvidence | None], samples: Sequence[Sample], advance: Callable[[], None]
) -> Iterator[ImageEvidence]:
    for found in ahead(one, samples, _THREADS):
        if found is not None:
            yield found
        advance()
