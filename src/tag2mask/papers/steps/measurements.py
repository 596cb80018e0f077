"""What a run has measured, as the papers show it.

mIoU over thresholds of all rows in one figure (L11, A8), IoU class by class (A12), the cost of clustering beside the
training of the classifier (L12), and tags that come together (A15).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from statistics import fmean

from tag2mask.core.arrays import rounded
from tag2mask.data.cooccurrence import PairLine, cooccurrence
from tag2mask.evaluation.result_tables import METRICS, Origin, ResultRow, read_columns, read_metrics, write_table
from tag2mask.evaluation.robustness import WITHIN, robustness
from tag2mask.evaluation.threshold_sweep import CurvePoint
from tag2mask.methods.stage_kinds import Makes
from tag2mask.papers.catalogue import FinishedExperiment, StepResult
from tag2mask.papers.table import mean_of, number
from tag2mask.pipeline.metric_stages import CURVE
from tag2mask.pipeline.opened_run import OpenedRun
from tag2mask.pipeline.run_result import collect_metrics, measured
from tag2mask.pipeline.session import Done
from tag2mask.report.figures import Curve, draw_curves


def curves(run: FinishedExperiment) -> StepResult:
    """Draw the curve of every row, the mean over its seeds, as the run measured it; and how robust each is."""
    rows: list[ResultRow] = []
    drawn: list[Curve] = []
    for name, stage in run.stages.items():
        measuring = _measuring(run, stage)
        points = [read_curve(done.artefact.path / CURVE) for done in measuring]
        for done, curve in zip(measuring, points, strict=True):
            rows += _robust(run, name, done, curve)
        mean = [(at[0].threshold, fmean(p.miou for p in at)) for at in zip(*points, strict=True)]
        whole = [replace(p, miou=value) for p, (_, value) in zip(points[0], mean, strict=True)]
        robust = robustness(whole)
        drawn.append(Curve(name, tuple(mean), (robust.low, robust.high)))
    seeds = sorted({row.seed for row in rows})
    title = f"{run.experiment.id}: seeds at every threshold, {rows[0].split}, {rows[0].n_images} images, "
    title += f"seed {seeds[0]}" if len(seeds) == 1 else f"mean of {len(seeds)} seeds"
    title += f"\n(thick: within {WITHIN:g} points of the best)"
    path = run.out / "threshold-curve.svg"
    draw_curves(drawn, title, path)
    return StepResult(tuple(rows), (path,))


def read_curve(path: Path) -> list[CurvePoint]:
    """The points of a stage of kind ``seeds``, ascending."""
    names = [f.name for f in fields(CurvePoint)]
    return [CurvePoint(*line) for line in read_columns(path, names, numbers=names)]


def _measuring(run: FinishedExperiment, stage: str) -> list[Done]:
    """The stage that measures the maps of a stage, once for each seed."""
    found: dict[int, Done] = {}
    for one in measured(run.done):
        maker = one.maker.stage
        if maker.kind.makes is Makes.MAPS and maker.base_name == stage:
            found.setdefault(maker.seed, one.measuring)
    return list(found.values())


def _robust(run: FinishedExperiment, name: str, done: Done, curve: Sequence[CurvePoint]) -> list[ResultRow]:
    """Plateau and mean over thresholds; the best mIoU is one of the row's own numbers."""
    first = read_metrics(done.artefact.path / METRICS)[0]
    origin = Origin(name, done.stage.seed, run.command)
    found = robustness(curve).results(origin, first.split, first.n_images)
    return [row for row in found if row.metric != "miou"]


PREFIX = "iou/"


@dataclass(frozen=True, slots=True)
class ClassDelta:
    """One label at one kind of threshold, means over the seeds; a line of CSV."""

    label: str  # the class, or background
    threshold_kind: str  # as `Threshold.kind_text`
    first: float  # IoU of the first row in percent
    second: float
    delta: float  # second minus first, points


def class_deltas(ours: list[ResultRow], first: str, second: str) -> list[ClassDelta]:
    """IoU of every label that two rows have, the largest gain of the second first."""
    found = []
    for metric, kind in dict.fromkeys((r.metric, r.threshold_kind) for r in ours if r.metric.startswith(PREFIX)):
        both = [
            mean_of([r for r in ours if (r.method, r.metric, r.threshold_kind) == (name, metric, kind)])
            for name in (first, second)
        ]
        if both[0] is not None and both[1] is not None:
            label = metric.removeprefix(PREFIX)
            found.append(ClassDelta(label, kind, *map(rounded, (both[0], both[1], both[1] - both[0]))))
    return sorted(found, key=lambda d: (d.threshold_kind, -d.delta, d.label))


def deltas(run: FinishedExperiment) -> StepResult:
    """Write the deltas of the last row over the first one, and name the largest gain and loss."""
    rows = collect_metrics(run.done)
    first, second = next(iter(run.stages)), list(run.stages)[-1]
    ours = [r.result(run.command) for r in rows]
    named = {run.stages[first]: first, run.stages[second]: second}
    found = class_deltas(ours, run.stages[first], run.stages[second])
    path = run.out / "per-class.csv"
    write_table(path, ClassDelta, found)
    lines = []
    for kind in dict.fromkeys(d.threshold_kind for d in found):
        mine = [d for d in found if d.threshold_kind == kind]
        best, worst = mine[0], mine[-1]
        lines.append(
            f"{named[run.stages[second]]} over {named[run.stages[first]]} ({kind} threshold): most for {best.label} "
            f"({_signed(best.delta)} points), least for {worst.label} ({_signed(worst.delta)})"
        )
    return StepResult(files=(path,), lines=tuple(lines))


def _signed(value: float) -> str:
    return f"{'+' if value >= 0 else '−'}{number(abs(value))}"


CLUSTERING, TRAINING = "clustering", "training of the classifier"
"""Names of the rows of L12."""

_SHOWN = 3


def cost(run: FinishedExperiment) -> StepResult:
    """Seconds that both stages took when they were computed, from their manifests, and their ratio."""
    opened, rows = OpenedRun(run.out), []
    pairs = zip(run.made(run.stages[CLUSTERING]), run.made(run.stages[TRAINING]), strict=True)
    for prototypes, classifier in pairs:
        seconds, training = prototypes.manifest.seconds, classifier.manifest.seconds
        for name, done, metric, value in (
            (CLUSTERING, prototypes, "seconds", seconds),
            (TRAINING, classifier, "seconds", training),
            (CLUSTERING, prototypes, "relative_cost", seconds / training),
        ):
            split, n_images = opened.split_of(done.stage), done.manifest.n_images
            row = (name, split, n_images, "none", None, metric, rounded(value), done.stage.seed, run.command)
            rows.append(ResultRow(*row))
    return StepResult(tuple(rows))


def hidden(run: FinishedExperiment) -> StepResult:
    """Write how often tags of the training split come together, and name the most inseparable pairs."""
    opened = OpenedRun(run.out)
    tags = opened.split(opened.plan.data.train)
    pairs = cooccurrence((s.tags for s in tags.samples), tags.classes).pair_lines()
    path = run.out / "co-occurrence.csv"
    write_table(path, PairLine, pairs)
    lines = [
        f"{pair.b} is in {100 * pair.p_b_given_a:.0f} % of the {pair.images_a} images of {pair.a}, {pair.lift:.1f} "
        "times as often as by chance"
        for pair in pairs[:_SHOWN]
    ]
    return StepResult(files=(path,), lines=tuple(lines))
