"""A recipe: one complete YAML file with data, stages and numbers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field

from tag2mask.config.engine import Engine
from tag2mask.config.overrides import apply_overrides
from tag2mask.config.plain import read_yaml
from tag2mask.config.settings import Settings, validate
from tag2mask.core.errors import ConfigError, command, unknown
from tag2mask.core.names import shortened

LARGEST_SEED = 2**63 - 1
"""What torch and numpy both take."""


class Recipe(Settings):
    """A recipe as read; kinds and settings of its data and stages are checked when a run is planned.

    Attributes:
        data: ``kind`` and the settings of that reader.
        stages: instance name -> ``kind``, ``reads`` (role -> instance name) and the settings of that kind.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    description: str = ""
    data: dict[str, Any]
    seeds: tuple[Annotated[int, Field(ge=0, le=LARGEST_SEED)], ...] = Field((0,), min_length=1)
    allow_supervision: tuple[str, ...] = ("tags",)
    engine: Engine = Field(default_factory=Engine)
    stages: dict[str, dict[str, Any]] = Field(min_length=1, max_length=200)


def shipped() -> dict[str, Path]:
    """The recipes that come with the package, by name."""
    folder = Path(str(resources.files("tag2mask.recipes")))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def recipe_path(name: str) -> Path:
    """The file of a recipe: a name that ``tag2mask ls`` shows, or a path that ends in .yaml."""
    path = Path(name)
    if path.suffix in {".yaml", ".yml"}:
        if not os.path.exists(path):  # unlike Path.exists, also of a name that is too long
            copied = shortened(command("cp", "own-data", path.name))
            raise ConfigError(f"recipe file '{shortened(name)}' does not exist; copy one with: {copied}")
        return path
    if name not in shipped():
        raise ConfigError(unknown("recipe", name, shipped()) + ". A file of your own must end in .yaml")
    return shipped()[name]


def load_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe by name or path and apply overrides."""
    path = recipe_path(name)
    values = read_yaml(path, "recipe")
    if not isinstance(values, Mapping):
        raise ConfigError(f"recipe {path} is not a mapping with name, data and stages")
    return validate(Recipe, apply_overrides(values, overrides), "")


def reduced(recipe: Recipe, stages: Sequence[str]) -> Recipe:
    """The recipe with these stages and all that they read, however far up, in its own order."""
    wanted: set[str] = set()
    waiting = list(stages)
    while waiting:
        name = waiting.pop()
        if name not in recipe.stages:
            raise ConfigError(unknown("stage", name, recipe.stages))
        if name not in wanted:
            wanted.add(name)
            reads = recipe.stages[name].get("reads")
            sources = reads.values() if isinstance(reads, Mapping) else ()  # what is neither: make_plan says
            waiting += [source for source in sources if isinstance(source, str) and source in recipe.stages]
    kept = {name: spec for name, spec in recipe.stages.items() if name in wanted}
    return recipe.model_copy(update={"stages": kept})


def dump_recipe(recipe: Recipe) -> str:
    """A recipe as YAML, in the order of its schema."""
    text: str = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100)
    return text
