"""Reads YAML that people write by hand into plain values: text, numbers, booleans, null, lists, mappings.

Whatever else YAML can say is refused by its line: dates are text, there are no tags, a key stands once, and what a few
bytes of anchors can blow up is counted before anything is built.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from tag2mask.core.errors import ConfigError
from tag2mask.core.names import shortened, shown

_LARGEST_FILE = 1 << 18
_LARGEST_INTEGER = 1 << 64
_DEEPEST = 32
_MOST_VALUES = 20_000
_MERGE = "tag:yaml.org,2002:merge"
_TEXT = "tag:yaml.org,2002:str"


def read_yaml(path: Path, what: str) -> Any:
    """Read one small YAML file that a person wrote; the error says ``what`` it is, such as ``recipe``."""
    return parse_yaml(yaml_text(path, what), f"{what} {shortened(path)}")


def yaml_text(path: Path, what: str) -> str:
    """The text of such a file."""
    shown = shortened(path)
    if os.path.exists(path) and not os.path.isfile(path):  # these take names that are too long, too
        raise ConfigError(f"{what} {shown} is a folder or a device: name a .yaml file")
    try:
        with path.open("rb") as stream:
            content = stream.read(_LARGEST_FILE + 1)
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{what} {shown} is not YAML: byte {error.start} is not UTF-8; save it as UTF-8 text"
        ) from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"cannot read {what} {shown}: {reason}") from error
    if len(content) > _LARGEST_FILE:
        raise ConfigError(f"{what} {shown} has more than {_LARGEST_FILE >> 10} kB: a {what} is shorter")
    return text


def parse_yaml(text: str, where: str) -> Any:
    """Plain values of one document in YAML; the error begins with ``where`` it stands.

    None, bool, int (of at most 64 bits), float, str without NUL, or lists and mappings of these, with texts or integers
    as keys.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        return None if node is None else _Builder(where).value(node)
    except yaml.MarkedYAMLError as error:
        reason = ", ".join(str(part) for part in (error.context, error.problem) if part)
        raise ConfigError(f"{where} is not YAML: {shortened(reason)}{_at(error.problem_mark)}") from error
    except yaml.reader.ReaderError as error:
        letter = shown(chr(error.character))
        raise ConfigError(f"{where} is not YAML: the character {letter} at position {error.position}") from error
    except (ValueError, OverflowError) as error:  # PyYAML's own, such as "\\Uffffffff"
        raise ConfigError(f"{where} is not YAML: {shortened(error)}") from error


class _Loader(yaml.SafeLoader):
    """Reads nodes, to a bounded depth."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        """The next node; PyYAML goes down by recursion."""
        self._depth += 1
        if self._depth > _DEEPEST:
            parser: Any = self
            mark = parser.peek_event().start_mark
            raise yaml.MarkedYAMLError(problem=f"nested deeper than {_DEEPEST}", problem_mark=mark)
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


class _Builder:
    """Turns nodes into plain values, and counts them: each use of an anchor counts as what it stands for."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._count = 0
        self._open: list[Node] = []

    def value(self, node: Node) -> Any:
        """The value of a node."""
        self._count += 1
        if self._count > _MOST_VALUES or len(self._open) > _DEEPEST:
            raise self._error(f"more than {_MOST_VALUES} values, or nested deeper than {_DEEPEST}", node)
        if isinstance(node, ScalarNode):
            return self._scalar(node)
        if any(node is outer for outer in self._open):
            raise self._error("an anchor that holds itself", node)
        self._open.append(node)
        found = self._list(node) if isinstance(node, SequenceNode) else self._mapping(node)
        self._open.pop()
        return found

    def _list(self, node: SequenceNode) -> list[Any]:
        if node.tag != "tag:yaml.org,2002:seq":
            raise self._error(f"the tag {_short(node.tag)} has no meaning here", node)
        return [self.value(child) for child in node.value]

    def _mapping(self, node: Node) -> dict[Any, Any]:
        if not isinstance(node, MappingNode) or node.tag != "tag:yaml.org,2002:map":
            raise self._error(f"the tag {_short(node.tag)} has no meaning here", node)
        lines: dict[Any, int] = {}
        merged: dict[Any, Any] = {}
        found: dict[Any, Any] = {}
        for key_node, child in node.value:
            if key_node.tag == _MERGE:
                for other in self._merged(child):
                    merged = {**other, **merged}
                continue
            key, line = self._key(key_node), key_node.start_mark.line + 1
            if key in lines:
                raise self._error(f"'{shortened(key)}' stands twice, first in line {lines[key]}; keep one", key_node)
            lines[key], found[key] = line, self.value(child)
        return {**merged, **found}

    def _merged(self, node: Node) -> Iterator[dict[Any, Any]]:
        """The mappings that ``<<`` names; an earlier one counts before a later."""
        found = self.value(node)
        for part in found if isinstance(found, list) else [found]:
            if not isinstance(part, dict):
                raise self._error("'<<' takes a mapping, or a list of mappings", node)
            yield part

    def _key(self, node: Node) -> str | int:
        key = self.value(node)
        if isinstance(key, bool) or not isinstance(key, str | int):
            shown = _short(node.value) if isinstance(node, ScalarNode) else "a list or mapping"
            kind = {bool: "true or false", float: "a number", type(None): "null"}.get(type(key), "no key")
            raise self._error(f"the key {shown} is read as {kind}; a name that looks like this stands in quotes", node)
        return key

    def _scalar(self, node: ScalarNode) -> Any:
        make = _SCALARS.get(node.tag)
        if make is None:
            raise self._error(f"the tag {_short(node.tag)} has no meaning here", node)
        try:
            return make(node)
        except (ValueError, OverflowError, KeyError, IndexError):
            kind = _EXPECTED.get(node.tag, "text without NUL, in Unicode")
            raise self._error(f"{_short(node.value)} is not {kind}; a text stands in quotes", node) from None

    def _error(self, problem: str, node: Node) -> ConfigError:
        return ConfigError(f"{self._where}: {problem}{_at(node.start_mark)}")


def _text(node: ScalarNode) -> str:
    text: str = node.value
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError(text)
    return text


def _integer(node: ScalarNode) -> int:
    if len(node.value) > 100:
        raise ValueError(node.value)
    number = int(yaml.SafeLoader.construct_yaml_int(_CONSTRUCT, node))
    if abs(number) >= _LARGEST_INTEGER:
        raise OverflowError(number)
    return number


def _number(node: ScalarNode) -> float:
    if len(node.value) > 100:
        raise ValueError(node.value)
    number = float(yaml.SafeLoader.construct_yaml_float(_CONSTRUCT, node))
    if not math.isfinite(number) and "inf" not in node.value.lower() and "nan" not in node.value.lower():
        raise OverflowError(number)
    return number


def _truth(node: ScalarNode) -> bool:
    return bool(yaml.SafeLoader.construct_yaml_bool(_CONSTRUCT, node))


def _nothing(node: ScalarNode) -> None:
    if node.value not in {"", "~", "null", "Null", "NULL"}:
        raise ValueError(node.value)


_CONSTRUCT = yaml.SafeLoader("")
_SCALARS: dict[str, Any] = {
    _TEXT: _text,
    "tag:yaml.org,2002:timestamp": _text,  # a name may look like a day
    "tag:yaml.org,2002:value": _text,
    "tag:yaml.org,2002:int": _integer,
    "tag:yaml.org,2002:float": _number,
    "tag:yaml.org,2002:bool": _truth,
    "tag:yaml.org,2002:null": _nothing,
}


_EXPECTED = {
    "tag:yaml.org,2002:int": "an integer of at most 64 bits",
    "tag:yaml.org,2002:float": "a number",
    "tag:yaml.org,2002:bool": "true or false",
    "tag:yaml.org,2002:null": "null",
}


def _short(text: str) -> str:
    return f"'{shortened(text, 60)}'"


def _at(mark: yaml.Mark | None) -> str:
    return "" if mark is None else f" (line {mark.line + 1}, column {mark.column + 1})"
