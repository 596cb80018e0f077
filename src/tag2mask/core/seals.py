"""Values with their own checksum, for JSON files that the program reads again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tag2mask.core.errors import DamagedError
from tag2mask.core.files import value_hash

CHECK = "check"
"""Entry of a JSON file that the program reads again: the hash of the others."""


def sealed(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values and, under `CHECK`, their hash, by which `unsealed` sees whether they are what was written."""
    return {**values, CHECK: value_hash(dict(values))}


def unsealed(values: Any, path: Path) -> dict[str, Any]:
    """What was sealed, as read from JSON; values of an older version, without a seal, pass as they are.

    Args:
        values: as read.
        path: where from, for the error text.

    Raises:
        DamagedError: they are no mapping, or do not fit their hash.
    """
    if not isinstance(values, dict):
        raise DamagedError(f"{path} is not what tag2mask wrote: expected names with values")
    rest = {name: value for name, value in values.items() if name != CHECK}
    if CHECK not in values:
        return rest
    if values[CHECK] != value_hash(rest):
        raise DamagedError(f"{path} is not what tag2mask wrote: its values do not fit their checksum")
    return rest
