"""Snippets of the pages: fenced blocks with their language, and the words of each command in them."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.project.source import PACKAGE, ROOT

PAGES = tuple(
    sorted(
        str(path.relative_to(ROOT))
        for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md"), *PACKAGE.rglob("*.md"))
    )
)
"""Every page that people read, from the repository's root."""

_BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<reason>[^\n]+) -->\n+)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)


@dataclass(frozen=True)
class Snippet:
    """One fenced block.

    Attributes:
        page: from the repository's root.
        line: of its first line of text, from 1.
        language: as the fence says; empty for none.
        text: what stands between the fences.
        not_run: the reason in the mark before it; None where it is run.
    """

    page: str
    line: int
    language: str
    text: str
    not_run: str | None

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command of a shell block, without comments."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


@cache
def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


@cache
def snippets(page: str) -> tuple[Snippet, ...]:
    """Every fenced block of a page, in order."""
    text = read(page)
    return tuple(
        Snippet(page, text.count("\n", 0, m.start("text")) + 1, m["language"], m["text"], m["reason"])
        for m in _BLOCK.finditer(text)
    )


def inline(page: str) -> list[str]:
    """Inline code of a page, fenced blocks left out; a line end inside it is a space."""
    return [found.replace("\n", " ") for found in re.findall(r"`([^`]+)`", _BLOCK.sub("", read(page)))]


def place(snippet: Snippet) -> str:
    """Where a snippet stands, for the name of a test."""
    return f"{Path(snippet.page)}:{snippet.line}"
