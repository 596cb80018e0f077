"""The stages that measure: seeds against the truth, tags against a classifier. Torch is imported when they run."""

from __future__ import annotations

import csv
import io
import logging
from datetime import UTC, datetime
from typing import Literal

from pydantic import Field

from tag2mask.config.settings import Settings
from tag2mask.core.files import write_json, write_text
from tag2mask.core.progress import progress
from tag2mask.data.base import Dataset
from tag2mask.evaluation.rows import MetricRow, write_metrics
from tag2mask.evaluation.seeds import SeedEvaluation, evaluate_seeds
from tag2mask.evaluation.thresholds import Threshold
from tag2mask.methods.context import StageContext
from tag2mask.methods.registry import StageKind

LOG = logging.getLogger("tag2mask")
METRICS, CURVE, IMAGES = "metrics.jsonl", "curve.csv", "images.csv"


class SeedsSettings(Settings):
    """How seeds are evaluated."""

    threshold: float = Field(0.3, ge=0, le=1, description="seeds are cut where the maps exceed it")
    threshold_kind: Literal["fixed", "published"] = Field("fixed", description="who chose it, and on what")
    oracle: bool = Field(True, description="also the threshold that is best against the truth of the split itself")
    split: str | None = Field(None, description="a split of the data; null: the one whose maps were made")


class PrecisionSettings(Settings):
    """How the classifier is measured."""

    split: str | None = Field(None, description="a split of the data; null: data.val")


def measure_seeds(context: StageContext) -> None:
    """Evaluate the seeds of one method: ``metrics.jsonl``, the curve over thresholds, a score for each image.

    Data without any truth is no error: the stage says so and writes no numbers.
    """
    if context.rank != 0:
        return
    settings: SeedsSettings = context.settings
    dataset = context.split(settings.split or "@infer")
    maps = context.reads["maps"]
    if not dataset.has_truth:
        LOG.info("%s: split '%s' has no truth; nothing is measured", context.name, dataset.split)
        write_metrics(context.out / METRICS, [])
        return
    with progress(context.name, len(dataset)) as counter:
        found = evaluate_seeds(
            dataset,
            lambda sample: maps.maps(dataset, sample),
            [Threshold(settings.threshold, settings.threshold_kind)],
            oracle=settings.oracle,
            advance=counter.advance,
        )
    if found.n_without_truth:
        LOG.warning("%s: %d images without a truth are left out", context.name, found.n_without_truth)
    rows = found.rows(stage=maps.name, method=maps.name.partition("@")[0], seed=context.seed, time=now())
    write_metrics(context.out / METRICS, rows)
    write_text(context.out / CURVE, _curve(found))
    write_text(context.out / IMAGES, _table(["image", "miou"], [[i.id, f"{i.miou:.4f}"] for i in found.images]))


def measure_tags(context: StageContext) -> None:
    """Average precision of the classifier for each class, on a held-out split."""
    from tag2mask.methods.cam.classifier import average_precision, mean_precision

    settings: PrecisionSettings = context.settings
    dataset = context.open_split(settings.split or "@val")
    if context.rank != 0:
        return
    if dataset is None:
        LOG.info("%s: the data has no held-out split; nothing is measured", context.name)
        write_metrics(context.out / METRICS, [])
        return
    source = context.reads["classifier"]
    found = average_precision(source.path, dataset, context.engine)
    write_json(context.out / "average-precision.json", found)
    named = {"map": mean_precision(found), **{f"ap/{name}": value for name, value in found.items()}}
    rows = [_precision_row(context, dataset, source.name, metric, value) for metric, value in named.items()]
    write_metrics(context.out / METRICS, rows)


def _precision_row(context: StageContext, dataset: Dataset, stage: str, metric: str, value: float | None) -> MetricRow:
    return MetricRow(
        stage, stage.partition("@")[0], dataset.split, len(dataset), metric, value, None, "none", context.seed, now()
    )


def _curve(found: SeedEvaluation) -> str:
    fields = list(type(found.curve[0]).__dataclass_fields__)
    return _table(fields, [[f"{getattr(point, f):.4f}" for f in fields] for point in found.curve])


def _table(header: list[str], lines: list[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *lines])
    return text.getvalue()


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


KINDS = (
    StageKind(
        name="seeds",
        makes="metrics",
        settings=SeedsSettings,
        reads={"maps": "maps"},
        runner="tag2mask.pipeline.measures:measure_seeds",
    ),
    StageKind(
        name="average-precision",
        makes="metrics",
        settings=PrecisionSettings,
        reads={"classifier": "weights"},
        runner="tag2mask.pipeline.measures:measure_tags",
        split="val",
    ),
)
