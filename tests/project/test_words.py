"""What users read is in the field's words: texts, docstrings and comments of the source, pages, recipes, templates."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator

import pytest

from tests.project.source import PACKAGE, ROOT, Module, modules

WORDS = {
    "resume(s)": r"\b(go|goes|going|went) on\b",
    "ground truth": r"\b(an?|the|no|some|any|its|their|other|exact|on|of|from|without) truths?\b",
    "ignored (255), not confident": r"\b(unsure|void)\b",
    "confident": r"\b(is|are|be|how|not|of) sure\b",
    "fix": r"\bmend(s|ed|ing)?\b",
    "report(s), conditioned on": r"\btold\b",
    "NaN, not a number": r"\bis no number\b",
    "available": r"\b(can|cannot|could) (not )?be had\b",
    "is not a": r"(?<![Tt]here )(?<!where )\b(is|are|was|were) no (?!longer\b|more\b|one\b|such\b)[a-zA-Z]\w+",
    "rerun": r"\b(made|makes?|make (it|them|that|the \w+)) again\b",
    "None: all": r"; all where (empty|left out)",
}
"""The word of the field, and what is not said instead of it."""

ALLOWED = {
    "unsure": (
        "the setting of a stage `masks` and the parameter of `SegmentationMetrics`",
        r"`unsure|unsure(=|: |'|`)",
    ),
    "void": (
        "the name of a colour in `data.palette`, and VOC's own word beside the field's",
        r"`void|void(`| \(ignored| in VOC|: id ->)",
    ),
    "on the truth": (
        "part of the name of a row in results/, which `benchmarks.reproduce` finds it by",
        r"trained on the truth",
    ),
}
"""Exceptions: what, why, and the text around it."""

PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"]
SUFFIXES = {".md", ".yaml", ".html"}


def python_texts(module: Module) -> Iterator[tuple[int, str]]:
    """Strings of several words, docstrings and comments, with their lines."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, node.value
    for token in tokenize.generate_tokens(io.StringIO(module.path.read_text(encoding="utf-8")).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def texts() -> Iterator[tuple[str, str]]:
    for module in modules():
        for line, text in python_texts(module):
            yield f"{module.path.relative_to(ROOT)}:{line}", text
    files = [*PACKAGE.rglob("*"), *(ROOT / "docs").rglob("*"), *(ROOT / name for name in PAGES)]
    for path in sorted(file for file in files if file.suffix in SUFFIXES):
        for line, text in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
            yield f"{path.relative_to(ROOT)}:{line}", text


TEXTS = list(texts())


def found(pattern: str, text: str) -> list[str]:
    allowed = [match.span() for _, around in ALLOWED.values() for match in re.finditer(around, text)]
    return [
        match.group()
        for match in re.finditer(pattern, text)
        if not any(start < match.end() and match.start() < end for start, end in allowed)
    ]


@pytest.mark.parametrize("word", WORDS)
def test_the_fields_word_is_used(word: str) -> None:
    wrong = [f"{where}: {said}" for where, text in TEXTS for said in found(WORDS[word], text)]
    assert not wrong, f"say: {word}\n" + "\n".join(wrong)


def test_no_exception_outlives_its_text() -> None:
    assert [name for name, (_, around) in ALLOWED.items() if not any(re.search(around, t) for _, t in TEXTS)] == []


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("the run goes on", "resume(s)"),
        ("chosen on the truth", "ground truth"),
        ("where the seeds are unsure", "ignored (255), not confident"),
        ("runs/x is no run", "is not a"),
        ("its maps are made again", "rerun"),
    ],
)
def test_a_forbidden_word_is_found(text: str, word: str) -> None:
    assert found(WORDS[word], text)
    assert not found(WORDS["ground truth"], "measured on ground truth, or on the ground truth")
    assert not found(WORDS["is not a"], "there is no run, and it is no longer needed")


def names() -> Iterator[tuple[str, str]]:
    """Names that the source gives: functions, classes, parameters, variables."""
    for module in modules():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                yield f"{module.name}:{node.lineno}", node.name
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                yield f"{module.name}:{node.lineno}", node.id
            elif isinstance(node, ast.arg):
                yield f"{module.name}:{node.lineno}", node.arg


def test_no_name_is_private_vocabulary() -> None:
    riddles = re.compile(
        r"_?(told|asked|ask|judged?|judges|mended|taught|blind|look|looks|look_over|own_words|Look|Judge)"
    )
    assert [f"{where}: {name}" for where, name in names() if riddles.fullmatch(name)] == []


def test_no_two_classes_have_one_name() -> None:
    places: dict[str, list[str]] = {}
    for module in modules():
        for node in module.tree.body:
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(module.name)
    assert {name: where for name, where in places.items() if len(where) > 1} == {}
