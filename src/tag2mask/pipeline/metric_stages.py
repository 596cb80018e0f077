"""The stages that measure seeds, masks and the boundaries of masks against ground truth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from functools import partial
from typing import Literal

from pydantic import Field

from tag2mask.config.settings import UNPRINTED, Settings
from tag2mask.core.errors import DataError, nothing_shown
from tag2mask.core.progress import LOG, progress
from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset
from tag2mask.evaluation.background import CONSTANT, rule_on
from tag2mask.evaluation.boundary import SHARE, BoundaryMetrics
from tag2mask.evaluation.confusion import LabelImage
from tag2mask.evaluation.label_images import MaskEvaluation, compared, evaluate_masks
from tag2mask.evaluation.metrics import SegmentationMetrics
from tag2mask.evaluation.result_tables import METRICS, TRIVIAL, Scores, now, score_rows, write_cells, write_metrics
from tag2mask.evaluation.seeds import SeedEvaluation, evaluate_seeds
from tag2mask.evaluation.threshold_sweep import CurvePoint
from tag2mask.evaluation.thresholds import Threshold
from tag2mask.inference.settings import ScoreChoice, reads_raw
from tag2mask.methods.artefact import Artefact
from tag2mask.methods.context import StageContext
from tag2mask.methods.stage_kinds import Makes, Measures, MetricStage, SplitRole
from tag2mask.thresholds.threshold_of import BackgroundRule, threshold_of

CURVE, IMAGES = "curve.csv", "images.csv"


class SeedsSettings(Settings):
    """How seeds are evaluated."""

    threshold: float = Field(0.3, ge=0, le=1, description="seeds are cut where the maps exceed it")
    threshold_kind: Literal["fixed", "published"] = Field("fixed", description="who chose it, and on what")
    oracle: bool = Field(True, description="also the threshold that is best on the ground truth of the split itself")
    split: str | None = Field(None, description="a split of the data; null: the one whose maps were made")
    background: BackgroundRule = Field(
        CONSTANT, description="rule by which maps are cut at every threshold", json_schema_extra=UNPRINTED
    )
    scores: ScoreChoice = "normalised"


class MasksSettings(Settings):
    """How label images are evaluated."""

    unsure: bool = Field(
        False, description="they are refined seeds, 255 where not confident: coverage and such, never mIoU"
    )
    split: str | None = Field(None, description="a split of the data; null: the one whose masks were made")


class BoundarySettings(Settings):
    """How the boundaries of label images are measured."""

    share: float = Field(
        default=SHARE, gt=0, lt=1, description="width of Boundary IoU's band as a share of the image's diagonal"
    )
    split: str | None = Field(default=None, description="a split of the data; null: the one whose masks were made")


def measure_seeds(context: StageContext[SeedsSettings]) -> None:
    """Evaluate the seeds of one method: ``metrics.jsonl``, the curve over thresholds, a score for each image.

    At the threshold that is read, if one is, at the settings' own (but of raw scores, on whose scale none is fixed in
    advance), and at the oracle. On data without ground truth the stage logs that and writes no rows.
    """
    settings = context.settings
    dataset, maps = _with_truth(context), context.reads["maps"]
    if dataset is None:
        return
    rule = rule_on(context.background, settings.background)
    own = Threshold(settings.threshold, settings.threshold_kind, background=rule, scores=settings.scores)
    read = threshold_of(context)
    thresholds = [read] if "threshold" in context.reads and settings.scores == "raw" else [read, own]
    samples = unseen(context.reads.values(), dataset, context.name)
    with progress(context.name, len(samples)) as counter:
        found = evaluate_seeds(
            dataset,
            partial(maps.maps, dataset, scores=settings.scores),
            list(dict.fromkeys(thresholds)),
            oracle=settings.oracle and rule.competes,
            samples=samples,
            advance=counter.advance,
        )
    _log_left_out(context, found)
    rows = found.rows(stage=maps.name, method=maps.base_name, seed=context.seed, time=now())
    write_metrics(context.out / METRICS, rows)
    _write_trivial(context, dataset, found)
    names = [f.name for f in fields(CurvePoint)]
    points = [[f"{getattr(point, name):.4f}" for name in names] for point in found.curve]
    write_cells(context.out / CURVE, names, points)
    write_cells(context.out / IMAGES, ["image", "miou"], [[i.id, f"{i.miou:.4f}"] for i in found.images])


def measure_masks(context: StageContext[MasksSettings]) -> None:
    """Evaluate label images: ``metrics.jsonl`` and a score for each image; without ground truth as `measure_seeds`."""
    dataset, masks = _with_truth(context), context.reads["masks"]
    if dataset is None:
        return
    samples, unsure = unseen(context.reads.values(), dataset, context.name), context.settings.unsure
    with progress(context.name, len(samples)) as counter:
        found = evaluate_masks(
            dataset, partial(masks.labels, dataset), unsure=unsure, samples=samples, advance=counter.advance
        )
    _log_left_out(context, found)
    _write_scores(context, dataset, found, found.n_images)
    _write_trivial(context, dataset, found)
    lines = [[i.id, *(f"{value:.4f}" for value in i.values)] for i in found.images]
    write_cells(context.out / IMAGES, ["image", *found.image_metrics], lines)


def _write_scores(context: StageContext[Settings], dataset: Dataset, scores: Scores, n_images: int) -> None:
    masks = context.reads["masks"]
    rows = score_rows(
        scores, threshold_of(masks), stage=masks.name, method=masks.base_name, split=dataset.split,
        n_images=n_images, seed=context.seed, time=now(),
    )  # fmt: skip
    write_metrics(context.out / METRICS, rows)


def _write_trivial(context: StageContext[Settings], dataset: Dataset, found: SeedEvaluation | MaskEvaluation) -> None:
    """What trivial answers reach on the same images, in a file of its own: it says nothing of the stage."""
    assert found.trivial is not None
    write_metrics(context.out / TRIVIAL, found.trivial.rows(split=dataset.split, seed=context.seed, time=now()))


def _with_truth(context: StageContext[Settings]) -> Dataset | None:
    """The split to measure on; None in processes that do not write, and where there is no ground truth."""
    dataset = context.split
    if context.rank != 0:
        return None
    if dataset is not None and dataset.has_truth:
        return dataset
    reason = "the data has no such split" if dataset is None else f"split '{dataset.split}' has no ground truth"
    LOG.info("%s: %s; nothing is measured", context.name, reason)
    write_metrics(context.out / METRICS, [])
    return None


def unseen(artefacts: Iterable[Artefact], dataset: Dataset, name: str) -> list[Sample]:
    """The samples of a split without those whose ground truth decided something behind some artefacts.

    Args:
        artefacts: what is measured, and thresholds beside it.
        dataset: the split.
        name: of the stage, for the error text.

    Raises:
        DataError: no sample is left.
    """
    seen = frozenset[str]().union(*(artefact.masks_seen() for artefact in artefacts))
    samples = [s for s in dataset.samples if s.id not in seen]
    if not samples:
        raise DataError(
            f"{name}: a threshold or a stage was chosen on the ground truth of all {len(dataset)} images of split "
            f"'{dataset.split}', so none is left to measure on; set a smaller n in that stage, such as few-masks"
        )
    return samples


def _log_left_out(context: StageContext[Settings], found: SeedEvaluation | MaskEvaluation) -> None:
    if found.n_without_truth:
        LOG.warning("%s: %d images without ground truth are left out", context.name, found.n_without_truth)
    log_nothing_shown(context.name, found)


def log_nothing_shown(name: str, found: SeedEvaluation | MaskEvaluation) -> None:
    """Log why there is no mIoU where the ground truth shows no class, and what to do."""
    if not found.shows_classes:
        where = f"the ground truth of the {found.n_images} images of split '{found.split}'"
        LOG.warning("%s: %s", name, nothing_shown(where))


def measure_boundary(context: StageContext[BoundarySettings]) -> None:
    """Boundary IoU and trimaps of label images: ``metrics.jsonl``; without ground truth as `measure_seeds`."""
    dataset, masks = _with_truth(context), context.reads["masks"]
    if dataset is None:
        return
    samples = unseen(context.reads.values(), dataset, context.name)
    with progress(context.name, len(samples)) as counter:
        found = boundary_of(dataset, partial(masks.labels, dataset), samples, context.settings.share, counter.advance)
    _write_scores(context, dataset, found.compute(), found.n_images)


def boundary_of(
    dataset: Dataset,
    read: Callable[[Sample], LabelImage],
    samples: Sequence[Sample],
    share: float,
    advance: Callable[[], None],
    whole: SegmentationMetrics | None = None,
) -> BoundaryMetrics:
    """The counts of every sample with ground truth.

    Args:
        dataset: the split.
        read: gives the labels of a sample; called from several threads.
        samples: of the split.
        share: width of the band as a share of the diagonal.
        advance: called after each sample.
        whole: counts the same images as a whole, where given.

    Raises:
        DataError: no sample has ground truth, or labels and ground truth do not fit.
    """
    metrics = BoundaryMetrics(dataset.classes, share=share)
    for image in compared(dataset, read, samples, advance=advance):
        metrics.update(*image)
        if whole is not None:
            whole.update(*image)
    if not metrics.n_images:
        raise DataError(
            f"no image of split '{dataset.split}' has ground truth, so no boundary can be measured. Give masks drawn "
            "by hand, or measure a split that has them"
        )
    return metrics


KINDS = (
    MetricStage(
        name="seeds",
        settings=SeedsSettings,
        reads={"maps": Makes.MAPS},
        may_read={"threshold": Makes.THRESHOLD},
        runner="tag2mask.pipeline.metric_stages:measure_seeds",
        version=2,
        split=lambda settings: settings.split or SplitRole.READ,
        threshold=lambda own: Threshold(
            own.threshold, own.threshold_kind, background=own.background, scores=own.scores
        ),
        reads_raw=reads_raw,
        sidecars=lambda own: frozenset(own.background.sidecars),
        supervision=lambda own: own.background.supervision,
        follows_background=True,
        measures=Measures.MIOU,
    ),
    MetricStage(
        name="masks",
        settings=MasksSettings,
        reads={"masks": Makes.MASKS},
        may_read={"threshold": Makes.THRESHOLD},
        runner="tag2mask.pipeline.metric_stages:measure_masks",
        version=2,
        split=lambda settings: settings.split or SplitRole.READ,
        measures=lambda settings: Measures.COVERAGE if settings.unsure else Measures.MIOU,
    ),
    MetricStage(
        name="boundary",
        settings=BoundarySettings,
        reads={"masks": Makes.MASKS},
        may_read={"threshold": Makes.THRESHOLD},
        runner="tag2mask.pipeline.metric_stages:measure_boundary",
        split=lambda settings: settings.split or SplitRole.READ,
    ),
)
