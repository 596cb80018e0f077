"""Class by class: what one row has more than another (AMN, section 5.4)."""

from __future__ import annotations

from dataclasses import dataclass

from tag2mask.evaluation.result_tables import ResultRow, write_table
from tag2mask.experiments.experiment import Found, Ran
from tag2mask.experiments.table import mean_of, number

PREFIX = "iou/"


@dataclass(frozen=True, slots=True)
class ClassDelta:
    """One class at one kind of threshold; a line of CSV.

    Attributes:
        label: the class, or ``background``.
        threshold_kind: as `Threshold.kind_text`.
        first: IoU of the first row in percent, mean over the seeds.
        second: of the second row.
        delta: second less first, points.
    """

    label: str
    threshold_kind: str
    first: float
    second: float
    delta: float


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
            found.append(ClassDelta(label, kind, *(round(v, 4) for v in (both[0], both[1], both[1] - both[0]))))
    return sorted(found, key=lambda d: (d.threshold_kind, -d.delta, d.label))


def deltas(ran: Ran) -> Found:
    """Write the deltas of the last row of ours over the first one, and say the largest gain and loss."""
    from tag2mask.pipeline.run_result import collect_metrics

    rows = collect_metrics(ran.done)
    first, second = next(iter(ran.stages)), list(ran.stages)[-1]
    ours = [r.result(ran.command) for r in rows]
    named = {ran.stages[first]: first, ran.stages[second]: second}
    found = class_deltas(ours, ran.stages[first], ran.stages[second])
    path = ran.out / "per-class.csv"
    write_table(path, ClassDelta, found)
    lines = []
    for kind in dict.fromkeys(d.threshold_kind for d in found):
        mine = [d for d in found if d.threshold_kind == kind]
        best, worst = mine[0], mine[-1]
        lines.append(
            f"{named[ran.stages[second]]} over {named[ran.stages[first]]} ({kind} threshold): most for {best.label} "
            f"({_signed(best.delta)} points), least for {worst.label} ({_signed(worst.delta)})"
        )
    return Found(files=(path,), lines=tuple(lines))


def _signed(value: float) -> str:
    return f"{'+' if value >= 0 else '−'}{number(abs(value))}"
