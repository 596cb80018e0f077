"""The style bar, measured on the package's source."""

from __future__ import annotations

import ast
import math
import re
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.refused import MOST_WORDS, lacking, plain_words, refused
from tests.project.source import ROOT, Function, Module, modules, read


def public(module: Module) -> Iterator[tuple[str, bool]]:
    """Public modules, classes, functions and methods, and whether each has a docstring."""
    yield module.name, ast.get_docstring(module.tree) is not None
    yield from _public_in(module.tree, module.name)


def _public_in(parent: ast.Module | ast.ClassDef, prefix: str) -> Iterator[tuple[str, bool]]:
    for node in parent.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            yield f"{prefix}.{node.name}", ast.get_docstring(node) is not None
            if isinstance(node, ast.ClassDef):
                yield from _public_in(node, f"{prefix}.{node.name}")


def functions(module: Module) -> Iterator[Function]:
    """Every function and method, nested and private ones included."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def untyped(module: Module) -> list[str]:
    """Functions with an argument or a return value that has no annotation."""
    methods = {id(child) for node in ast.walk(module.tree) if isinstance(node, ast.ClassDef) for child in node.body}
    found = []
    for function in functions(module):
        given = function.args
        arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
        static = any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in function.decorator_list)
        if id(function) in methods and not static:
            arguments = arguments[1:]  # self or cls
        if function.returns is None or any(a is not None and a.annotation is None for a in arguments):
            found.append(f"{module.name}:{function.lineno} {function.name}")
    return found


def texts_with_shapes(module: Module) -> list[str]:
    """Constants that are texts, with a docstring on shapes behind them: it belongs to another name."""
    pairs = zip(module.tree.body, module.tree.body[1:], strict=False)
    return [
        f"{module.name}:{behind.lineno}"
        for constant, behind in pairs
        if isinstance(constant, ast.Assign) and _text(constant.value) is not None and isinstance(behind, ast.Expr)
        if re.search(r"\([A-Z](, [A-Za-z0-9 +]+)*,?\)", _text(behind.value) or "")
    ]


def _text(node: ast.expr) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def length(function: Function) -> int:
    """Lines of a function from its ``def`` to its end, docstring included."""
    return (function.end_lineno or function.lineno) - function.lineno + 1


def percentile(values: list[int], share: float) -> int:
    """The smallest value that at least ``share`` of the values do not exceed."""
    return sorted(values)[math.ceil(share * len(values)) - 1]


def test_public_names_have_docstrings() -> None:
    names = [entry for module in modules() for entry in public(module)]
    missing = [name for name, documented in names if not documented]
    assert 1 - len(missing) / len(names) >= 0.95, missing


def test_docstrings_of_constants_stand_behind_their_own() -> None:
    assert [line for module in modules() for line in texts_with_shapes(module)] == []


def test_a_docstring_behind_another_constant_is_found(tmp_path: Path) -> None:
    path = tmp_path / "toy.py"
    path.write_text(
        'Batch = tuple[int]\n"""Images (N, 3, H, W)."""\nA = "x"\n"""A name."""\nB = "y"\n"""(C,) tags."""\n'
    )
    assert texts_with_shapes(read(path, tmp_path)) == ["toy:6"]


def test_arguments_and_returns_are_typed() -> None:
    assert [line for module in modules() for line in untyped(module)] == []


def test_files_are_short() -> None:
    lines = [module.lines for module in modules()]
    assert statistics.median(lines) <= 200
    assert percentile(lines, 0.9) <= 450


def test_functions_are_short() -> None:
    assert percentile([length(f) for module in modules() for f in functions(module)], 0.9) <= 50


def test_the_library_does_not_print() -> None:
    calls = [
        f"{module.name}:{node.lineno}"
        for module in modules()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert calls == []


@pytest.fixture
def toy(tmp_path: Path) -> Module:
    path = tmp_path / "toy.py"
    path.write_text(
        '"""Documented."""\n'
        "class Bare:\n"
        "    def __init__(self, x: int) -> None: ...\n"
        "    def method(self, x, *rest: int) -> None: ...\n"
        "    @staticmethod\n"
        "    def free(y) -> None: ...\n"
        "def spoken(*, x: int):\n"
        '    """Documented."""\n'
        "    def inner(z: int) -> int:\n"
        "        return z\n"
        "def _private() -> None: ...\n"
    )
    return read(path, tmp_path)


def test_docstrings_are_counted_as_said(toy: Module) -> None:
    assert list(public(toy)) == [
        ("toy", True),
        ("toy.Bare", False),
        ("toy.Bare.method", False),
        ("toy.Bare.free", False),
        ("toy.spoken", True),
    ]


def test_missing_types_are_found(toy: Module) -> None:
    assert [line.split()[-1] for line in untyped(toy)] == ["spoken", "method", "free"]


def test_lengths_are_counted_as_said(toy: Module) -> None:
    assert {f.name: length(f) for f in functions(toy)} == {
        "__init__": 1, "method": 1, "free": 1, "spoken": 4, "inner": 2, "_private": 1,
    }  # fmt: skip
    assert percentile([5, 1, 2, 3, 4, 6, 7, 8, 9, 100], 0.9) == 9


def matches(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The regular expressions that tests expect of an error, as far as they stand there."""
    for node in ast.walk(tree):
        for value in (
            k.value for k in getattr(node, "keywords", ()) if isinstance(node, ast.Call) and k.arg == "match"
        ):
            texts = (n.value for n in ast.walk(value) if isinstance(n, ast.Constant) and isinstance(n.value, str))
            yield value.lineno, "0".join(texts)


def test_tests_of_errors_expect_no_sentences() -> None:
    sentences = [
        f"{path.relative_to(ROOT)}:{line}: {text}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for line, text in matches(ast.parse(path.read_text(encoding="utf-8")))
        if plain_words(text) > MOST_WORDS
    ]
    assert sentences == [], "name, value and remedy are enough: tests/helpers/refused.py"


def test_sentences_are_found() -> None:
    long = "the setting 0 has a value that is out of range"
    assert list(matches(ast.parse(f"raises(E, match={long!r})"))) == [(1, long)]
    assert [plain_words(text) for text in (long, "data.root=x", "unknown 'a b c d e f'")] == [9, 0, 1]
    with pytest.raises(ValueError, match="is a sentence"):
        lacking("", long)


def test_a_part_that_an_error_does_not_say_is_found() -> None:
    with refused(ValueError, "data.root … 3", ("set it", "leave it out")):
        raise ValueError("data.root = 3: leave it out")
    with pytest.raises(AssertionError), refused(ValueError, "data.root"):
        raise ValueError("data.rot")
    assert lacking("data.root = 3", "data.root … 4", ("set", "leave")) == ["4", "set or leave"]
