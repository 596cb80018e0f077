"""The stages that choose a threshold by a rule."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from tag2mask.core.errors import DataError
from tag2mask.core.progress import progress
from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset
from tag2mask.evaluation.threshold_rules.evidence import ImageEvidence
from tag2mask.evaluation.threshold_rules.rules import RuleChoice, choose, find_rule
from tag2mask.methods.artefact import Ruled
from tag2mask.methods.context import StageContext
from tag2mask.methods.thresholds.gather import agreements, histograms
from tag2mask.methods.thresholds.rules import AgreementSettings, ErasureSettings, RuleSettings, tagged

LOG = logging.getLogger("tag2mask")


def choose_by_rule(context: StageContext) -> None:
    """Write the threshold that the rule finds in the maps; no truth is opened.

    Raises:
        DataError: the maps hold nothing that the rule could go by.
        StageError: maps of an image are missing.
    """
    if context.rank != 0:
        return
    settings: RuleSettings = context.settings
    dataset = context.split(settings.split or "@infer")
    rule, samples = find_rule(settings.rule), tagged(settings, dataset)
    with progress(context.name, len(samples)) as counter:
        images = _evidence(context, dataset, samples, counter.advance)
        found = choose([rule], images, len(dataset.classes), {settings.per}).get(rule.name)
    if found is None:
        raise DataError(
            f"{context.name}: rule '{rule.name}' finds no threshold in the maps of '{context.reads['maps'].name}' on "
            f"{len(samples)} images: they hold nothing to tell an object from its background by (all values equal, or "
            "no tags). Set a fixed threshold instead, or look at the maps"
        )
    chosen = _ruled(found, settings.per, dataset, len(samples))
    LOG.info("%s: %g (rule %s, %d images, maps alone)", context.name, chosen.value, rule.name, chosen.n)
    chosen.write(context.out)


def _evidence(
    context: StageContext, dataset: Dataset, samples: Sequence[Sample], advance: Callable[[], None]
) -> Iterator[ImageEvidence]:
    settings: RuleSettings = context.settings
    read = partial(context.reads["maps"].maps, dataset)
    if isinstance(settings, AgreementSettings):
        return agreements(read, partial(context.reads["other"].maps, dataset), samples, advance)
    if isinstance(settings, ErasureSettings):
        from tag2mask.methods.thresholds.erase import erasures

        folder = context.reads["classifier"].path
        return erasures(folder, dataset, read, samples, settings.fill, context.engine, advance)
    return histograms(read, samples, advance)


def _ruled(found: RuleChoice, per: str, dataset: Dataset, n: int) -> Ruled:
    classes = tuple(zip(dataset.classes, found.classes, strict=True)) if per == "class" else ()
    images = tuple(sorted(found.images.items())) if per == "image" else ()
    return Ruled(found.whole, found.rule, per, n, classes, images)
