"""The page of errors quotes texts that the program really says."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.project.snippets import read
from tests.project.source import modules

GAP = "…"
ROWS = re.findall(r"^\| (`.+?) \| .+ \|$", read("docs/troubleshooting.md"), re.MULTILINE)
QUOTED = [text for row in ROWS for text in re.findall(r"`([^`]+)`", row.split(" | ")[0])]
"""What the left column quotes; ``…`` stands for a name, a number or a list."""


def texts() -> Iterator[str]:
    """Every string of the source but docstrings, a gap where a value is put in; what `unknown` says too."""
    for module in modules():
        docstrings = {id(node.value) for node in ast.walk(module.tree) if isinstance(node, ast.Expr)}  # docstrings
        for node in ast.walk(module.tree):
            if id(node) in docstrings:
                continue
            if isinstance(node, ast.JoinedStr | ast.Constant):
                yield plain(node)
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "unknown":
                yield f"unknown {plain(node.args[0])} '{GAP}'; did you mean '{GAP}'? Known: {GAP}"


def plain(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return re.sub(r"%[sdg]", GAP, node.value) if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(plain(part) for part in node.values)
    return GAP


SAID = {text for text in texts() if len(text) > 9}


def said(text: str) -> bool:
    """Whether a string of the source holds the quoted words in their order, anything in the gaps between them."""
    parts = [re.escape(part.strip()) for part in text.split(GAP) if part.strip()]
    pattern = re.compile(".*?".join(parts), re.DOTALL)
    return any(pattern.search(known) for known in SAID)


@pytest.mark.parametrize("text", QUOTED)
def test_each_quoted_text_is_in_the_source(text: str) -> None:
    assert max(map(len, text.split(GAP))) > 5, "too short to say anything"
    assert said(text)


def test_every_row_quotes_a_text_once() -> None:
    lines = read("docs/troubleshooting.md").splitlines()
    assert len(ROWS) == sum(line.startswith("| ") and not line.startswith("| text |") for line in lines)
    assert len(set(QUOTED)) == len(QUOTED)


def test_a_text_that_nobody_says_is_found() -> None:
    assert said("unknown recipe '…'")
    assert not said("unknown recipes '…'")
    assert not said("the run … is no longer in use by process …")
