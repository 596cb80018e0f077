"""The stage that measures the boundaries of label images, beside the stage ``masks`` that measures their mIoU."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial

from pydantic import Field

from tag2mask.config.settings import Settings
from tag2mask.core.errors import DataError
from tag2mask.core.prefetch import ahead
from tag2mask.core.progress import progress
from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset
from tag2mask.evaluation.boundary import SHARE, BoundaryMetrics
from tag2mask.evaluation.confusion import LabelImage
from tag2mask.evaluation.metrics import SegmentationMetrics
from tag2mask.evaluation.result_tables import score_rows, write_metrics
from tag2mask.methods.context import StageContext
from tag2mask.methods.registry import StageKind
from tag2mask.pipeline.metric_stages import METRICS, now, unseen
from tag2mask.thresholds.threshold_of import threshold_of

LOG = logging.getLogger("tag2mask")


class BoundarySettings(Settings):
    """How the boundaries of label images are measured."""

    share: float = Field(
        default=SHARE, gt=0, lt=1, description="width of Boundary IoU's band as a share of the image's diagonal"
    )
    split: str | None = Field(default=None, description="a split of the data; null: the one whose masks were made")


def measure_boundary(context: StageContext) -> None:
    """Boundary IoU and trimaps of label images: ``metrics.jsonl``; no numbers, and no error, without any truth."""
    settings: BoundarySettings = context.settings
    dataset, masks = context.dataset, context.reads["masks"]
    if context.rank != 0:
        return
    if dataset is None or not dataset.has_truth:
        LOG.info("%s: no truth, so nothing is measured", context.name)
        write_metrics(context.out / METRICS, [])
        return
    samples = unseen(context.reads.values(), dataset, context.name)
    with progress(context.name, len(samples)) as counter:
        found = boundary_of(dataset, partial(masks.labels, dataset), samples, settings.share, counter.advance)
    rows = score_rows(
        found.compute(), threshold_of(masks), stage=masks.name, method=masks.name.partition("@")[0],
        split=dataset.split, n_images=found.n_images, seed=context.seed, time=now(),
    )  # fmt: skip
    write_metrics(context.out / METRICS, rows)


def boundary_of(
    dataset: Dataset,
    read: Callable[[Sample], LabelImage],
    samples: Sequence[Sample],
    share: float,
    advance: Callable[[], None],
    whole: SegmentationMetrics | None = None,
) -> BoundaryMetrics:
    """The counts of every sample with a truth.

    Args:
        dataset: the split.
        read: gives the labels of a sample; called from several threads.
        samples: of the split.
        share: width of the band as a share of the diagonal.
        advance: called after each sample.
        whole: counts the same images as a whole, where given.

    Raises:
        DataError: no sample has a truth, or labels and truth do not fit.
    """

    def pair(sample: Sample) -> tuple[Sample, tuple[LabelImage, LabelImage] | None]:
        truth = dataset.truth(sample)
        return sample, None if truth is None else (read(sample), truth)

    metrics = BoundaryMetrics(dataset.classes, share=share)
    for sample, both in ahead(pair, samples):
        if both is not None:
            metrics.update(*both, sample.id)
            if whole is not None:
                whole.update(*both, sample.id)
        advance()
    if not metrics.n_images:
        raise DataError(
            f"no image of split '{dataset.split}' has a truth, so no boundary can be measured. Give masks drawn by "
            "hand, or measure a split that has them"
        )
    return metrics


KINDS = (
    StageKind(
        name="boundary",
        makes="metrics",
        settings=BoundarySettings,
        reads={"masks": "masks"},
        may_read={"threshold": "threshold"},
        runner="tag2mask.pipeline.boundary_stage:measure_boundary",
    ),
)
