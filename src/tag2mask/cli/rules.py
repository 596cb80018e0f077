"""What ``tag2mask analyse threshold-rules`` and ``few-masks`` read from their options."""

from __future__ import annotations

import math
from collections.abc import Iterable

from tag2mask.core.errors import ConfigError
from tag2mask.core.names import shortened


def sizes(text: str) -> list[int]:
    """Numbers of masks, such as ``5,10,20``; each once.

    Raises:
        ConfigError: it is something else.
    """
    try:
        found = list(dict.fromkeys(int(word) for word in text.split(",")))
    except ValueError:
        found = []
    if not found or min(found) < 1:
        raise ConfigError(f"--n {shortened(text)}: expected numbers of masks separated by commas, such as 5,10,20")
    return found


def fixed_thresholds(texts: Iterable[str]) -> dict[str, list[float]]:
    """Thresholds by stage, from texts such as ``cam=0.3``.

    Raises:
        ConfigError: a text is something else, or its threshold is outside 0..1.
    """
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
    """A part of the images, such as ``1/2``.

    Raises:
        ConfigError: it is something else.
    """
    if text is None:
        return None
    words = text.split("/")
    if len(words) != 2 or not all(word.isdecimal() for word in words) or not 1 <= int(words[0]) <= int(words[1]):
        raise ConfigError(f"--part {shortened(text)}: expected i/k with i from 1 to k, such as 1/2")
    return int(words[0]), int(words[1])
