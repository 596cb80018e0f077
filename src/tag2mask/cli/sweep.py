"""``tag2mask sweep``: a recipe over a grid of settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tag2mask.cli.options import Recipe
from tag2mask.cli.tables import say, table

if TYPE_CHECKING:
    from tag2mask.sweep.result import Cell, Series, SweepResult


BESIDE = ("miou_foreground", "f1_foreground")
"""Metrics whose tables stand below those of mIoU."""


def command(
    recipe: Recipe,
    words: Annotated[
        list[str], typer.Argument(metavar="KEY=V1,V2...", help="settings to sweep; key=value is set for all points")
    ],
    stage: Annotated[
        list[str] | None, typer.Option(help="measuring stage to make, with all that it reads; default: all")
    ] = None,
    metric: Annotated[str, typer.Option(help="to plot and rank, such as miou, iou/cat, coverage or map")] = "miou",
    out: Annotated[Path | None, typer.Option(help="folder; default: runs/sweep-<name of the recipe>")] = None,
) -> None:
    """Run a recipe at every point of a grid; points share their common stages, and the same command resumes.

    A comma outside of brackets and quotes separates values: cam.scales=[1.0,0.5],[1.0] has two. seeds=[0,1,2] repeats
    every point for each seed. A failing point is reported at the end (exit code 2) and does not stop the rest.

    Example: tag2mask sweep own-data data.root=photos prototypes.tau=0.05,0.1,0.2 --stage lpcam-seeds
    """
    from tag2mask.core.processes.ranks import rank
    from tag2mask.sweep.grid import from_words
    from tag2mask.sweep.run import sweep

    grid, overrides = from_words(words)
    result = sweep(recipe, grid, overrides=overrides, out=out, only=stage or [], metric=metric)
    if rank() == 0:
        print_sweep(result)
    if result.failed:
        raise typer.Exit(2)


def print_sweep(result: SweepResult) -> None:
    """Print a table for each split and kind of threshold with the best points marked, the failed points, the files."""
    from tag2mask.sweep.grid import point_words
    from tag2mask.sweep.result import series_of

    every = series_of(result)
    if not every:
        say("nothing was measured: the data has no ground truth, or every point failed")
    for metric in (result.metric, *(BESIDE if result.metric == "miou" else ())):
        shown = series_of(replace(result, metric=metric))
        for split, kind in dict.fromkeys((s.split, s.kind) for s in shown):
            mine = [s for s in shown if (s.split, s.kind) == (split, kind)]
            say(f"{metric}, {'no threshold' if kind == 'none' else f'threshold: {kind}'}, {split}, {_images(mine)}")
            say(_table(result, mine) + "\n")
    if any(s.best is not None for s in every):
        say("* best point, chosen on the ground truth of these very images: its number is optimistic.")
    for point in result.failed:
        say(f"failed: {' '.join(point_words(result.keys, point.values))}: {point.error}")
    say(f"\nfolder: {result.path}")
    for path in result.files:
        say(str(path))


def _table(result: SweepResult, every: list[Series]) -> str:
    lines = [
        [*point.values, *(_cell(s.cells[i], best=s.best == i) for s in every)] for i, point in enumerate(result.points)
    ]
    blank = [""] * (len(result.keys) - 1)
    spreads = ["-" if s.spread is None else f"{s.spread:.2f}" for s in every]
    return table([*result.keys, *(s.method for s in every)], [*lines, ["spread", *blank, *spreads]])


def _cell(cell: Cell | None, *, best: bool) -> str:
    if cell is None:
        return "-"
    deviation = "" if cell.sd is None else f" ± {cell.sd:.2f} ({cell.n_seeds})"
    at = "" if cell.threshold is None else f" at {cell.threshold:.2f}"
    return f"{cell.mean:.2f}{deviation}{at}{' *' if best else ''}"


def _images(every: list[Series]) -> str:
    from tag2mask.sweep.result import image_counts

    counts = image_counts(every)
    if len(counts) == 1:
        return f"{counts[0]} images"
    return f"{counts[0]} to {counts[-1]} images: the numbers are of different images, so no point is called best"
