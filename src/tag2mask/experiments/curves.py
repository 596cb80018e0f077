"""mIoU over thresholds of an experiment's rows in one figure (LPCAM, Figure 5d; AMN, Figure 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from statistics import fmean

from tag2mask.evaluation.result_tables import ResultRow, read_columns, read_metrics
from tag2mask.evaluation.robustness import WITHIN, robustness
from tag2mask.evaluation.threshold_sweep import CurvePoint
from tag2mask.experiments.experiment import Found, Ran
from tag2mask.pipeline.metric_stages import CURVE, METRICS, SeedsSettings
from tag2mask.pipeline.plan import measured_by
from tag2mask.pipeline.session import Done


def curves(ran: Ran) -> Found:
    """Draw the curve of every row, the mean over its seeds, and say how robust each is; made by the run already.

    Raises:
        StageError: the figure cannot be written.
    """
    from tag2mask.report.figures import Curve, draw_curves

    rows: list[ResultRow] = []
    drawn: list[Curve] = []
    for name, stage in ran.stages.items():
        measuring = _measuring(ran, stage)
        points = [read_curve(done.artefact.path / CURVE) for done in measuring]
        for done, curve in zip(measuring, points, strict=True):
            rows += _robust(ran, name, done, curve)
        mean = [(at[0].threshold, fmean(p.miou for p in at)) for at in zip(*points, strict=True)]
        whole = [replace(p, miou=value) for p, (_, value) in zip(points[0], mean, strict=True)]
        robust = robustness(whole)
        drawn.append(Curve(name, tuple(mean), (robust.low, robust.high)))
    seeds = sorted({row.seed for row in rows})
    title = f"{ran.experiment.id}: seeds at every threshold, {rows[0].split}, {rows[0].n_images} images, "
    title += f"seed {seeds[0]}" if len(seeds) == 1 else f"mean of {len(seeds)} seeds"
    title += f"\n(thick: within {WITHIN:g} points of the best)"
    path = ran.out / "threshold-curve.svg"
    draw_curves(drawn, title, path)
    return Found(tuple(rows), (path,))


def read_curve(path: Path) -> list[CurvePoint]:
    """The points of a stage of kind ``seeds``, ascending."""
    names = [f.name for f in fields(CurvePoint)]
    return [CurvePoint(*line) for line in read_columns(path, names, numbers=names)]


def _measuring(ran: Ran, stage: str) -> list[Done]:
    """What measures the seeds of a stage, once for each seed."""
    found: dict[int, Done] = {}
    for done in ran.done:
        of_seeds = isinstance(done.stage.settings, SeedsSettings)
        if of_seeds and measured_by(done.stage).partition("@")[0] == stage:
            found.setdefault(done.stage.seed, done)
    return list(found.values())


def _robust(ran: Ran, name: str, done: Done, curve: Sequence[CurvePoint]) -> list[ResultRow]:
    """The plateau and the mean over thresholds; the best mIoU is among the row's own numbers already."""
    first = read_metrics(done.artefact.path / METRICS)[0]
    found = robustness(curve).results(name, first.split, first.n_images, done.stage.seed, ran.command)
    return [row for row in found if row.metric != "miou"]
