"""``tag2mask cp``: a recipe to edit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tag2mask.cli.options import Recipe
from tag2mask.cli.tables import say


def command(
    recipe: Recipe,
    target: Annotated[Path, typer.Argument(help="new file, ending in .yaml")],
) -> None:
    """Copy a recipe, comments included, into a file of your own.

    Example: tag2mask cp own-data mine.yaml
    """
    from tag2mask.config.recipe import recipe_text
    from tag2mask.core.errors import ConfigError
    from tag2mask.core.errors import command as made
    from tag2mask.core.files import write_text

    text = recipe_text(recipe)
    if target.suffix not in {".yaml", ".yml"}:
        raise ConfigError(f"target '{target}' must end in .yaml, so that run takes it for a file")
    if target.exists():
        raise ConfigError(f"target '{target}' exists; remove it or name another file")
    write_text(target, text)
    say(f"{target}: edit it, then: {made('run', target, '--out', Path('runs') / target.stem)}")
