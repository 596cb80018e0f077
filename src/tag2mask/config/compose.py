"""The recipes that come with the package: flat commented texts, composed of the blocks in ``recipes/``.

A recipe is the blocks that its name is made of (``voc12-amn-lpcam-upernet``), or a file ``recipes/NAME.yaml`` with
``blocks`` and ``stages``. Beside the parts of a recipe a block may have:

- ``title`` (else the description), ``command`` (else a plain run) and ``head``, which make the comment at the top;
- ``description``, in which ``<description>`` is that of the blocks before it (maps, chain, network, data);
- ``for``, the condition under which it may be in a recipe;
- ``masks``, for a chain: the stage that a network learns from.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, cached_property
from importlib import resources
from pathlib import Path

from tag2mask.config.blocks import Blocks, Entry, Scope, flat, section
from tag2mask.config.plain import parse_yaml, read_yaml
from tag2mask.core.errors import ConfigError, command, nearest
from tag2mask.core.names import shortened

_IN_NAMES = ("data", "chain", "maps", "network")
"""Kinds of block, each a folder, that a name is made of, in its order."""
_IN_STAGES = ("maps", "chain", "network")
"""Those that bring stages, in order."""
_IN_HEADS = ("own", "data", *_IN_STAGES, "modifier")
_OVER = ("own", "modifier", "data", "network", "chain", "maps", "run")
"""Whose word counts for a key that several have; ``own`` is the recipe's file, ``run`` a block of every recipe."""
_SECTIONS = ("data", "seeds", "allow_supervision", "engine")
_MAPS = "cam"
"""The maps of a chain where a name says none."""
_LONGEST = 6
"""Words of a block's name."""
_WIDTH = 120


class Recipes:
    """The recipes of a folder of blocks."""

    def __init__(self, folder: Path) -> None:
        """Read what there is.

        Args:
            folder: recipes as files, ``composed.yaml`` with names of others, and a folder for each kind of block.
        """
        self._blocks = Blocks(folder)
        self._own = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
        self._composed: list[str] = read_yaml(self._own.pop("composed"), "list of recipes")

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The recipes that are listed, sorted; blocks can be composed in other ways, too."""
        return tuple(sorted([*self._own, *self._composed]))

    def text(self, name: str) -> str:
        """A recipe as flat YAML with comments.

        Args:
            name: one of `names`, or blocks joined by "-" in the order data, chain, maps, network.
        """
        kinds, parts = self._parts(name)
        scope = self._scope(name, kinds)
        for kind, block in kinds.items():
            for entry in (e for e in parts[kind] if e.key == "for"):
                if not scope.holds(entry.value, entry.where):
                    known = command("ls", "recipes")
                    raise ConfigError(f"recipe '{name}': block '{block}' goes with '{entry.value}' only; see: {known}")
        for part in reversed(list(parts.values())):
            scope = scope.with_names(description=self._text(part, "description", scope) or scope.names["description"])
        lines = [*self._top(parts, scope), f"name: {name}", f"description: {scope.names['description']}"]
        for key in _SECTIONS:
            found = next(filter(None, (self._entry(part, key, scope) for part in parts.values())), None)
            if found is None:
                raise ConfigError(f"recipe '{name}': none of its blocks has '{key}'; add one that has to its 'blocks'")
            lines += flat(found)
        stages = section(parts["own"], "stages") or self._uses(name, kinds, self._text(parts["chain"], "masks", scope))
        return "\n".join([*lines, "stages:", *flat(self._blocks.expanded(stages, scope), 2), ""])

    def _parts(self, name: str) -> tuple[dict[str, str], dict[str, tuple[Entry, ...]]]:
        """The blocks of a recipe by kind, and the entries of each part of it, in the order of `_OVER`."""
        own = self._blocks.read(self._own[name]) if name in self._own else ()
        listed = next((parse_yaml(entry.value, entry.where) for entry in own if entry.key == "blocks"), ())
        kinds = {self._blocks.words(block)[0]: block for block in listed} if own else self._named(name)
        parts = {kind: self._blocks.block(block, name) for kind, block in {**kinds, "run": "run"}.items()}
        return kinds, {kind: own if kind == "own" else parts.get(kind, ()) for kind in _OVER}

    def _named(self, name: str) -> dict[str, str]:
        """The blocks that a name is made of, by kind."""
        words, found = name.split("-"), dict[str, str]()
        while words:
            size = next((n for n in range(min(len(words), _LONGEST), 0, -1) if self._kind("-".join(words[:n]))), 0)
            block = "-".join(words[:size])
            kind = self._kind(block)
            if not size or (not found and kind != "data"):
                near = nearest(words[0], filter(self._kind, self._blocks.files)) if found else None
                hint = f" In it '{words[0]}' is not a block; did you mean '{near}'?" if near else ""
                raise self._unknown(name, hint)
            if kind in found:
                raise ConfigError(
                    f"recipe '{shortened(name)}': '{found[kind]}' and '{block}' are both {kind}; keep one of them"
                )
            found[kind], words = block, words[size:]
        in_order = "-".join(found[kind] for kind in _IN_NAMES if kind in found)
        if in_order != name:
            raise ConfigError(f"unknown recipe '{name}'; did you mean '{in_order}'?")
        if found.keys() == {"data"}:
            raise self._unknown(name)
        return {"maps": _MAPS, **found}

    def _unknown(self, name: str, hint: str = "") -> ConfigError:
        near = nearest(name, self.names)
        mean = f"; did you mean '{near}'?" if near else "."
        known = f"All: {command('ls', 'recipes')}. A file of your own must end in .yaml"
        return ConfigError(f"unknown recipe '{shortened(name)}'{mean}{hint} {known}")

    def _kind(self, block: str) -> str:
        """The kind of a block that a name may hold; empty for any other word."""
        kind = self._blocks.words(block)[0] if block in self._blocks.files else ""
        return kind if kind in _IN_NAMES else ""

    def _scope(self, name: str, kinds: Mapping[str, str]) -> Scope:
        """What holds in a recipe: its blocks, and the names for its texts."""
        maps = kinds.get("maps", _MAPS)
        before = {kind: block for kind, block in kinds.items() if kind != "network"}
        same = (other for other in self._composed if "network" in kinds and self._named(other) == before)
        by_name = "-".join(before[kind] for kind in _IN_NAMES if kind in before)
        names = {"name": name, "data": kinds.get("data", ""), "maps": maps, "MAPS": maps.upper(), "description": ""}
        return self._blocks.scope(kinds.values()).with_names(before=next(same, by_name), **names)

    def _entry(self, part: Sequence[Entry], key: str, scope: Scope) -> tuple[Entry, ...]:
        """The entry of a key that holds, expanded; none where there is none."""
        return self._blocks.expanded([entry for entry in part if entry.key == key], scope)

    def _texts(self, part: Sequence[Entry], key: str, scope: Scope) -> list[str]:
        """The texts of a key, one or several with keys of their own; none where there is no such key."""
        found = [parse_yaml("\n".join(flat([entry])), entry.where)[key] for entry in self._entry(part, key, scope)]
        return [text for texts in found for text in (texts.values() if isinstance(texts, dict) else [texts or ""])]

    def _text(self, part: Sequence[Entry], key: str, scope: Scope) -> str:
        return "".join(self._texts(part, key, scope))

    def _top(self, parts: Mapping[str, Sequence[Entry]], scope: Scope) -> Iterator[str]:
        """The comment at the top: title, commands, and what the recipe and its blocks say of themselves."""
        name, description = scope.names["name"], scope.names["description"]
        title = next(filter(None, (self._text(part, "title", scope) for part in parts.values())), description)
        typed = next(
            filter(None, (self._text(part, "command", scope) for part in parts.values())), command("run", name)
        )
        yield from _comment(f"{name}: {title}.")
        yield from ["#", *(f"#   {line}" for line in typed.splitlines()), "#"]
        for kind in _IN_HEADS:
            for text in self._texts(parts[kind], "head", scope):
                yield from _comment(text)

    def _uses(self, name: str, kinds: Mapping[str, str], masks: str) -> list[Entry]:
        """The stages of a recipe without a file: those of its maps, chain and network."""
        words = f"of={kinds['maps']} maps={kinds['maps']} to={kinds.get('chain', '')} masks={masks}"
        return [Entry(f"use {kinds[kind]} {words}", "", name) for kind in _IN_STAGES if kind in kinds]


def _comment(text: str) -> list[str]:
    """A paragraph as comment lines."""
    return [f"# {line}" for line in textwrap.wrap(text, _WIDTH - 2, break_on_hyphens=False, break_long_words=False)]


@cache
def packaged() -> Recipes:
    """The recipes that come with the package."""
    return Recipes(Path(str(resources.files("tag2mask.recipes"))))
