"""``tag2mask demo``: the whole way on generated scenes, in a few minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tag2mask.cli.tables import print_summary


def command(
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value, such as data.difficulty=hard")] = None,
    out: Annotated[Path, typer.Option(help="run folder")] = Path("runs/demo"),
) -> None:
    """Draw scenes, train a classifier on their tags, compare CAM, LPCAM-F and LPCAM; ends with a page to open.

    Example: tag2mask demo --out runs/demo
    """
    from tag2mask.api import run
    from tag2mask.core.errors import command as made

    print_summary(run("demo", *(overrides or []), out=out, command=made("demo", *(overrides or []), "--out", out)))
