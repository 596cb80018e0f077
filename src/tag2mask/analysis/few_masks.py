"""Measures what a threshold chosen on n hand-made masks loses to the oracle, on the maps of a finished run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

import numpy as np

from tag2mask.analysis.base import Analysis, Findings, Run, open_maps
from tag2mask.analysis.threshold_rules import LOSS
from tag2mask.core.arrays import rounded
from tag2mask.evaluation.result_tables import Origin, ResultRow
from tag2mask.evaluation.threshold_rules.few_masks import FewDraw, count_images, draw_few
from tag2mask.evaluation.thresholds import Threshold
from tag2mask.pipeline.opened_run import OpenedMaps
from tag2mask.report.figures import Boxes, draw_boxes

MEASURES = ("miou", LOSS, "loss_sd", "loss_95", "threshold_sd")
"""Metrics of `analyse_few`: means of mIoU and loss over the draws, the spread of the loss, its 95th percentile, and the
spread of the threshold."""


COLUMNS = ("stage", "split", "n_images", "seed", "threshold_kind", "draw", "threshold", "miou", LOSS)
"""Of the table of draws."""


def analyse_few(
    run: Run,
    *,
    n: Sequence[int] = (5, 10, 20),
    draws: int = 200,
    stages: Sequence[str] = (),
    split: str | None = None,
    out: Path | None = None,
) -> Analysis:
    """Choose a threshold on n images with ground truth, drawn at random many times; measure it on all the others.

    Arguments and errors as for `tag2mask.analysis.map_thresholds.analyse_thresholds`; ``n`` are the sizes of a draw,
    each of which is drawn ``draws`` times and leaves images to measure on.
    """
    options = ["--n", ",".join(map(str, n)), "--draws", str(draws)]
    findings = Findings("few-masks", open_maps(run, stages, split), out, split, options)
    losses: dict[int, list[tuple[str, tuple[float, ...]]]] = {size: [] for size in n}
    for maps, samples, advance in findings.each():
        images = count_images(maps.dataset, maps.read, samples, advance)
        findings.n_without_truth = len(samples) - len(images)
        for size, values in losses.items():
            found = draw_few(images, size, len(maps.dataset.classes) + 1, draws)
            n_images = len(images) - size
            findings.add(maps, _rows(found, maps, n_images, findings.origin(maps)), _lines(found, maps, n_images))
            values.append((maps.name, tuple(draw.loss for draw in found)))
    panels = [Boxes(f"{size} masks", "points lost to the oracle", tuple(v)) for size, v in losses.items()]
    return findings.write(
        lambda path: draw_boxes(panels, f"Thresholds from a few masks, {draws} draws, {findings.where}", path),
        metrics=MEASURES,
        columns=COLUMNS,
        suffix="-draws",
    )


def _rows(found: Sequence[FewDraw], maps: OpenedMaps, n_images: int, origin: Origin) -> tuple[ResultRow, ...]:
    loss, thresholds = [d.loss for d in found], [d.threshold for d in found]
    at = Threshold(rounded(fmean(thresholds)), "few-masks", found[0].n)
    values = (
        fmean(d.miou for d in found),
        fmean(loss),
        pstdev(loss),
        float(np.percentile(loss, 95)),
        pstdev(thresholds),
    )
    return origin.rows(zip(MEASURES, values, strict=True), at, maps.dataset.split, n_images)


def _lines(found: Sequence[FewDraw], maps: OpenedMaps, n_images: int) -> list[tuple[Any, ...]]:
    kind = Threshold(found[0].threshold, "few-masks", found[0].n).kind_text
    of_all = (maps.name, maps.dataset.split, n_images, maps.stage.seed, kind)
    return [(*of_all, number, d.threshold, d.miou, d.loss) for number, d in enumerate(found, start=1)]
