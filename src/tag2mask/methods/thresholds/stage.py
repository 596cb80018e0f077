"""Choosing a threshold on a few hand-made masks."""

from __future__ import annotations

import logging
from dataclasses import asdict
from functools import partial

from tag2mask.core.files import write_json
from tag2mask.core.progress import progress
from tag2mask.evaluation.few_masks import count_images, resample
from tag2mask.evaluation.seeds import evaluate_seeds
from tag2mask.methods.artefact import FewMasks
from tag2mask.methods.context import StageContext
from tag2mask.methods.thresholds.kinds import FewMasksSettings, listed

LOG = logging.getLogger("tag2mask")
UNCERTAINTY = "uncertainty.json"
"""How far another choice of masks could have moved the threshold: the fields of `Uncertainty`."""


def choose(context: StageContext) -> None:
    """Write the threshold at which the seeds of the listed images, and of no others, have the best mIoU.

    Beside it stands what the masks themselves say of its uncertainty.

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
    found.check()
    (best,) = found.scores  # the oracle of these images
    assert best.threshold.value is not None
    chosen = FewMasks(best.threshold.value, len(samples), tuple(s.id for s in samples), round(best.scores.miou, 4))
    sure = resample(count_images(dataset, partial(maps.maps, dataset), samples), len(dataset.classes) + 1)
    LOG.info(
        "%s: %g on %d images (%.1f mIoU of %s); other masks would give %g to %g (%d %%), expected loss %.1f points",
        context.name, chosen.value, chosen.n, chosen.miou, maps.name, sure.low, sure.high, round(100 * sure.level),
        sure.expected_loss,
    )  # fmt: skip
    chosen.write(context.out)
    write_json(context.out / UNCERTAINTY, asdict(sure))
