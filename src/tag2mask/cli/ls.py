"""``tag2mask ls``: lists recipes, kinds of stage and readers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tag2mask.cli.tables import say

if TYPE_CHECKING:
    from tag2mask.methods.stage_kinds import StageKind


def command(
    what: Annotated[str | None, typer.Argument(help="recipes, stages or readers; default: all")] = None,
) -> None:
    """List recipes, kinds of stage and readers of data, those of other packages too.

    Example: tag2mask ls recipes
    """
    from tag2mask.core.errors import ConfigError, unknown

    parts = {"recipes": _recipes, "stages": _stages, "readers": _readers}
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

    return [(kind.name, _about(kind)) for kind in stage_kinds().values()]


def _about(kind: StageKind[Any]) -> str:
    """What a kind makes and reads, such as ``makes maps, reads classifier``."""
    from tag2mask.methods.stage_kinds import ChoiceStage

    roles = [*kind.reads, *(f"{role} (optional)" for role in kind.may_read)]
    several = [f"several stages of {kind.makes}"] if isinstance(kind, ChoiceStage) else []
    reads = ", ".join([*several, *roles])
    return f"makes {kind.makes}" + (f", reads {reads}" if reads else "")


def _readers() -> list[tuple[str, str]]:
    from tag2mask.data.registry import reader, readers

    return [(name, ", ".join(reader(name).SETTINGS.model_fields)) for name in readers()]
