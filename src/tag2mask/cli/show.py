"""``tag2mask show``: a recipe with every default filled in, and its comments."""

from __future__ import annotations

from typing import Annotated

import typer

from tag2mask.cli.options import Recipe
from tag2mask.cli.tables import say


def command(
    recipe: Recipe,
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value")] = None,
) -> None:
    """Check a recipe and print it, defaults, overrides and comments included.

    Example: tag2mask show voc12-lpcam data.root=VOCdevkit/VOC2012
    """
    from tag2mask.config.recipe import commented, dump_recipe, load_recipe, recipe_text
    from tag2mask.pipeline.plan import make_plan

    resolved = dump_recipe(make_plan(load_recipe(recipe, overrides or [])).recipe)
    say(commented(resolved, recipe_text(recipe)).rstrip())
