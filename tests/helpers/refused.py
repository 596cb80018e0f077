"""Errors by what their reader needs: the name, the value and the remedy, in whatever sentence these stand."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import pytest

E = TypeVar("E", bound=BaseException)
GAP = " … "
MOST_WORDS = 5
"""Plain words in a row that a test may expect of an error: more are a sentence, which may be put otherwise."""

_WORD = re.compile(r"(?<![\w.\\/'=_-])[A-Za-z][a-z']+(?![\w\\/=_])(?!\.\w)")


def plain_words(text: str) -> int:
    """Words of prose; what stands in quotes, names of files, settings, options and paths are none."""
    return len(_WORD.findall(re.sub(r"'[^']*'", " ", text)))


def lacking(text: object, *parts: str | tuple[str, ...]) -> list[str]:
    """The parts that a text, or an error's, does not hold; of a tuple it has to hold one.

    Raises:
        ValueError: a part is a sentence.
    """
    choices = [(one,) if isinstance(one, str) else one for part in parts for one in _pieces(part)]
    for choice in choices:
        if max(map(plain_words, choice)) > MOST_WORDS:
            raise ValueError(f"{choice} is a sentence: name, value and remedy are enough")
    return [" or ".join(choice) for choice in choices if not any(one in str(text) for one in choice)]


def _pieces(part: str | tuple[str, ...]) -> list[str] | list[tuple[str, ...]]:
    return part.split(GAP) if isinstance(part, str) else [part]


@contextmanager
def refused(kind: type[E] | tuple[type[E], ...], *parts: str | tuple[str, ...]) -> Iterator[pytest.ExceptionInfo[E]]:
    """A block that ends with an error whose text holds every part.

    Args:
        kind: the error, or several of which it may be one.
        *parts: names, values and remedies, letter for letter; of what is wrong a few words, never the sentence. Several
            may stand in one text, parted by `` … ``; where one of several will do, a tuple.
    """
    with pytest.raises(kind) as caught:
        yield caught
    assert lacking(caught.value, *parts) == [], str(caught.value)
