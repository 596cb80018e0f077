"""The rule that goes by refined seeds, in the pipeline: where the maps give back what was confident."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tag2mask.core.prefetch import prefetch_known
from tag2mask.core.progress import progress
from tag2mask.core.resize import bilinear
from tag2mask.core.types import Sample
from tag2mask.evaluation.confusion import LabelImage
from tag2mask.evaluation.threshold_rules.by_seeds import NAME, Agreement, SeedAgreement
from tag2mask.evaluation.threshold_rules.score_rules import ClassChoice
from tag2mask.methods.artefact import Ruled
from tag2mask.methods.context import StageContext
from tag2mask.thresholds.by_scores import write_choices
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
        DataError: the maps of no class tell anything of the seeds.
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
    write_choices(context, NAME, [_choice(each) for each in counts.best()], len(samples))


def _choice(found: Agreement) -> ClassChoice:
    iou = f"{100 * found.iou:.1f}"
    if found.tells:
        return ClassChoice(found.level, None, None, NAME, f"its maps agree there with what is confident, IoU {iou} %")
    nothing = f"cut or whole, its maps agree with what is confident to {iou} % IoU: they tell nothing"
    return ClassChoice(None, None, None, NAME, nothing if found.iou else "its maps agree with no confident pixel")


def _reader(context: StageContext[SeedAgreementSettings]) -> Callable[[Sample], Read | None]:
    dataset, maps, seeds = context.dataset, context.reads["maps"], context.reads["seeds"]

    def read(sample: Sample) -> Read | None:
        labels = seeds.labels(dataset, sample)
        found = maps.maps(dataset, sample)
        return bilinear(found.maps.float(), *labels.shape).numpy(), found.classes, labels

    return read
