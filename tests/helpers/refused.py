"""Errors by what their reader needs: the name, the value and the remedy, in whatever sentence these stand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import pytest

E = TypeVar("E", bound=BaseException)
GAP = " … "


def lacking(text: object, *parts: str | tuple[str, ...]) -> list[str]:
    """The parts that a text, or an error's, does not hold; of a tuple it has to hold one."""
    choices = [(one,) if isinstance(one, str) else one for part in parts for one in _pieces(part)]
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
