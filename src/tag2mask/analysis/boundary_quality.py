"""Boundary quality of the masks of a finished run, beside their mIoU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tag2mask.analysis.map_thresholds import FOLDER, Analysis
from tag2mask.analysis.mask_quality_inputs import JudgedMasks, find_judged, judgeable
from tag2mask.core.errors import ConfigError, command
from tag2mask.core.progress import progress
from tag2mask.evaluation.boundary import SHARE
from tag2mask.evaluation.metrics import SegmentationMetrics
from tag2mask.evaluation.result_tables import ResultRow, now, score_rows, write_results
from tag2mask.pipeline.metric_stages import boundary_of, unseen

BOUNDARY = "boundary"


def analyse_boundaries(
    run: Path, *, stages: Sequence[str] = (), share: float = SHARE, out: Path | None = None
) -> Analysis:
    """Measure mIoU, Boundary IoU and trimaps of the masks of a run; writes ``boundary.csv``.

    Args:
        run: the run folder.
        stages: of masks without unsure pixels, of predictions, or of maps that another stage cuts; all where empty.
        share: width of Boundary IoU's band as a share of the image's diagonal.
        out: folder for the file; ``analysis`` in the run folder where None.

    Raises:
        StageError: no run, stages that are not finished, missing or outdated files, or a file that cannot be written.
        ConfigError: an unknown stage or one without masks, a run without any, or a share outside its range.
        DataError: no image has a truth.
    """
    names = tuple(stages) or judgeable(run)
    if not names:
        raise ConfigError(f"{run} has no finished stage of masks, nor of maps that another stage cuts; go on with it")
    numbers = tuple((name, _measure(run, find_judged(run, name), share)) for name in names)
    table = (out or run / FOLDER) / f"{BOUNDARY}.csv"
    write_results(table, [row for _, rows in numbers for row in rows])
    return Analysis(numbers, (table,))


def _measure(run: Path, judged: JudgedMasks, share: float) -> tuple[ResultRow, ...]:
    """Every number of one stage's masks, mIoU first, all of the same images."""
    dataset = judged.dataset
    samples, whole = unseen([judged.own], dataset, judged.name), SegmentationMetrics(dataset.classes)
    with progress(judged.name, len(samples)) as counter:
        found = boundary_of(dataset, judged.mask, samples, share, counter.advance, whole)
    words = ["--share", f"{share:g}"] if share != SHARE else []
    same = command("analyse", BOUNDARY, run, "--stage", judged.name, *words)
    rows = [
        score_rows(
            scores, judged.threshold, stage=judged.name, method=judged.name.partition("@")[0], split=dataset.split,
            n_images=found.n_images, seed=judged.seed, time=now(),
        )
        for scores in (whole.compute(), found.compute())
    ]  # fmt: skip
    return tuple(row.result(same) for part in rows for row in part)
