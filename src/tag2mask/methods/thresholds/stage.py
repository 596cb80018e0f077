"""Choosing a threshold on a few hand-made masks."""

from __future__ import annotations

import logging
from functools import partial

from tag2mask.core.progress import progress
from tag2mask.evaluation.seeds import evaluate_seeds
from tag2mask.methods.artefact import FewMasks
from tag2mask.methods.context import StageContext
from tag2mask.methods.thresholds.kinds import FewMasksSettings, listed

LOG = logging.getLogger("tag2mask")


def choose(context: StageContext) -> None:
    """Write the threshold at which the seeds of the listed images, and of no others, have the best mIoU.

    Raises:
        DataError: too few images have a truth, or maps and truth do not fit.
    """
    if context.rank != 0:
        return
    settings: FewMasksSettings = context.settings
    dataset = context.split(settings.split or "@infer")
    samples, maps = listed(settings, dataset), context.reads["maps"]
    with progress(context.name, len(samples)) as counter:
        found = evaluate_seeds(dataset, partial(maps.maps, dataset), samples=samples, advance=counter.advance)
    (best,) = found.scores  # the oracle of these images
    assert best.threshold.value is not None
    chosen = FewMasks(best.threshold.value, len(samples), tuple(s.id for s in samples), round(best.scores.miou, 4))
    LOG.info("%s: %g on %d images (%.1f mIoU of %s)", context.name, chosen.value, chosen.n, chosen.miou, maps.name)
    chosen.write(context.out)
