"""The grid of a sweep: parses its words, checks its axes, lists its points and names their folders."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence

from tag2mask.config.plain import parse_yaml
from tag2mask.core.errors import ConfigError
from tag2mask.core.files import value_hash
from tag2mask.core.names import shortened

_OPEN, _CLOSE, _QUOTES = "[{(", "]})", "'\""
_LONGEST = 100
_UNSAFE = re.compile(r"[^A-Za-z0-9._=+-]+")
_WITHOUT_EFFECT = ("name", "description", "engine")
"""Parts of a recipe that change no result."""


def split_values(text: str) -> tuple[str, ...]:
    """Split a text at its commas outside of brackets and quotes: ``[1.0,0.5],[1.0]`` has two values."""
    values, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in _QUOTES:
            quote = letter
        else:
            depth += (letter in _OPEN) - (letter in _CLOSE)
        if letter == "," and not depth and not quote:
            values.append("")
        else:
            values[-1] += letter
    return tuple(value.strip() for value in values)


def from_words(words: Sequence[str]) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    """The axes ``key=v1,v2,…`` among some words, setting -> values, and the overrides ``key=value`` as they were."""
    grid: dict[str, tuple[str, ...]] = {}
    overrides = []
    for word in words:
        key, _, text = word.partition("=")
        values = split_values(text)
        if len(values) == 1:
            overrides.append(word)
        elif key in grid:
            raise ConfigError(f"'{word}': {key} is swept already; name each setting once, with all its values")
        else:
            grid[key] = values
    if not grid:
        raise ConfigError("nothing to sweep: give a setting several values, such as prototypes.tau=0.05,0.1,0.2")
    return grid, tuple(overrides)


def check_grid(grid: Mapping[str, Sequence[str]], overrides: Sequence[str]) -> None:
    """Check a grid without its recipe: its axes, their values, and that no setting is swept that must not be."""
    if not grid:
        raise ConfigError("nothing to sweep: the grid has no setting")
    fixed = {word.partition("=")[0]: word for word in overrides}
    for key, values in grid.items():
        words = f"{key}={','.join(values)}"
        if key == "seeds":
            raise ConfigError(
                f"'{words}': 'seeds' cannot be swept: every point is repeated for each seed. Give them as a list, "
                f"seeds=[{','.join(values)}], and each point is a mean ± standard deviation"
            )
        if key.partition(".")[0] in _WITHOUT_EFFECT:
            raise ConfigError(
                f"'{words}': {key.partition('.')[0]} does not change any number; sweep a setting of a stage or data"
            )
        if key in fixed:
            raise ConfigError(f"{key} is swept ('{words}') and set ('{fixed[key]}'); give one of the two")
        _check_values(words, values)


def _check_values(words: str, values: Sequence[str]) -> None:
    if not values or not all(values):
        raise ConfigError(f"'{words}' has an empty value; expected key=v1,v2,… (null is written out)")
    known: dict[str, str] = {}
    for value in values:
        meant = value_hash(parse_yaml(value, f"'{shortened(words)}': the value {shortened(value)}"))
        if meant in known:
            raise ConfigError(f"'{words}' has one value twice: {known[meant]} and {value}")
        known[meant] = value


def grid_points(grid: Mapping[str, Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    """Every combination of values, in the order of the keys, the last one varying fastest."""
    return tuple(itertools.product(*grid.values()))


def point_words(keys: Sequence[str], values: Sequence[str]) -> tuple[str, ...]:
    """The overrides of one point, ``key=value``."""
    return tuple(f"{key}={value}" for key, value in zip(keys, values, strict=True))


def point_name(keys: Sequence[str], values: Sequence[str]) -> str:
    """Name of a point's folder, which depends on its settings alone; a hash replaces what a name cannot hold."""
    plain = "+".join(point_words(keys, values))
    name = _UNSAFE.sub("-", plain)[:_LONGEST]
    return name if name == plain else f"{name}-{value_hash(plain)[:8]}"


def as_numbers(values: Sequence[str]) -> tuple[float, ...] | None:
    """The values as finite numbers; None if one is not a number."""
    try:
        numbers = tuple(float(value) for value in values)
    except ValueError:
        return None
    return numbers if all(map(math.isfinite, numbers)) else None
