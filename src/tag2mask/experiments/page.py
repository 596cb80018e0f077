"""``table.md`` of an experiment: question, table, what is above what, notes, files, command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tag2mask.core.files import write_text
from tag2mask.evaluation.result_tables import ResultRow
from tag2mask.experiments.experiment import Experiment, Ran
from tag2mask.experiments.table import build_table, images_of, of_metrics, order_lines

RESULTS, PAGE = "results.csv", "table.md"
_APART = " Other data and another network, so the two are not to be held equal."
_TUNED = " The papers chose their thresholds on the truth, which is nearest to an oracle threshold."


def write_page(ran: Ran, rows: Sequence[ResultRow], lines: Sequence[str], files: Sequence[Path]) -> None:
    """Write ``table.md``.

    Args:
        ran: the experiment and its recipe.
        rows: our numbers.
        lines: what the steps have to say.
        files: beside the table.

    Raises:
        StageError: the file cannot be written.
    """
    chosen = ran.experiment
    parts = [f"# {chosen.id}: {chosen.title}", f"{chosen.paper}, {chosen.item}. {chosen.question}"]
    parts += [build_table(chosen, rows).markdown(), legend(ran, rows)]
    listed = [*order_lines(chosen, rows), *lines, *notes(chosen)]
    if listed:
        parts.append("\n".join(f"- {line}" for line in listed))
    if files:
        parts.append("Files: " + ", ".join(f"[{p.name}]({p.relative_to(ran.out)})" for p in files))
    parts.append(f"Made by `{ran.command}`.")
    write_text(ran.out / PAGE, "\n\n".join(parts) + "\n")


def legend(ran: Ran, rows: Sequence[ResultRow]) -> str:
    """What tells the two groups of columns apart: data, network, seeds."""
    places = sorted({p.place for row in ran.experiment.rows for p in row.published})
    text = f"Published: {'; '.join(places)} ({ran.experiment.used})." if places else "The paper gives no number here."
    if ran.experiment.metrics == ("miou",):
        text = f"Numbers are mIoU in percent. {text}"
    own = images_of(of_metrics(ran.experiment, rows))
    if not own or ran.recipe is None:
        return text
    seeds = sorted({r.seed for r in rows})
    kind = ran.recipe.data["kind"]
    apart = _APART if places else ""
    apart += _TUNED if places and any(r.threshold is not None for r in rows) else ""
    return (
        f"{text} Ours: data {kind} ({own}), {'; '.join([_backbone(ran), *_networks(ran, rows)])}, "
        f"{_ledger(ran)}seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}.{apart}"
    )


def notes(chosen: Experiment) -> list[str]:
    """Notes of the experiment, and what it waits for."""
    waiting = [f"Not yet: rows that need {', '.join(chosen.missing)}."] if chosen.missing else []
    said = [f"{row.name}: {row.note}." for row in chosen.rows if row.note]
    return [*chosen.notes, *said, *waiting]


def _networks(ran: Ran, rows: Sequence[ResultRow]) -> list[str]:
    """Segmentation networks behind the rows, as `MetricRow.method` names them."""
    behind = (r.method.removeprefix(row.name) for row in ran.experiment.rows for r in rows if r.method != row.name)
    return list(dict.fromkeys(text[2:-1] for text in behind if text.startswith(" (")))


def _ledger(ran: Ran) -> str:
    """The supervision that the run has seen; empty for sweeps, whose points have their own reports."""
    seen = sorted(set().union(*(done.manifest.ledger for done in ran.done)))
    return f"supervision: {', '.join(seen)}, " if seen else ""


def _backbone(ran: Ran) -> str:
    assert ran.recipe is not None
    found = []
    for spec in ran.recipe.stages.values():
        if spec["kind"] == "classifier":
            found.append(f"{spec['backbone']['name']} classifier (first weights: {spec['backbone']['weights']})")
    return "; ".join(dict.fromkeys(found)) or "no classifier"
