"""``tag2mask run``: a recipe from tags to whatever its last stage makes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tag2mask.cli.options import Overrides, Recipe
from tag2mask.cli.tables import print_summary


def command(
    recipe: Recipe,
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="run folder; default: runs/<name of the recipe>")] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="a stage to make, with all that it reads; repeatable; default: all")
    ] = None,
) -> None:
    """Run a recipe; the same command again resumes it.

    Example: tag2mask run own-data data.root=photos data.tags=tags.csv --out runs/photos
    """
    from tag2mask.api import run

    print_summary(run(recipe, *(overrides or []), out=out, only=only or []))
