"""``tag2mask report``: one page of one run or several, to be opened in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tag2mask.cli.options import Root, opened
from tag2mask.cli.tables import say


def command(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="run folders; several are compared")],
    out: Annotated[Path, typer.Option("--out", "-o", help="the HTML file; a page that is there is replaced")],
    image: Annotated[list[str] | None, typer.Option(help="id of an image to show, repeatable")] = None,
    each: Annotated[int, typer.Option(min=0, help="how many best, median and worst images")] = 2,
    random: Annotated[int, typer.Option(min=0, help="how many images drawn at random")] = 2,
    seed: Annotated[int, typer.Option(min=0, help="of the draw")] = 0,
    root: Root = None,
) -> None:
    """Write one self-contained page: numbers, pictures with a slider for the threshold, curves, classes, costs.

    Example: tag2mask report runs/photos -o photos.html --image IMG_0042 --random 6
    """
    from tag2mask.core.files import megabytes
    from tag2mask.report.choice import ImageChoice
    from tag2mask.run_report.rebuild import write_report

    size = write_report(opened(runs, root), out, ImageChoice(tuple(image or ()), each, random, seed))
    say(f"report: {out} ({megabytes(size)})")
