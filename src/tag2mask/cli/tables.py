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

MEANS = {
    "miou": "miou", "fg": "miou_foreground", "f1": "f1_foreground", "iou@2px": "iou@2px", "fp": "fp", "fn": "fn",
    "precision": "precision", "recall": "recall",
}  # fmt: skip
"""Head of a column -> the metric that stands in it; ``iou@2px`` is left out where no class is thin."""
REFINED = {
    "precision_sure": "precision_sure", "miou_sure": "miou_sure", "fg_sure": "miou_foreground_sure",
    "f1_sure": "f1_foreground_sure",
}  # fmt: skip
"""As `MEANS`, of refined seeds, behind their coverage."""
_LEGEND = "fg, f1: miou_foreground and f1_foreground, means over the classes without the background"
_NO_BACKGROUND = "no ground truth shows background, so miou is the mean over the classes too: it is fg"


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
    from tag2mask.core.processes.ranks import rank

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
    """`MEANS` in percent, one line for each method and threshold, then what trivial answers reach."""
    from tag2mask.evaluation.measures.trivial import ALL_BACKGROUND

    keys = [(r.stage, r.split, r.n_images, r.threshold_kind, r.threshold) for r in metrics if r.metric == "miou"]
    if not keys:
        say("no masks were measured: the data has no ground truth, or no stage that measures was made")
        return
    values = {(r.stage, r.split, r.n_images, r.threshold_kind, r.threshold, r.metric): r for r in metrics}
    measured = {r.metric for r in metrics}
    means = {head: metric for head, metric in MEANS.items() if metric in measured or "@" not in metric}
    lines = [
        [k[0], k[1], str(k[2]), k[3], f"{k[4]:.2f}" if k[4] is not None else "-"]
        + [_percent(values.get((*k, m))) for m in means.values()]
        for k in keys
    ]
    say(table(["stage", "split", "images", "threshold", "at", *means], lines))
    say(_LEGEND)
    if any(k[0] == ALL_BACKGROUND and values[*k, "miou"].value == 0 for k in keys):
        say(_NO_BACKGROUND)
    if any(values[*k, "miou"].value is None for k in keys):
        say("-: the ground truth shows no class, so there is no mIoU; tag2mask doctor looks at the masks")
    networks = dict.fromkeys(r.method for r in metrics if r.metric == "miou" and " (" in r.method)
    if networks:
        say("\n" + "\n".join(networks))


def print_refined(metrics: Sequence[MetricRow]) -> None:
    """Coverage of refined seeds, and how right they are there; nothing where there are none."""
    shown = [[r.stage, r.split, str(r.n_images), _percent(r)] for r in metrics if r.metric == "coverage"]
    right = {(r.stage, r.metric): r for r in metrics}
    lines = [[*line, *(_percent(right.get((line[0], m))) for m in REFINED.values())] for line in shown]
    if lines:
        say("\n" + table(["refined seeds", "split", "images", "coverage", *REFINED], lines))


def _percent(row: MetricRow | None) -> str:
    return "-" if row is None or row.value is None else f"{row.value:.1f}"
