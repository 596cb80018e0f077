"""Options that several verbs have, and what is read from their texts."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tag2mask.core.errors import ConfigError
from tag2mask.core.names import shortened

if TYPE_CHECKING:
    from tag2mask.pipeline.opened_run import OpenedRun

Recipe = Annotated[str, typer.Argument(help="a name that 'tag2mask ls' shows, or a .yaml file")]
Overrides = Annotated[list[str] | None, typer.Argument(help="key=value, such as data.root=photos")]
Run = Annotated[Path, typer.Argument(help="run folder")]
Runs = Annotated[list[Path], typer.Argument(metavar="RUN...", help="run folders on the same images")]
Root = Annotated[Path | None, typer.Option(help="folder of the run's data, where they have moved")]


def opened(runs: Iterable[Path], root: Path | None) -> list[OpenedRun]:
    """The runs that a verb looks at."""
    from tag2mask.pipeline.opened_run import OpenedRun

    return [OpenedRun(run, root) for run in runs]


def sizes(text: str) -> list[int]:
    """Numbers of masks, such as ``5,10,20``; each once."""
    try:
        found = list(dict.fromkeys(int(word) for word in text.split(",")))
    except ValueError:
        found = []
    if not found or min(found) < 1:
        raise ConfigError(f"--n {shortened(text)}: expected numbers of masks separated by commas, such as 5,10,20")
    return found


def fixed_thresholds(texts: Iterable[str]) -> dict[str, list[float]]:
    """Thresholds by stage, from texts such as ``cam=0.3``."""
    found: dict[str, list[float]] = {}
    for text in texts:
        name, _, word = text.partition("=")
        try:
            value = float(word)
        except ValueError:
            value = math.nan
        if not name or not 0 <= value <= 1:
            raise ConfigError(
                f"--fixed {shortened(text)}: expected STAGE=THRESHOLD, a threshold from 0 to 1, such as cam=0.3"
            )
        found.setdefault(name, []).append(value)
    return found


def part_of(text: str | None) -> tuple[int, int] | None:
    """A part of the images, such as ``1/2``."""
    if text is None:
        return None
    words = text.split("/")
    if len(words) != 2 or not all(word.isdecimal() for word in words) or not 1 <= int(words[0]) <= int(words[1]):
        raise ConfigError(f"--part {shortened(text)}: expected i/k with i from 1 to k, such as 1/2")
    return int(words[0]), int(words[1])
