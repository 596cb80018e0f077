"""Finds class names that look like several tags written into one, or like each other."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence

from tag2mask.data.base import DataSettings, Finding

_LISTS = ("|", "\t", ";", ",")
"""Separators that hardly any name of one thing holds (but for a comma before a blank)."""
_SIGNS = ("/", "+", "&")
"""Separators that a name may hold: taken for such where one of the parts occurs elsewhere."""
_WITHIN = (" ", "_", "-")
"""Characters inside ordinary names: taken for separators where every part is a class of its own."""


def name_findings(names: Sequence[str], settings: DataSettings) -> list[Finding]:
    """Warnings about names that are probably several tags, and about names that differ next to nothing.

    Args:
        names: every class of a data set.
        settings: of its reader; only those with ``separator`` and ``fold_case`` are advised to set them.
    """
    return [*_several(names, hasattr(settings, "separator")), *_alike(names, hasattr(settings, "fold_case"))]


def several_in(name: str, names: Collection[str]) -> str | None:
    """The separator at which a name falls apart into tags; None where it is a name of one thing."""
    others = [n for n in names if n != name]
    alone = {n.casefold() for n in others}
    for separator in (*_LISTS, *_SIGNS, *_WITHIN):
        parts = _parts(name, separator)
        if len(parts) > 1 and _apart(separator, name, parts, alone, others):
            return separator
    return None


def _apart(separator: str, name: str, parts: Sequence[str], alone: Collection[str], others: Iterable[str]) -> bool:
    if all(p in alone for p in parts):
        return True
    along = [_parts(other, separator) for other in others]
    if any(sorted(other) == sorted(parts) for other in along if len(other) > 1):  # 'cat dog' beside 'dog cat'
        return True
    if separator in _WITHIN:
        return False
    if separator in _LISTS and not (separator == "," and ", " in name):
        return True
    return any(p in alone for p in parts) or any(set(parts) & set(other) for other in along if len(other) > 1)


def _parts(name: str, separator: str) -> list[str]:
    return [part for piece in name.casefold().split(separator) if (part := piece.strip())]


def _several(names: Sequence[str], can_set: bool) -> list[Finding]:
    found: dict[str, list[str]] = {}
    for name in names:
        separator = several_in(name, names)
        if separator is not None:
            found.setdefault(separator, []).append(name)
    remedy = "Set \"data.separator='{}'\", or leave it so if that is one thing"
    return [
        Finding(
            "name", "warning", tuple(which),
            f"{len(which)} of {len(names)} classes look like several tags parted by {_called(separator)}, such as "
            f"'{which[0]}'",
            remedy.format(separator) if can_set else "Write each class by itself, unless that is one thing",
        )
        for separator, which in found.items()
    ]  # fmt: skip


def _called(separator: str) -> str:
    return {" ": "a blank", "\t": "a tab"}.get(separator, f"'{separator}'")


def _alike(names: Sequence[str], can_set: bool) -> list[Finding]:
    """Names that differ in upper and lower case alone, or in blanks, ``_`` and ``-`` besides."""
    case, groups = _grouped(names, str.lower), _grouped(names, lambda n: re.sub(r"[\s_-]+", "", n.lower()))
    findings = []
    for group in groups:
        only_case = group in case
        differ = "upper and lower case" if only_case else "blanks, '_', '-' or case"
        text = f"classes {', '.join(map(repr, group))} differ in {differ} alone"
        remedy = "Set data.fold_case=true, or " if only_case and can_set else ""
        findings.append(Finding("name", "warning", group, text, f"{remedy}{'w' if remedy else 'W'}rite them alike"))
    return findings


def _grouped(names: Sequence[str], key: Callable[[str], str]) -> list[tuple[str, ...]]:
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(key(name), []).append(name)
    return [tuple(group) for group in groups.values() if len(group) > 1]
