"""Reads the CSVs of results that runs, analyses and papers write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tag2mask.evaluation.result_tables import COLUMNS, ResultRow, read_columns

NUMBERS: dict[str, type[int] | type[float]] = {"n_images": int, "seed": int, "threshold": float, "value": float}


def read_results(path: Path) -> list[ResultRow]:
    """The rows of a CSV; empty cells are None."""
    assert path.read_text(encoding="utf-8").splitlines()[0] == ",".join(COLUMNS)
    found = []
    for line in read_columns(path, COLUMNS, numbers=()):
        cells: list[Any] = [NUMBERS.get(n, str)(c) if c else None for n, c in zip(COLUMNS, line, strict=True)]
        found.append(ResultRow(*cells))
    return found
