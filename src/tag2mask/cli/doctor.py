"""``tag2mask doctor``: what is wrong with the data, before hours are spent on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tag2mask.cli.tables import say, table

if TYPE_CHECKING:
    from tag2mask.data.doctor.checks import Report


def command(
    data: Annotated[list[str], typer.Argument(help="a kind or a folder, then key=value: voc root=VOC2012")],
    strict: Annotated[bool, typer.Option("--strict", help="warnings count as errors")] = False,
) -> None:
    """Look through a data set for everything that would stop or spoil a run.

    Example: tag2mask doctor photos tags=tags.csv
    """
    from tag2mask.data.doctor.checks import examine
    from tag2mask.data.registry import data_from_words, data_settings

    kind, values = data_from_words(data)
    report = examine(kind, data_settings(kind, values))
    _print(report)
    raise typer.Exit(report.exit_code(strict))


def _print(report: Report) -> None:
    say(f"data: {report.kind}\n")
    counts = [[s.split, str(s.images), str(s.unreadable), str(s.with_truth), str(s.untagged)] for s in report.splits]
    say(table(["split", "images", "unreadable", "with ground truth", "without tags"], counts))
    if report.classes:
        classes = [[c.name, *map(str, c.images)] for c in report.classes]
        say("\n" + table(["class", *(s.split for s in report.splits)], classes))
        _print_together(report)
    say()
    for found in report.findings:
        say(f"{found.severity} {found.lines()}")
    say(f"{report.count('error')} errors, {report.count('warning')} warnings, {report.count('note')} notes")


def _print_together(report: Report) -> None:
    names = [c.name for c in report.classes]
    if len(names) > 25:
        say(f"\nco-occurrence of tags: {len(names)} classes are too many for a table; what matters is listed below")
        return
    say("\nimages that carry both tags:")
    rows = [[name, *map(str, row)] for name, row in zip(names, report.together, strict=True)]
    say(table(["", *names], rows))
