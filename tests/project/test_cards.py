"""The card in a method's folder names the files of today."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.project.source import PACKAGE

CARDS = sorted((PACKAGE / "methods").glob("*/README.md"))


def named(card: Path) -> list[str]:
    """Python files in the first column of the table of parts."""
    rows = [line.split("|")[1] for line in card.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    return [name for row in rows for name in re.findall(r"`([\w/]+\.py)`", row)]


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.parent.name)
def test_each_part_is_a_file_of_the_method_or_of_the_package(card: Path) -> None:
    found = named(card)
    assert len(found) > 3
    assert [name for name in found if not (card.parent / name).is_file() and not (PACKAGE / name).is_file()] == []


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.parent.name)
def test_each_file_of_a_method_is_in_its_card(card: Path) -> None:
    own = {path.name for path in card.parent.glob("*.py")} - {"__init__.py"}
    assert own - set(named(card)) == set()
