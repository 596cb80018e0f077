"""Prints the verbs' results on standard output; everything else is logging."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tag2mask.core.names import printable, shown

if TYPE_CHECKING:
    from tag2mask.evaluation.result_tables import MetricRow
    from tag2mask.pipeline.run_result import RunResult

MEANS = ("miou", "fp", "fn", "precision", "recall")


def say(text: str = "") -> None:
    """Write a line to standard output, what a terminal must not get from a name as escapes."""
    sys.stdout.write(f"{printable(text)}\n")


def say_files(files: Iterable[Path]) -> None:
    """A line for each file, behind an empty one."""
    say("\n".join(["", *map(str, files)]))


def table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Columns aligned for a terminal, in plain text: words to the left, numbers to the right."""
    rows = [[shown(cell) for cell in line] for line in (header, *lines)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    right = [all(_is_number(line[i]) for line in lines) and bool(lines) for i in range(len(header))]

    def cells(row: Sequence[str]) -> str:
        return "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)).rstrip()

    return "\n".join([cells(rows[0]), "  ".join("-" * w for w in widths), *(cells(row) for row in rows[1:])])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text in {"", "-"}
    return True


def print_summary(result: RunResult) -> None:
    """The numbers of a run, and where to look."""
    from tag2mask.core.ranks import rank

    if rank():
        return
    print_seeds(result.metrics)
    print_refined(result.metrics)
    means = (
        f"\n{row.stage}: mean average precision {_percent(row)} on {row.split} ({row.n_images} images)"
        for row in result.metrics
        if row.metric == "map"
    )
    for line in dict.fromkeys(means):  # one classifier is measured once for each of the recipe's seeds
        say(line)
    page = str(result.report) if result.reported else "none: neither seeds nor masks were measured"
    say(f"\nrun folder: {result.path}\nreport:     {page}")


def print_seeds(metrics: Sequence[MetricRow]) -> None:
    """MIoU, FP, FN, precision and recall, percent, one line for each method and threshold."""
    keys = [(r.stage, r.split, r.n_images, r.threshold_kind, r.threshold) for r in metrics if r.metric == "miou"]
    if not keys:
        say("no masks were measured: the data has no ground truth, or no stage that measures was made")
        return
    values = {(r.stage, r.split, r.n_images, r.threshold_kind, r.threshold, r.metric): r for r in metrics}
    lines = [
        [k[0], k[1], str(k[2]), k[3], f"{k[4]:.2f}" if k[4] is not None else "-"]
        + [_percent(values.get((*k, m))) for m in MEANS]
        for k in keys
    ]
    say(table(["stage", "split", "images", "threshold", "at", *MEANS], lines))
    if any(values[*k, "miou"].value is None for k in keys):
        say("-: the ground truth shows no class, so there is no mIoU; tag2mask doctor looks at the masks")
    networks = dict.fromkeys(r.method for r in metrics if r.metric == "miou" and " (" in r.method)
    if networks:
        say("\n" + "\n".join(networks))


def print_refined(metrics: Sequence[MetricRow]) -> None:
    """Coverage of refined seeds, and how right they are there; nothing where there are none."""
    shown = [[r.stage, r.split, str(r.n_images), _percent(r)] for r in metrics if r.metric == "coverage"]
    right = {(r.stage, r.metric): r for r in metrics}
    lines = [[*line, *(_percent(right.get((line[0], m))) for m in ("precision_sure", "miou_sure"))] for line in shown]
    if lines:
        say("\n" + table(["refined seeds", "split", "images", "coverage", "precision_sure", "miou_sure"], lines))


def _percent(row: MetricRow | None) -> str:
    return "-" if row is None or row.value is None else f"{row.value:.1f}"
