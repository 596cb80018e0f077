"""``tag2mask ls``: what there is."""

from __future__ import annotations

from typing import Annotated

import typer

from tag2mask.cli.tables import say


def command(
    what: Annotated[str | None, typer.Argument(help="recipes, stages or data; all where left out")] = None,
) -> None:
    """List recipes, kinds of stage and kinds of data.

    Example: tag2mask ls recipes
    """
    from tag2mask.core.errors import ConfigError, unknown

    parts = {"recipes": _recipes, "stages": _stages, "data": _data}
    if what is not None and what not in parts:
        raise ConfigError(unknown("list", what, parts))
    for name, part in parts.items():
        if what in {None, name}:
            say(f"{name}:")
            for label, text in part():
                say(f"  {label:<20} {text}")


def _recipes() -> list[tuple[str, str]]:
    from tag2mask.config.recipe import load_recipe, shipped

    return [(name, load_recipe(name).description) for name in shipped()]


def _stages() -> list[tuple[str, str]]:
    from tag2mask.methods.registry import stage_kinds

    kinds = stage_kinds().values()
    roles = {k.name: [*k.reads, *(f"{role} (optional)" for role in k.may_read)] for k in kinds}
    return [
        (k.name, f"makes {k.makes}" + (f", reads {', '.join(roles[k.name])}" if roles[k.name] else "")) for k in kinds
    ]


def _data() -> list[tuple[str, str]]:
    from tag2mask.data.registry import READERS, reader

    return [(name, ", ".join(reader(name).SETTINGS.model_fields)) for name in READERS]
