"""The stages that choose a threshold: on a few hand-made masks, or by a rule."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial

from tag2mask.core.errors import DataError
from tag2mask.core.files import write_json
from tag2mask.core.progress import LOG, progress
from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset
from tag2mask.evaluation.background import rule_on
from tag2mask.evaluation.seeds import evaluate_seeds
from tag2mask.evaluation.threshold_rules.evidence import ImageEvidence
from tag2mask.evaluation.threshold_rules.few_masks import count_images, resample
from tag2mask.evaluation.threshold_rules.rules import RuleChoice, choose_thresholds, find_rule
from tag2mask.methods.artefact import FewMasks, Ruled
from tag2mask.methods.context import StageContext
from tag2mask.thresholds.by_scores import choose_by_scores
from tag2mask.thresholds.evidence import agreements, histograms
from tag2mask.thresholds.kinds import AgreementSettings, ErasureSettings, FewMasksSettings, RuleSettings, listed, tagged

UNCERTAINTY = "uncertainty.json"
"""How far another choice of masks could have moved the threshold: the fields of `Uncertainty`."""


def choose_on_few_masks(context: StageContext[FewMasksSettings]) -> None:
    """Write the threshold at which the seeds of the listed images, and of no others, have the best mIoU.

    Beside it stands what the masks themselves say of its uncertainty.

    Raises:
        DataError: too few images have ground truth, or maps and ground truth do not fit.
    """
    if context.rank != 0:
        return
    settings = context.settings
    dataset, rule = context.dataset, rule_on(context.background, context.settings.background)
    samples, maps = listed(settings, dataset), context.reads["maps"]
    read = partial(maps.maps, dataset, scores=settings.scores)
    with progress(context.name, len(samples)) as counter:
        found = evaluate_seeds(
            dataset, read, background=rule, samples=samples, advance=counter.advance,
        )  # fmt: skip
    found.check()
    (best,) = found.scores  # the oracle of these images
    assert best.threshold.value is not None
    chosen = FewMasks(best.threshold.value, len(samples), tuple(s.id for s in samples), round(best.scores.miou, 4))
    counts = count_images(dataset, read, samples, background=rule)
    sure = resample(counts, len(dataset.classes) + 1)
    LOG.info(
        "%s: %g on %d images (%.1f mIoU of %s, the classes alone %.1f, their F1 %.1f); other masks would give %g to "
        "%g (%d %%), expected loss %.1f points",
        context.name, chosen.value, chosen.n, chosen.miou, maps.name, best.scores.mean("iou"),
        best.scores.f1_foreground, sure.low, sure.high, round(100 * sure.level), sure.expected_loss,
    )  # fmt: skip
    chosen.write(context.out)
    write_json(context.out / UNCERTAINTY, asdict(sure))


def choose_by_rule(context: StageContext[RuleSettings]) -> None:
    """Write the threshold that the rule finds in the maps; no ground truth is read.

    Raises:
        DataError: the maps hold nothing that the rule could go by.
        StageError: maps of an image are missing.
    """
    if context.rank != 0:
        return
    settings = context.settings
    if settings.by_scores:
        choose_by_scores(context)
        return
    dataset = context.dataset
    rule, samples = find_rule(settings.rule), tagged(settings, dataset)
    with progress(context.name, len(samples)) as counter:
        images = _evidence(context, dataset, samples, counter.advance)
        found = choose_thresholds([rule], images, len(dataset.classes), {settings.per}).get(rule.name)
    if found is None:
        raise DataError(
            f"{context.name}: rule '{rule.name}' finds no threshold in the maps of '{context.reads['maps'].name}' on "
            f"{len(samples)} images: nothing distinguishes an object from its background (all values equal, or "
            "no tags). Set a fixed threshold instead, or look at the maps"
        )
    chosen = _ruled(found, settings.per, dataset, len(samples))
    LOG.info("%s: %g (rule %s, %d images, maps alone)", context.name, chosen.value, rule.name, chosen.n)
    chosen.write(context.out)


def _evidence(
    context: StageContext[RuleSettings], dataset: Dataset, samples: Sequence[Sample], advance: Callable[[], None]
) -> Iterator[ImageEvidence]:
    settings = context.settings
    read = partial(context.reads["maps"].maps, dataset, scores=settings.scores)
    if isinstance(settings, AgreementSettings):
        return agreements(read, partial(context.reads["other"].maps, dataset, scores=settings.scores), samples, advance)
    if isinstance(settings, ErasureSettings):
        from tag2mask.thresholds.evidence import erasures

        folder = context.reads["classifier"].path
        return erasures(folder, dataset, read, samples, settings.fill, context.engine, advance)
    return histograms(read, samples, advance)


def _ruled(found: RuleChoice, per: str, dataset: Dataset, n: int) -> Ruled:
    classes = tuple(zip(dataset.classes, found.classes, strict=True)) if per == "class" else ()
    images = tuple(sorted(found.images.items())) if per == "image" else ()
    return Ruled(found.whole, found.rule, per, n, classes, images)
