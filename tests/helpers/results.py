"""Reads the CSVs of results that runs, analyses and papers write."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tag2mask.evaluation.result_tables import COLUMNS, ResultRow, read_columns

NUMBERS = {"n_images": int, "seed": int, "threshold": float, "value": float}


def read_results(path: Path) -> list[ResultRow]:
    """The rows of a CSV; empty cells are None."""
    header = path.read_text(encoding="utf-8").splitlines()[0]
    assert header == ",".join(COLUMNS)

    def row(line: Iterable[str]) -> ResultRow:
        cells = zip(COLUMNS, line, strict=True)
        values: dict[str, Any] = {name: NUMBERS.get(name, str)(cell) if cell else None for name, cell in cells}
        return ResultRow(**values)

    return [row(line) for line in read_columns(path, COLUMNS, numbers=())]
