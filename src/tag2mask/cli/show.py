"""``tag2mask show``: a recipe with every default filled in."""

from __future__ import annotations

from typing import Annotated

import typer

from tag2mask.cli.tables import say


def command(
    recipe: Annotated[str, typer.Argument(help="a name that 'tag2mask ls' shows, or a .yaml file")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value")] = None,
) -> None:
    """Check a recipe and print it, defaults and overrides included.

    Example: tag2mask show voc12-lpcam data.root=VOCdevkit/VOC2012
    """
    from tag2mask.config.recipe import dump_recipe, load_recipe
    from tag2mask.pipeline.plan import make_plan

    say(dump_recipe(make_plan(load_recipe(recipe, overrides or [])).recipe).rstrip())
