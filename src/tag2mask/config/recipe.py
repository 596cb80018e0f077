"""A recipe: data, stages and numbers, flat and complete, from a file or composed of the blocks of the package."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field

from tag2mask.config.compose import packaged
from tag2mask.config.engine import Engine
from tag2mask.config.overrides import apply_overrides
from tag2mask.config.plain import parse_yaml, yaml_text
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


def shipped() -> tuple[str, ...]:
    """Names of the recipes that come with the package, as ``tag2mask ls`` lists them."""
    return packaged().names


def recipe_text(name: str) -> str:
    """The text of a recipe, comments included.

    Args:
        name: of a recipe of the package, or a path that ends in .yaml.
    """
    path = Path(name)
    if path.suffix not in {".yaml", ".yml"}:
        return packaged().text(name)
    if not os.path.exists(path):  # unlike Path.exists, also of a name that is too long
        meant = path.stem if path.stem in packaged().names else "own-data"
        copied = shortened(command("cp", meant, path.name))
        raise ConfigError(f"recipe file '{shortened(name)}' does not exist; copy one with: {copied}")
    return yaml_text(path, "recipe")


def load_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe by name or path and apply overrides."""
    values = parse_yaml(recipe_text(name), f"recipe {shortened(name)}")
    if not isinstance(values, Mapping):
        raise ConfigError(f"recipe {shortened(name)} is not a mapping with name, data and stages")
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


def commented(text: str, source: str) -> str:
    """YAML with the comments of other YAML: above equal keys, and behind equal values.

    Args:
        text: as `dump_recipe` writes it, of a recipe in which every default is filled in.
        source: of the same recipe, as a person wrote it.
    """
    values, given = parse_yaml(text, "recipe"), parse_yaml(source, "recipe")
    found: dict[tuple[str, ...], tuple[list[str], str]] = {}
    above: list[str] = []
    for path, line in _keyed(source):
        if path:
            comment = _BEHIND.search(line)
            found[path], above = (above, comment[0].strip() if comment else ""), []
        elif line.lstrip().startswith("#"):
            above.append(line.strip())
    lines = []
    for path, line in _keyed(text):
        over, behind = found.get(path, ([], ""))
        lines += [line[: len(line) - len(line.lstrip())] + comment for comment in over]
        kept = behind and (isinstance(value := _at(values, path), Mapping) or value == _at(given, path))
        lines.append(f"{line:<24}  {behind}" if kept else line)
    result = "\n".join([*lines, ""])
    return result if parse_yaml(result, "recipe") == values else text


_BEHIND = re.compile(r"\s#\s.*$")
_KEYED = re.compile(r"( *)([^\s#'\"\[{-][^#]*?|'[^']*'|\"[^\"]*\"):(\s|$)")


def _keyed(text: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """Lines of YAML, each with the keys that lead to it; lines without a key have none."""
    path: list[tuple[int, str]] = []
    for line in text.splitlines():
        match = _KEYED.match(line)
        if match:
            path = [*(part for part in path if part[0] < len(match[1])), (len(match[1]), match[2].strip("'\""))]
        yield (tuple(key for _, key in path) if match else ()), line


def _at(values: Any, path: Sequence[str]) -> Any:
    for key in path:
        values = values.get(key) if isinstance(values, Mapping) else None
    return values
