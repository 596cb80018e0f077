"""What other installed packages add through their entry points: kinds of stage, and readers of data."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from types import ModuleType

from tag2mask.core.errors import ConfigError
from tag2mask.core.progress import LOG


@dataclass(frozen=True, slots=True)
class Plugin:
    """One entry point whose module was imported.

    Attributes:
        name: of the entry point.
        package: that has it, as in ``package 'tag2mask-plants' 1.2``.
        module: that it names.
    """

    name: str
    package: str
    module: str


@cache
def plugins(group: str, check: Callable[[ModuleType], object]) -> tuple[Plugin, ...]:
    """The entry points of a group, in the order of their packages; looked for once in a process.

    One whose module cannot be imported, or has not what it must offer, is named in a warning and left out.

    Args:
        group: such as ``tag2mask.methods``.
        check: called with each module, to raise what is wrong with what it offers.
    """
    found = []
    entries = [(_package(entry), entry) for entry in metadata.entry_points(group=group)]
    for package, entry in sorted(entries, key=lambda e: (e[0], e[1].name)):
        try:
            check(importlib.import_module(entry.module))
        except (Exception, SystemExit) as error:  # whatever the code of others raises, the rest works without it
            LOG.warning(
                "%s: its entry point %s = %s (%s) is left out: %s: %s. Fix or uninstall it",
                package, entry.name, entry.value, group, type(error).__name__, error,
            )  # fmt: skip
            continue
        found.append(Plugin(entry.name, package, entry.module))
    return tuple(found)


def _package(entry: metadata.EntryPoint) -> str:
    """The package of an entry point in words; one whose metadata are damaged has no name."""
    if entry.dist is None or not entry.dist.metadata["Name"]:
        return f"the package of {entry.value}"
    return f"package '{entry.dist.name}' {entry.dist.version}"


def each_from_one(what: str, offered: Iterable[tuple[str, str]]) -> None:
    """Refuse a name that two packages give to something of theirs.

    Args:
        what: is named, such as ``stage kind``.
        offered: (name, package or module that offers it).

    Raises:
        ConfigError: the name, and both of them.
    """
    owners: dict[str, str] = {}
    for name, owner in offered:
        if owners.setdefault(name, owner) != owner:
            raise ConfigError(
                f"{what} '{name}' is of {owners[name]} and of {owner}: expected one of each name. Choose another name, "
                "or uninstall one of the two"
            )
