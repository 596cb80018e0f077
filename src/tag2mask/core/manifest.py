"""Manifests: what is known of an artefact of the store, and JSON with a checksum of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from tag2mask.core.errors import DamagedError, StageError
from tag2mask.core.files import read_json, value_hash

CHECK = "check"
"""Entry of a JSON file that the program reads again: the hash of the others."""


def sealed(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values and, under `CHECK`, their hash, by which `unsealed` sees whether they are what was written."""
    return {**values, CHECK: value_hash(dict(values))}


def unsealed(values: Any, path: Path) -> dict[str, Any]:
    """What was sealed, as read from the JSON at ``path``; values of an older version, without a seal, pass."""
    if not isinstance(values, dict):
        raise DamagedError(f"{path} is not what tag2mask wrote: expected names with values")
    rest = {name: value for name, value in values.items() if name != CHECK}
    if CHECK not in values:
        return rest
    if values[CHECK] != value_hash(rest):
        raise DamagedError(f"{path} is not what tag2mask wrote: its values do not fit their checksum")
    return rest


SCHEMA = 1
MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is known of an artefact."""

    kind: str  # of stage
    key: str  # of the stage
    made_from: dict[str, str]  # role -> hash or key of what it read
    ledger: tuple[str, ...]  # supervision seen, its own and that of everything it read
    n_images: int  # samples trained on, mapped or measured
    seconds: float  # of computing, without what was there already
    made: int  # samples computed in those seconds (maps and masks), else n_images
    peak_memory: int  # largest resident memory of a process of the run by then, bytes
    shared_with: tuple[str, ...] = ()  # instances of the same forward passes; the seconds are of all together
    # Name -> SHA-256, of an artefact made as a whole; empty for maps and masks, whose files carry sample keys.
    files: dict[str, str] = field(default_factory=dict)
    schema: int = SCHEMA  # version of these fields

    def output_hash(self) -> str:
        """What a later stage's key takes of this one: its files' hashes, or the key where it has none."""
        return self.key if not self.files else ",".join(f"{n}:{h}" for n, h in sorted(self.files.items()))

    def text(self) -> dict[str, Any]:
        """As plain values with their checksum, read again by `read_manifest`."""
        return sealed(asdict(self))

    def changed(self, folder: Path, hash_of: Callable[[Path], str]) -> list[str]:
        """Names of the files in the artefact's folder that are there, and are not what was made."""
        return [n for n, h in self.files.items() if (folder / n).is_file() and hash_of(folder / n) != h]

    def gone(self, folder: Path) -> list[str]:
        """Names of the files that the artefact's folder has no longer."""
        return [name for name in self.files if not (folder / name).is_file()]


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of an artefact; None where there is none."""
    path = folder / MANIFEST
    if not path.is_file():
        return None
    values = read_json(path)
    schema = values.get("schema") if isinstance(values, dict) else None
    if isinstance(schema, int) and schema != SCHEMA:
        raise StageError(f"{path} has schema {schema}, expected {SCHEMA}; remove {folder}")
    try:
        return TypeAdapter(Manifest).validate_python(unsealed(values, path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise DamagedError(f"{path} is not what tag2mask wrote: '{where}': {first['msg']}") from error
