"""Names and texts that come from outside, brought into a form that every terminal, log and UTF-8 file takes."""

from __future__ import annotations

import os
import re

_CONTROLS = "\x00-\x08\x0b-\x1f\x7f-\x9f"  # but line breaks and tabs
_TURNING = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_HIDDEN = re.compile(f"[{_CONTROLS}{_TURNING}\ud800-\udfff\u2028\u2029]")
"""Control characters, marks that change the direction of the text around them, lone surrogates, line separators."""
_LAYOUT = re.compile("[\t\n]")
_FIRST_BYTE, _LAST_BYTE, _OFFSET = 0xDC80, 0xDCFF, 0xDC00  # how Python keeps a byte of a name that is not UTF-8

LONGEST = 200
"""Characters of a name in a message; longer ones are not a typing mistake."""


SEED_MARK = "@"
"""Between the name of a stage and its seed, in a run of several seeds."""


def of_seed(name: str, seed: int) -> str:
    """The name of the instance that a stage has for one of several seeds."""
    return f"{name}{SEED_MARK}{seed}"


def base_name(name: str) -> str:
    """The name of a stage as in the recipe, from that of an instance for one of several seeds."""
    return name.partition(SEED_MARK)[0]


def shown(name: str | os.PathLike[str]) -> str:
    r"""A file name, class name or id on one line, what cannot be printed as escapes.

    Bytes that are not UTF-8 (names from old zips) become ``\xe9``, other lone surrogates ``\ud800``, control characters
    ``\x1b`` or ``\n``; everything else, a backslash too, stays.
    """
    return _LAYOUT.sub(_escaped, printable(os.fspath(name)))


def printable(text: str) -> str:
    """A text of several lines as `shown` would have it, its line breaks and tabs kept."""
    return _HIDDEN.sub(_escaped, text)


def shortened(value: object, longest: int = LONGEST) -> str:
    """A name or value in the middle of a message: as `shown`, at most ``longest`` characters; the rest is counted."""
    text = shown(str(value))
    return text if len(text) <= longest else f"{text[:longest]}… ({len(text) - longest} more characters)"


def is_utf8(name: str | os.PathLike[str]) -> bool:
    """Whether a name can be written as UTF-8: false for file names in another encoding, and for lone surrogates."""
    try:
        os.fspath(name).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _escaped(found: re.Match[str]) -> str:
    character = found.group()
    code = ord(character)
    if _FIRST_BYTE <= code <= _LAST_BYTE:
        return f"\\x{code - _OFFSET:02x}"
    return character.encode("unicode_escape").decode("ascii")
