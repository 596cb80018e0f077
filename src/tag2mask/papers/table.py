"""Tables of experiments: published values beside ours, each column of one source and one kind of threshold."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tag2mask.core.files import write_text
from tag2mask.evaluation.result_tables import ResultRow
from tag2mask.papers.catalogue import ExpectedOrder, Experiment, FinishedExperiment, TableRow

ALL = "/"
"""Last letter of a metric that stands for all with this prefix, such as ``iou/``."""

_ALIKE = ("metric", "ours on")
"""Columns that are left out if all lines agree."""

_KINDS = ("oracle", "few-masks", "rule", "published", "fixed", "none")
"""Kinds of threshold, the one most like the papers' first: these tuned their thresholds on ground truth."""


@dataclass(frozen=True, slots=True)
class Table:
    """Cells as text, each line as long as the header."""

    header: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """The table in Markdown."""
        rows = [self.header, ("---",) * len(self.header), *self.lines]
        return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)


def build_table(experiment: Experiment, ours: Sequence[ResultRow]) -> Table:
    """The rows of an experiment, one line for each metric that has a value.

    Columns ``published: …`` hold a paper's values on one data set each; columns ``ours: …`` hold ours at one kind of
    threshold each, mean ± sample standard deviation where there are several seeds. The ``method`` of our numbers is the
    name of a row, a note on the network in parentheses behind it.
    """
    sources = tuple(dict.fromkeys(p.on for row in experiment.rows for p in row.published))
    metrics = {row.name: _metrics(experiment, row, ours) for row in experiment.rows}
    shown = {name for names in metrics.values() for name in names}
    kinds = _kinds(r for r in ours if r.metric in shown)
    lines = []
    for row in experiment.rows:
        for metric in metrics[row.name] or ("",):
            published = [_published(row, metric, on) for on in sources]
            own = [_own(rows_of(ours, row.name, metric, kind)) for kind in kinds]
            if any(published) or any(own) or row.needs or row.note:
                lines.append(
                    (row.name, metric, *published, *_with_reason(row, own), images_of(rows_of(ours, row.name, metric)))
                )
    header = ("row", "metric", *(f"published: {on}" for on in sources), *map(_title, kinds), "ours on")
    return _without_empty(Table(header, tuple(lines)))


def of_metrics(experiment: Experiment, ours: Iterable[ResultRow]) -> list[ResultRow]:
    """Our numbers of the table's metrics."""
    return [r for r in ours if any(_fits(r.metric, wanted) for wanted in experiment.metrics)]


def order_lines(experiment: Experiment, ours: Sequence[ResultRow]) -> list[str]:
    """For each order that the paper finds, whether its numbers and ours have it; nothing is asserted."""
    return [line for order in experiment.orders if (line := _order(experiment, order, ours))]


def rows_of(ours: Iterable[ResultRow], name: str, metric: str, kind: str | None = None) -> list[ResultRow]:
    """Our numbers of one row and metric, at one kind of threshold if given."""
    return [
        r
        for r in ours
        if (r.method == name or r.method.startswith(f"{name} ("))
        and r.metric == metric
        and (kind is None or r.threshold_kind == kind)
    ]


def mean_of(rows: Sequence[ResultRow]) -> float | None:
    """Mean over the seeds; None if no seed has a value."""
    values = [r.value for r in rows if r.value is not None]
    return statistics.fmean(values) if values else None


def images_of(rows: Iterable[ResultRow]) -> str:
    """Splits and image counts behind numbers: ``train, 24 images; val, 13 to 20 images``."""
    counts: dict[str, list[int]] = {}
    for row in rows:
        counts.setdefault(row.split, []).append(row.n_images)
    return "; ".join(f"{split}, {_span(min(found), max(found))}" for split, found in counts.items())


def _span(least: int, most: int) -> str:
    return f"{least} to {most} images" if least < most else f"{most} image{'' if most == 1 else 's'}"


def number(value: float) -> str:
    """A number as tables show it: one decimal, below 1 up to three digits."""
    return f"{value:.1f}" if abs(value) >= 1 else f"{value:.3g}"


def _metrics(experiment: Experiment, row: TableRow, ours: Sequence[ResultRow]) -> tuple[str, ...]:
    """The experiment's metrics that the row has a value of, prefixes expanded."""
    mine = [r.metric for r in ours if r.method == row.name or r.method.startswith(f"{row.name} (")]
    have = list(dict.fromkeys([*(p.metric for p in row.published), *mine]))
    return tuple(name for wanted in experiment.metrics for name in have if _fits(name, wanted))


def _fits(metric: str, wanted: str) -> bool:
    return metric == wanted or (wanted.endswith(ALL) and metric.startswith(wanted))


def _kinds(rows: Iterable[ResultRow]) -> list[str]:
    found = dict.fromkeys(r.threshold_kind for r in rows)
    return sorted(found, key=lambda text: (_KINDS.index(text.partition("(")[0]), text))


def _title(kind: str) -> str:
    return "ours: no threshold" if kind == "none" else f"ours: {kind} threshold"


def _published(row: TableRow, metric: str, on: str) -> str:
    found = [p for p in row.published if p.metric == metric and p.on == on]
    return ", ".join(f"{number(p.value)}{f' ({p.note})' if p.note else ''}" for p in found)


def _own(rows: Sequence[ResultRow]) -> str:
    values = [r.value for r in rows if r.value is not None]
    if not values:
        return ""
    spread = f" ± {number(statistics.stdev(values))} ({len(values)} seeds)" if len(values) > 1 else ""
    at = sorted({r.threshold for r in rows if r.threshold is not None})
    span = f" at {at[0]:.2f}" + (f" to {at[-1]:.2f}" if len(at) > 1 else "") if at else ""
    return f"{number(statistics.fmean(values))}{spread}{span}"


def _with_reason(row: TableRow, own: Sequence[str]) -> list[str]:
    """The cells of our columns; if all are empty, the first one says why."""
    if any(own) or not (row.needs or row.note) or not own:
        return list(own)
    return [f"not yet ({row.needs})" if row.needs else "none (see note)", *own[1:]]


def _without_empty(table: Table) -> Table:
    """The table without empty columns, and without those of `_ALIKE` that have one value."""
    kept = []
    for i, name in enumerate(table.header):
        cells = {line[i] for line in table.lines}
        if i == 0 or (cells - {""} and not (name in _ALIKE and len(cells - {""}) == 1)):
            kept.append(i)
    return Table(tuple(table.header[i] for i in kept), tuple(tuple(line[i] for i in kept) for line in table.lines))


def _order(experiment: Experiment, order: ExpectedOrder, ours: Sequence[ResultRow]) -> str:
    """One sentence; empty if neither the paper nor we have both numbers."""
    rows = {row.name: row for row in experiment.rows}
    pairs = []
    for on in dict.fromkeys(p.on for p in rows[order.above].published):
        found = [
            next((p.value for p in rows[name].published if (p.metric, p.on) == (order.metric, on)), None)
            for name in (order.above, order.below)
        ]
        pairs.append((f"published {on}", found))
    for kind in _kinds(r for r in ours if r.metric == order.metric):
        found = [mean_of(rows_of(ours, name, order.metric, kind)) for name in (order.above, order.below)]
        pairs.append((_title(kind).replace(":", ","), found))
    answers = [
        f"{where} {'yes' if above > below else 'no'} ({_against(above, below)})"
        for where, (above, below) in pairs
        if above is not None and below is not None
    ]
    return f"{order.above} above {order.below} in {order.metric}: {'; '.join(answers)}" if answers else ""


def _against(above: float, below: float) -> str:
    """Two numbers, with a second decimal if the first one does not differ."""
    texts = number(above), number(below)
    return "{} against {}".format(*texts if texts[0] != texts[1] else (f"{above:.2f}", f"{below:.2f}"))


RESULTS, PAGE = "results.csv", "table.md"
_APART = " Data and network differ, so the two are not expected to be equal."
_TUNED = " The papers chose their thresholds on ground truth, which is nearest to an oracle threshold."


def write_page(run: FinishedExperiment, rows: Sequence[ResultRow], lines: Sequence[str], files: Sequence[Path]) -> None:
    """Write ``table.md``: table, legend, orders, the steps' lines, notes, links to files, command."""
    chosen = run.experiment
    parts = [f"# {chosen.id}: {chosen.title}", f"{chosen.paper}, {chosen.item}. {chosen.question}"]
    parts += [build_table(chosen, rows).markdown(), legend(run, rows)]
    listed = [*order_lines(chosen, rows), *lines, *notes(chosen)]
    if listed:
        parts.append("\n".join(f"- {line}" for line in listed))
    if files:
        parts.append("Files: " + ", ".join(f"[{p.name}]({p.relative_to(run.out)})" for p in files))
    parts.append(f"Made by `{run.command}`.")
    write_text(run.out / PAGE, "\n\n".join(parts) + "\n")


def legend(run: FinishedExperiment, rows: Sequence[ResultRow]) -> str:
    """Sources, data, networks and seeds of the two groups of columns."""
    places = sorted({p.source for row in run.experiment.rows for p in row.published})
    text = f"Published: {'; '.join(places)} ({run.experiment.used})." if places else "The paper gives no number here."
    if run.experiment.metrics == ("miou",):
        text = f"Numbers are mIoU in percent. {text}"
    own = images_of(of_metrics(run.experiment, rows))
    if not own or run.recipe is None:
        return text
    seeds = sorted({r.seed for r in rows})
    kind = run.recipe.data["kind"]
    apart = _APART if places else ""
    apart += _TUNED if places and any(r.threshold is not None for r in rows) else ""
    return (
        f"{text} Ours: data {kind} ({own}), {'; '.join([_backbone(run), *_networks(run, rows)])}, "
        f"{_ledger(run)}seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}.{apart}"
    )


def notes(chosen: Experiment) -> list[str]:
    """Notes of the experiment and its rows, and the methods that it lacks."""
    waiting = [f"Not yet: rows that need {', '.join(chosen.missing)}."] if chosen.missing else []
    said = [f"{row.name}: {row.note}." for row in chosen.rows if row.note]
    return [*chosen.notes, *said, *waiting]


def _networks(run: FinishedExperiment, rows: Sequence[ResultRow]) -> list[str]:
    """Segmentation networks behind the rows, as `MetricRow.method` names them."""
    behind = (r.method.removeprefix(row.name) for row in run.experiment.rows for r in rows if r.method != row.name)
    return list(dict.fromkeys(text[2:-1] for text in behind if text.startswith(" (")))


def _ledger(run: FinishedExperiment) -> str:
    """The run's ledger; empty for sweeps, whose points have their own reports."""
    seen = sorted(set().union(*(done.manifest.ledger for done in run.done)))
    return f"supervision: {', '.join(seen)}, " if seen else ""


def _backbone(run: FinishedExperiment) -> str:
    assert run.recipe is not None
    found = []
    for spec in run.recipe.stages.values():
        if spec["kind"] == "classifier":
            found.append(f"{spec['backbone']['name']} classifier (first weights: {spec['backbone']['weights']})")
    return "; ".join(dict.fromkeys(found)) or "no classifier"
