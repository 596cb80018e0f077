"""The house: how many files a folder holds and how long they are, tests beside what they test, and ways to read it."""

from __future__ import annotations

import ast
import re
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from tests.project.source import PACKAGE, ROOT, Module, imports, modules, read

MOST_FILES = 16
PLUGINS = {
    "cli": "one module a verb",
    "export": "one module a format",
    "data/readers": "one module a data set",
}
"""Folders that may hold more and shorter files, and why."""
SHORT = 60
SHORT_FILES = {
    "tag2mask.methods.irn.kinds": "a method's kinds are read whenever the program starts, without what they run",
    "tag2mask.segmentation.kinds": "as IRN's",
    "tag2mask.methods.irn.training": "every method has its training in a file of this name",
}
"""Files of under `SHORT` lines with at most one importer, and why they stand alone."""
MIRRORED = {"helpers", "offline", "project"}
"""Folders of tests that belong to no folder of the package: what tests share, and tests of the project as a whole."""
JOURNEYS = {"Add a method": 12, "Fix a threshold sweep": 6, "Add an export format": 3, "Understand a resume": 8}
"""Ways through the source that CONTRIBUTING lists, and how many files one may have to read."""


def crowded(files: Iterable[Path], root: Path) -> list[str]:
    """Folders with more than `MOST_FILES` Python files, plug-in folders left out."""
    count: dict[str, int] = {}
    for path in files:
        folder = path.parent.relative_to(root).as_posix()
        count[folder] = count.get(folder, 0) + 1
    return [f"{folder}: {n} files" for folder, n in sorted(count.items()) if n > MOST_FILES and folder not in PLUGINS]


def named(module: Module) -> set[str]:
    """Modules of the package that a module names in texts, as ``module:function`` and as entry of a table."""
    texts = (n.value for n in ast.walk(module.tree) if isinstance(n, ast.Constant) and isinstance(n.value, str))
    return {match[1] for text in texts if (match := re.fullmatch(r"(tag2mask(?:\.\w+)+)(?::\w+)?", text))}


def importers(found: Sequence[Module]) -> dict[str, set[str]]:
    """Module -> the modules that import it, or name it as what they load."""
    known = {module.name for module in found}
    users: dict[str, set[str]] = {name: set() for name in known}
    for module in found:
        names = {name for _, name in imports(module)} | named(module)
        for name in {n if n in known else n.rpartition(".")[0] for n in names} & known - {module.name}:
            users[name].add(module.name)
    return users


def fragments(found: Sequence[Module]) -> list[str]:
    """Short modules that belong into the one that imports them; plug-ins and ``__init__`` left out."""
    users = importers(found)
    return [
        module.name
        for module in found
        if module.lines < SHORT
        and not module.path.name.startswith("__")
        and len(users[module.name]) <= 1
        and module.path.parent.relative_to(PACKAGE).as_posix() not in PLUGINS
    ]


def test_no_folder_is_crowded() -> None:
    assert crowded((module.path for module in modules()), PACKAGE) == []


def test_a_crowded_folder_is_found(tmp_path: Path) -> None:
    files = [tmp_path / folder / f"{i}.py" for folder in ("core", "cli") for i in range(MOST_FILES + 1)]
    assert crowded(files, tmp_path) == ["core: 17 files"]


def test_files_are_not_fragments() -> None:
    code = [m.lines for m in modules() if len(m.tree.body) > 1]
    assert statistics.median(code) >= 130
    assert set(fragments(modules())) == set(SHORT_FILES), "join them with what imports them"


def test_a_fragment_is_found(tmp_path: Path) -> None:
    def module(name: str, code: str) -> Module:
        path = tmp_path / f"{name}.py"
        path.write_text(code)
        return read(path, tmp_path)

    found = [module("a", "from tag2mask import b"), module("b", "RUNNER = 'tag2mask.c:run'"), module("c", "X = 1")]
    named_so = {m.name: Module(f"tag2mask.{m.name}", PACKAGE / m.path.name, m.tree, m.lines) for m in found}
    users = importers([*named_so.values()])
    assert users == {"tag2mask.a": set(), "tag2mask.b": {"tag2mask.a"}, "tag2mask.c": {"tag2mask.b"}}
    assert fragments([*named_so.values()]) == ["tag2mask.a", "tag2mask.b", "tag2mask.c"]


def test_folders_hold_what_they_are_there_for() -> None:
    folders = [p for p in PACKAGE.rglob("*") if p.is_dir() and p.name != "__pycache__"]
    assert [p for p in folders if not any(f.is_file() and f.name != "__init__.py" for f in p.rglob("*"))] == []


def test_tests_stand_where_their_code_stands() -> None:
    tests = ROOT / "tests"
    folders = {path.parent.relative_to(tests).as_posix() for path in tests.rglob("test_*.py")}
    strange = {f for f in folders if f.split("/")[0] not in MIRRORED and not (PACKAGE / f).is_dir()}
    assert strange == set()


def journey(name: str) -> list[str]:
    """The files of a journey of CONTRIBUTING, in order."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text.partition(f"### {name}\n")[2].partition("\n#")[0]
    return re.findall(r"^\d+\. `([^`]+)`", section, re.MULTILINE)


@pytest.mark.parametrize("name", JOURNEYS)
def test_the_files_of_a_journey_exist(name: str) -> None:
    files = journey(name)
    assert 0 < len(files) <= JOURNEYS[name]
    assert [file for file in files if not (ROOT / file).is_file()] == []
