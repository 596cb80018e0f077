"""Verdicts on rerun numbers: the spread that a table states, and whether each number agrees."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from benchmarks.reproduce.published_tables import PublishedNumber
from tag2mask.evaluation.result_tables import ResultRow

TOLERANCE = 0.2
"""Points that a number may differ by where its table states no larger spread; 0.002 of one that is no percentage."""

_NO_PERCENTAGES = (
    "absent", "present", "wrong_tag", "inside", "outside", "gap", "margin", "spread", "plateau_", "optimum_mean",
    "optimum_sd", "optimum_distance", "threshold_sd", "spearman",
)  # fmt: skip
"""How metrics begin that go from 0 (or -1) to 1."""
_TIMES = ("seconds", "peak_memory")
_CHOSEN = ("fixed", "published")
_DIGITS = 4

Verdict = Literal["equal", "within", "differs", "missing", "time"]
"""Equal to four decimals; within the tolerance; beyond it; missing; a time, which no machine repeats."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A published number and the rerun one; a line of ``reproduce.csv``.

    Attributes:
        line: of the table.
        method: of the number, like the next ones.
        split: the evaluated split.
        n_images: images that were counted.
        threshold_kind: kind of the threshold.
        metric: name of the metric.
        seed: of the run.
        published: the table's value, None where undefined.
        made: the rerun value, None where undefined or missing.
        difference: made minus published.
        tolerance: allowed, in the unit of the number.
        verdict: one of `Verdict`.
        note: what else differs.
        command: that was run.
    """

    line: int
    method: str
    split: str
    n_images: int
    threshold_kind: str
    metric: str
    seed: int
    published: float | None
    made: float | None
    difference: float | None
    tolerance: float
    verdict: Verdict
    note: str
    command: str


def with_spread(rows: Sequence[PublishedNumber], least: float) -> list[PublishedNumber]:
    """The rows, each with a tolerance: its column's, else the deviation over the seeds of its number or ``least``.

    Seeds of one number differ in ``seed``, and in a threshold that was found; in nothing else.

    Args:
        rows: of a whole table.
        least: points, the tolerance of numbers whose seeds differ less or that have one seed.
    """
    groups: dict[object, list[float]] = {}
    for row in rows:
        if row.result.value is not None:
            groups.setdefault(_number_of(row), []).append(row.result.value)
    spreads = {key: statistics.stdev(values) for key, values in groups.items() if len(values) > 1}
    return [
        replace(row, tolerance=max(_allowed(row, least), round(spreads.get(_number_of(row), 0.0), _DIGITS)))
        if row.tolerance is None
        else row
        for row in rows
    ]


def _allowed(row: PublishedNumber, points: float) -> float:
    """Points in the unit of the number."""
    return points / 100 if row.result.metric.startswith(_NO_PERCENTAGES) else points


def _number_of(row: PublishedNumber) -> object:
    """What all seeds of a number have in common."""
    r = row.result
    chosen = r.threshold if r.threshold_kind in _CHOSEN else None
    return r.method, r.split, r.n_images, r.threshold_kind, chosen, r.metric, r.command, tuple(row.more.items())


def judge(row: PublishedNumber, made: Sequence[PublishedNumber], failure: str = "") -> Judged:
    """Compare a published number with those that its command made.

    Args:
        row: the published one.
        made: everything that the command made.
        failure: why the command failed, empty where it did not.
    """
    tolerance = _allowed(row, TOLERANCE) if row.tolerance is None else row.tolerance
    ours = next((other for other in made if _same(row, other)), None)
    old, new = row.result.value, None if ours is None else ours.result.value
    verdict: Verdict
    if row.result.metric.startswith(_TIMES):
        verdict, note = "time", ""
    elif ours is None:
        verdict, note = "missing", failure or "the command makes no such number"
    else:
        note = _note(row.result, ours.result)
        verdict = _verdict(old, new, tolerance) if row.result.n_images == ours.result.n_images else "differs"
    difference = None if old is None or new is None else round(new - old, _DIGITS)
    result = row.result
    return Judged(
        row.line, result.method, result.split, result.n_images, result.threshold_kind, result.metric, result.seed,
        old, new, difference, tolerance, verdict, note, result.command,
    )  # fmt: skip


def _same(row: PublishedNumber, other: PublishedNumber) -> bool:
    """Whether two rows are the same number: a chosen threshold is part of that, a found one is a result itself."""
    one, two = row.result, other.result
    names = ("method", "split", "threshold_kind", "metric", "seed")
    if any(getattr(one, name) != getattr(two, name) for name in names):
        return False
    if one.threshold_kind in _CHOSEN and one.threshold != two.threshold:
        return False
    return all(other.more.get(name, cell) == cell for name, cell in row.more.items())


def _note(old: ResultRow, new: ResultRow) -> str:
    pairs = [(name, getattr(old, name), getattr(new, name)) for name in ("n_images", "threshold")]
    return "; ".join(f"{name}: {before} → {after}" for name, before, after in pairs if before != after)


def _verdict(old: float | None, new: float | None, tolerance: float) -> Verdict:
    if old is None or new is None:
        return "equal" if old is new else "differs"
    if round(old, _DIGITS) == round(new, _DIGITS):
        return "equal"
    return "within" if abs(new - old) <= tolerance else "differs"
