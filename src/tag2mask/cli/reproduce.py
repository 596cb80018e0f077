"""``tag2mask reproduce``: the commands behind a published table, run again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tag2mask.cli.tables import say, table

if TYPE_CHECKING:
    from tag2mask.experiments.verdicts import Judged

_SHOWN = 40
_HEADLINES = ("miou", "map", "coverage")


def command(
    results: Annotated[Path, typer.Argument(metavar="TABLE", help="a CSV such as results/voc-animals/seeds.csv")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="data.root=FOLDER and engine.… where these differ")
    ] = None,
    row: Annotated[list[str] | None, typer.Option(help="column=value of the rows to make again; default: all")] = None,
    out: Annotated[Path | None, typer.Option(help="new folder; default: runs/reproduce-<table>")] = None,
    reuse: Annotated[
        bool, typer.Option("--reuse", help="use the store beside the folder instead of a fresh one")
    ] = False,
    tolerance: Annotated[
        float, typer.Option(help="points a number may differ by; more where the deviation over its seeds is larger")
    ] = 0.2,
) -> None:
    """Run the commands behind a table of results again, and say for each number whether it agrees (exit code 0 or 2).

    Without --reuse nothing that an earlier run made is used: the numbers are really made again. On the machine and the
    versions that made them they come out equal; elsewhere within the tolerance: a column 'tolerance' of the table, else
    --tolerance or the deviation over the number's seeds, whichever is larger. Only commands of tag2mask (run, sweep,
    experiment run, analyse) and python -m benchmarks.NAME are run; paths in them are taken from the current folder. An
    analysis is made again of the finished run that it names, which is not made again.

    Example: tag2mask reproduce results/voc-animals/seeds.csv data.root=VOC2012 --row metric=miou
    """
    from tag2mask.experiments.reproduce import reproduce

    found = reproduce(results, rows=row or [], overrides=overrides or [], out=out, reuse=reuse, tolerance=tolerance)
    _print(found.rows)
    say(f"\nfolder: {found.path}\n{found.file}")
    raise typer.Exit(0 if found.agrees else 2)


def _print(rows: tuple[Judged, ...]) -> None:
    """What does not agree, the headline numbers, and the count of each verdict."""
    telling = [r for r in rows if r.verdict in {"differs", "missing"}]
    shown = [*telling, *(r for r in rows if r not in telling and r.metric in _HEADLINES)][:_SHOWN]
    lines = [
        [
            str(r.line), r.method, r.split, r.threshold_kind, str(r.seed), r.metric, _number(r.published),
            _number(r.made), "-" if r.difference is None else f"{r.difference:+.4f}", f"{r.tolerance:g}", r.verdict,
            r.note,
        ]
        for r in shown
    ]  # fmt: skip
    head = ["line", "method", "split", "threshold", "seed", "metric", "published", "made", "difference", "tolerance"]
    if lines:
        say(table([*head, "verdict", "note"], lines))
    counts = {verdict: sum(r.verdict == verdict for r in rows) for verdict in dict.fromkeys(r.verdict for r in rows)}
    words = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    say(f"\n{len(rows)} numbers: {words}. " + ("The table agrees." if not telling else "The table does not agree."))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
