"""Blocks of recipes: commented YAML files that are put together as text, so that their comments stay.

A block is written like a part of a recipe, with three additions:

- ``crop if own-data: 320`` above ``crop: 512``: of lines with one key, the first whose condition holds is taken.
  A condition names blocks of the recipe or their folders (``voc12``, ``papers``) or parameters (``of=cam``), joined by
  ``and``, ``or`` (which binds less) and ``not``.
- ``use irn of=amn maps=amn-maps:`` puts the stages of another block there. What stands below it replaces lines of
  those stages, or adds some.
- ``<of>`` stands for the value of a parameter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from tag2mask.core.errors import ConfigError, unknown

_LINE = re.compile(
    r"(?P<key>[^\s#:][^#:]*?)(?: if (?P<condition>[^#:]+))?:(?: +(?P<value>[^\s#].*?))?(?: +(?P<comment>#.*))?$"
)
_COMMENTS_AT = 26


@dataclass(frozen=True)
class Entry:
    """A line of a block, the comment lines above it and all that is indented below it.

    Attributes:
        text: the lines of a value that begins with ``>`` or ``|``, which have no entries ``below``.
        where: file and line, for errors.
    """

    key: str
    value: str
    where: str
    condition: str = ""
    comment: str = ""
    above: tuple[str, ...] = ()
    below: tuple[Entry, ...] = ()
    text: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scope:
    """What holds while a block is expanded.

    Attributes:
        words: blocks of the recipe and their folders.
        known: every word that a condition may name.
        names: values of parameters.
        trail: blocks that are being expanded, each used by the one before.
    """

    words: frozenset[str]
    known: frozenset[str]
    names: Mapping[str, str] = field(default_factory=dict)
    trail: tuple[str, ...] = ()

    def with_names(self, **names: str) -> Scope:
        """The same with more parameters."""
        return replace(self, names={**self.names, **names})

    def holds(self, condition: str, where: str) -> bool:
        """Whether a condition holds; each of its words is checked, whatever the others say."""
        options = [[self._term(t.strip(), where) for t in option.split(" and ")] for option in condition.split(" or ")]
        return any(all(terms) for terms in options)

    def filled(self, text: str, where: str) -> str:
        """The text with the values of its parameters."""
        return re.sub(r"<([A-Za-z]+)>", lambda found: self._name(found[1], where), text)

    def _term(self, term: str, where: str) -> bool:
        word = term.removeprefix("not ")
        name, sign, value = word.partition("=")
        if not sign and word not in self.known:
            raise ConfigError(f"{where}: {unknown('block', word, self.known)}")
        holds = self._name(name, where) == value if sign else word in self.words
        return holds == (word == term)

    def _name(self, name: str, where: str) -> str:
        if name not in self.names:
            raise ConfigError(f"{where}: the parameter '{name}' has no value; give one: use BLOCK {name}=VALUE")
        return self.names[name]


class Blocks:
    """The blocks of a folder and its subfolders, by name."""

    def __init__(self, folder: Path) -> None:
        """Read which there are.

        Args:
            folder: with a folder for each kind of block, and any folders in these.
        """
        self._folder = folder
        self.files: dict[str, Path] = {}
        for path in sorted(folder.glob("*/**/*.yaml")):
            if (other := self.files.setdefault(path.stem, path)) != path:
                raise ConfigError(f"two blocks have one name: {other} and {path}; give one another name")
        self._read: dict[Path, tuple[Entry, ...]] = {}

    def words(self, block: str) -> tuple[str, ...]:
        """The folders of a block, outermost first, and its own name."""
        if block not in self.files:
            raise ConfigError(unknown("block", block, self.files))
        return self.files[block].relative_to(self._folder).with_suffix("").parts

    def scope(self, blocks: Iterable[str]) -> Scope:
        """What holds in a recipe of these blocks."""
        known = frozenset(word for block in self.files for word in self.words(block))
        return Scope(frozenset(word for block in blocks for word in self.words(block)), known)

    def block(self, name: str, where: str) -> tuple[Entry, ...]:
        """The entries of a block."""
        if name not in self.files:
            raise ConfigError(f"{where}: {unknown('block', name, self.files)}")
        return self.read(self.files[name])

    def read(self, path: Path) -> tuple[Entry, ...]:
        """The entries of a file."""
        if path not in self._read:
            lines = path.read_text(encoding="utf-8").splitlines()
            name = path.relative_to(self._folder.parent).as_posix()
            first, *rest = _entries([(f"{name}, line {n}", line) for n, line in enumerate(lines, 1) if line.strip()])
            self._read[path] = (replace(first, above=()), *rest)  # the comment at the top is about the block
        return self._read[path]

    def expanded(self, entries: Iterable[Entry], scope: Scope) -> tuple[Entry, ...]:
        """The entries that hold, with the stages of the blocks that they use and the values of parameters."""
        found: dict[str, Entry] = {}
        used: dict[str, Entry] = {}
        for entry in entries:
            holds = not entry.condition or scope.holds(entry.condition, entry.where)
            key = scope.filled(entry.key, entry.where)
            if not holds or (key in found and key not in used):
                continue
            above = tuple(scope.filled(line, entry.where) for line in entry.above)
            below = self.expanded(entry.below, scope)
            if key.startswith("use "):
                first, *rest = _changed(self._used(key, entry.where, scope), below)
                new = {e.key: e for e in (replace(first, above=above + first.above), *rest)}
                used |= new
            else:
                value, comment = (scope.filled(text, entry.where) for text in (entry.value, entry.comment))
                text = tuple(scope.filled(line, entry.where) for line in entry.text)
                new = {key: Entry(key, value, entry.where, "", comment, above, below, text)}
            if twice := found.keys() & new.keys():
                other = found[min(twice)]
                raise ConfigError(
                    f"{entry.where}: '{other.key}' is there already, from {other.where}: leave one out, or change it "
                    "below its 'use'"
                )
            found |= new
        return tuple(found.values())

    def _used(self, key: str, where: str, scope: Scope) -> tuple[Entry, ...]:
        """The stages that ``use BLOCK name=value …`` stands for."""
        _, name, *words = key.split()
        stages = section(self.block(name, where), "stages")
        if not stages or name in scope.trail:
            problem = "uses itself" if stages else "has no stages"
            raise ConfigError(f"{where}: the block '{name}' {problem}; leave out '{key}'")
        if wrong := [word for word in words if "=" not in word]:
            raise ConfigError(f"{where}: '{wrong[0]}' is not NAME=VALUE, such as maps=cam")
        names = dict(word.split("=", 1) for word in words)
        return self.expanded(stages, replace(scope, names=names, trail=(*scope.trail, name)))


def section(entries: Iterable[Entry], key: str) -> tuple[Entry, ...]:
    """What stands below a key of a block."""
    return next((entry.below for entry in entries if entry.key == key), ())


def flat(entries: Iterable[Entry], indent: int = 0) -> Iterator[str]:
    """Lines of YAML of entries that have been expanded, comments in one column where there is room."""
    for entry in entries:
        yield from (" " * indent + line for line in entry.above)
        line = f"{' ' * indent}{entry.key}: {entry.value}".rstrip()
        yield f"{line:<{_COMMENTS_AT - 2}}  {entry.comment}" if entry.comment else line
        yield from (f"{' ' * indent}  {line}" for line in entry.text)
        yield from flat(entry.below, indent + 2)


def _entries(lines: Iterable[tuple[str, str]]) -> tuple[Entry, ...]:
    """Entries of lines, each with where it stands; the first line that is not a comment gives the indentation."""
    found: list[Entry] = []
    above: list[str] = []
    rest, first = list(lines), -1
    while rest:
        where, line = rest.pop(0)
        if line.lstrip().startswith("#"):
            above.append(line.strip())
            continue
        body = []
        while rest and _indent(rest[0][1]) > _indent(line):
            body.append(rest.pop(0))
        match = _LINE.match(line.strip())
        if match is None or first not in {-1, _indent(line)}:
            raise ConfigError(f"{where}: '{line.strip()}' is not 'key: value' below the line that it belongs to")
        first = _indent(line)
        key, condition, value, comment = (part or "" for part in match.groups())
        entry = Entry(key, value, where, condition, comment, tuple(above))
        if value.startswith((">", "|")):
            found.append(replace(entry, text=tuple(line.strip() for _, line in body)))
        else:
            found.append(replace(entry, below=_entries(body)))
        above = []
    return tuple(found)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _changed(stages: Iterable[Entry], changes: Iterable[Entry]) -> tuple[Entry, ...]:
    """Stages with changes laid over them; each changes one that is there."""
    found = {entry.key: entry for entry in stages}
    for change in changes:
        if change.key not in found:
            raise ConfigError(f"{change.where}: {unknown('stage', change.key, found)}")
        found[change.key] = _over(found[change.key], change)
    return tuple(found.values())


def _over(entry: Entry, change: Entry) -> Entry:
    """An entry with the lines of a change: those of equal keys are replaced, others added at the end."""
    if not (entry.below and change.below):
        return change
    found = {line.key: line for line in entry.below}
    for line in change.below:
        found[line.key] = _over(found[line.key], line) if line.key in found else line
    return replace(entry, below=tuple(found.values()))
