"""The package's source as the project tests read it: files, syntax trees, imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "tag2mask"

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One source file.

    Attributes:
        name: dotted name, such as ``tag2mask.core.types``; a package's own name for its ``__init__``.
        path: the file.
        tree: its syntax tree.
        lines: number of its lines.
    """

    name: str
    path: Path
    tree: ast.Module
    lines: int


def read(path: Path, root: Path) -> Module:
    """Parse a file whose dotted name counts from ``root``."""
    text = path.read_text(encoding="utf-8")
    parts = path.relative_to(root).with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    return Module(name, path, ast.parse(text, str(path)), len(text.splitlines()))


@cache
def modules() -> tuple[Module, ...]:
    """Every module of the package, by path."""
    return tuple(read(path, PACKAGE.parent) for path in sorted(PACKAGE.rglob("*.py")))


def imports(module: Module) -> Iterator[tuple[int, str]]:
    """Every import of a module, those inside functions and under TYPE_CHECKING included: line and full dotted name.

    ``from a import b`` gives ``a.b``, so that importing a sub-package by ``from tag2mask import pipeline`` is seen.
    """
    is_package = module.path.name == "__init__.py"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = module.name.split(".")[: None if is_package and node.level == 1 else -node.level + is_package]
            prefix = ".".join([*(base if node.level else []), *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{prefix}.{alias.name}") for alias in node.names)
