"""Errors by what their reader needs: the name, the value and the remedy, in whatever sentence these stand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import pytest

E = TypeVar("E", bound=BaseException)


def lacking(text: object, *parts: str | tuple[str, ...]) -> list[str | tuple[str, ...]]:
    """The parts that a text, or an error's, does not hold; of a tuple it has to hold one."""
    return [part for part in parts if not any(p in str(text) for p in (part if isinstance(part, tuple) else (part,)))]


@contextmanager
def refused(kind: type[E] | tuple[type[E], ...], *parts: str | tuple[str, ...]) -> Iterator[pytest.ExceptionInfo[E]]:
    """A block that ends with an error whose text holds every part.

    Args:
        kind: the error, or several of which it may be one.
        *parts: names, values and remedies, letter for letter; of what is wrong a few words, never the sentence. Where
            one of several will do, a tuple.
    """
    with pytest.raises(kind) as caught:
        yield caught
    assert lacking(caught.value, *parts) == [], str(caught.value)
