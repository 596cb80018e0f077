"""The rule that goes by refined seeds, in the pipeline: where the maps give back what was confident."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tag2mask.core.errors import DataError
from tag2mask.core.prefetch import prefetch_known
from tag2mask.core.progress import LOG, progress
from tag2mask.core.resize import bilinear
from tag2mask.core.types import Sample
from tag2mask.evaluation.confusion import LabelImage
from tag2mask.evaluation.threshold_rules.by_seeds import NAME, SeedAgreement
from tag2mask.methods.artefact import Ruled
from tag2mask.methods.context import StageContext
from tag2mask.thresholds.kinds import SeedAgreementSettings
from tag2mask.thresholds.threshold_of import threshold_of

_THREADS = 2
_ANY = 0.5
"""Stands where no threshold decides anything."""

Read = tuple[NDArray[np.float32], tuple[int, ...], LabelImage]


def choose_by_seeds(context: StageContext[SeedAgreementSettings]) -> None:
    """Write the threshold of each class at which its maps agree best with the confident pixels of refined seeds.

    No ground truth is read. Where the background does not compete nothing is looked at: no threshold decides anything.

    Raises:
        DataError: maps and seeds agree nowhere.
        StageError: maps or seeds of an image are missing.
    """
    if context.rank != 0:
        return
    dataset, names = context.dataset, context.dataset.classes
    if not threshold_of(context).background.competes:
        Ruled(_ANY, NAME, "class", len(dataset), tuple((name, _ANY) for name in names)).write(context.out)
        return
    counts, samples = SeedAgreement(len(names)), [s for s in dataset.samples if s.tags]
    with progress(context.name, len(samples)) as counter:
        for maps, classes, seeds in prefetch_known(_reader(context), samples, _THREADS, counter.advance):
            counts.update(maps, classes, seeds)
    found = counts.best()
    for name, one in zip(names, found, strict=True):
        said = "agrees with no confident pixel" if one is None else f"at {one[0]:g}, IoU {100 * one[1]:.1f}"
        LOG.info("%s: '%s' %s", context.name, name, said)
    values = [one[0] for one in found if one is not None]
    if not values:
        raise DataError(
            f"{context.name}: the maps of '{context.reads['maps'].name}' agree with '{context.reads['seeds'].name}' "
            f"on no pixel of {len(samples)} images, so nothing says where they end. Look at both, or set a fixed "
            "threshold instead"
        )
    classes_at = tuple((name, None if one is None else one[0]) for name, one in zip(names, found, strict=True))
    Ruled(round(statistics.median(values), 4), NAME, "class", len(samples), classes_at).write(context.out)


def _reader(context: StageContext[SeedAgreementSettings]) -> Callable[[Sample], Read | None]:
    dataset, maps, seeds = context.dataset, context.reads["maps"], context.reads["seeds"]

    def read(sample: Sample) -> Read | None:
        labels = seeds.labels(dataset, sample)
        found = maps.maps(dataset, sample)
        return bilinear(found.maps.float(), *labels.shape).numpy(), found.classes, labels

    return read
