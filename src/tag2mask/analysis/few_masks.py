"""How much a threshold chosen on n hand-made masks loses to the oracle, on the maps of a finished run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, pstdev

import numpy as np

from tag2mask.analysis.map_thresholds import FOLDER, Analysis, command_of, described, shared
from tag2mask.analysis.threshold_rules import LOSS
from tag2mask.core.progress import progress
from tag2mask.evaluation.few_masks import FewDraw, count_images, draw_few
from tag2mask.evaluation.result_tables import ResultRow, write_results, write_table
from tag2mask.evaluation.thresholds import Threshold
from tag2mask.pipeline.evaluate_run import OpenedMaps, open_maps
from tag2mask.report.figures import Boxes, draw_boxes

FEW = "few-masks"
MEASURES = ("miou", LOSS, "loss_sd", "loss_95", "threshold_sd")
"""Metrics of `analyse_few`: means of mIoU and loss over the draws, the spread of the loss, its 95th percentile, and the
spread of the threshold."""

_DIGITS = 4


@dataclass(frozen=True, slots=True)
class DrawLine:
    """One draw as a line of CSV."""

    stage: str
    split: str
    n_images: int
    seed: int
    threshold_kind: str
    draw: int
    threshold: float
    miou: float
    loss_to_oracle: float


def analyse_few(
    run: Path,
    *,
    n: Sequence[int] = (5, 10, 20),
    draws: int = 200,
    stages: Sequence[str] = (),
    split: str | None = None,
    out: Path | None = None,
) -> Analysis:
    """Choose a threshold on n images with a truth, drawn at random again and again, and measure it on all the others.

    Args:
        run: the run folder.
        n: sizes of a draw.
        draws: of each size.
        stages: instances that made maps, all measured on the same images; every one of the run where empty.
        split: a split with a truth; the one whose maps were made where None.
        out: folder for the files; ``analysis`` in the run folder where None.

    Raises:
        StageError: no run, maps that are missing or outdated, or files that cannot be written.
        ConfigError: an unknown stage, or one that makes no maps.
        DataError: no image has a truth, or an n leaves none to measure on.
    """
    out = out or run / FOLDER
    numbers: list[tuple[str, tuple[ResultRow, ...]]] = []
    lines: list[DrawLine] = []
    losses: dict[int, list[tuple[str, tuple[float, ...]]]] = {size: [] for size in n}
    opened, n_without_truth = open_maps(run, stages, split), 0
    extra = ["--n", ",".join(map(str, n)), "--draws", str(draws), *(["--split", split] if split else [])]
    for maps, samples in zip(opened, shared(opened), strict=True):
        with progress(maps.name, len(samples)) as counter:
            images = count_images(maps.dataset, maps.read, samples, counter.advance)
        n_without_truth = len(samples) - len(images)
        for size, values in losses.items():
            found = draw_few(images, size, len(maps.dataset.classes) + 1, draws)
            n_images = len(images) - size
            numbers.append((maps.name, _rows(found, maps, n_images, command_of(FEW, maps, extra))))
            lines += _lines(found, maps, n_images)
            values.append((maps.name, tuple(draw.loss for draw in found)))
    where = described(numbers, n_without_truth)
    files = (out / f"{FEW}.csv", out / f"{FEW}-draws.csv", out / f"{FEW}.svg")
    write_results(files[0], [row for _, rows in numbers for row in rows])
    write_table(files[1], DrawLine, lines)
    panels = [Boxes(f"{size} masks", "points lost to the oracle", tuple(v)) for size, v in losses.items()]
    draw_boxes(panels, f"Thresholds from a few masks, {draws} draws, {where}", files[2])
    return Analysis(tuple(numbers), files)


def _rows(found: Sequence[FewDraw], maps: OpenedMaps, n_images: int, command: str) -> tuple[ResultRow, ...]:
    loss, thresholds = [d.loss for d in found], [d.threshold for d in found]
    at = Threshold(round(fmean(thresholds), _DIGITS), "few-masks", found[0].n)
    values = (
        fmean(d.miou for d in found),
        fmean(loss),
        pstdev(loss),
        float(np.percentile(loss, 95)),
        pstdev(thresholds),
    )
    return tuple(
        ResultRow(
            maps.method, maps.dataset.split, n_images, at.kind_text, at.value, metric, round(value, _DIGITS),
            maps.stage.seed, command,
        )
        for metric, value in zip(MEASURES, values, strict=True)
    )  # fmt: skip


def _lines(found: Sequence[FewDraw], maps: OpenedMaps, n_images: int) -> list[DrawLine]:
    kind = Threshold(found[0].threshold, "few-masks", found[0].n).kind_text
    return [
        DrawLine(
            maps.name, maps.dataset.split, n_images, maps.stage.seed, kind, number, draw.threshold, draw.miou, draw.loss
        )
        for number, draw in enumerate(found, start=1)
    ]  # fmt: skip
