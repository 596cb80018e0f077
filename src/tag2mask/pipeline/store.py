"""The store: each artefact once, under its key, with a manifest written last."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tag2mask.core.errors import StageError
from tag2mask.core.files import file_hash, read_json, write_json

SCHEMA = 1
MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is known of an artefact.

    Attributes:
        kind: the stage kind.
        key: its stage key.
        made_from: role -> hash or key of what it read.
        ledger: supervision seen, its own and that of everything it read.
        n_images: samples trained on, mapped or measured.
        seconds: of computing, without what was there already.
        made: samples computed in those seconds (maps and masks), else ``n_images``.
        peak_memory: largest resident memory of a process of the run by then, bytes.
        shared_with: other instances whose maps came from the same forward passes (the seconds are of all together).
        files: name -> SHA-256 of the files of an artefact made as a whole; empty for maps and masks, whose files carry
            sample keys.
        schema: version of this list.
    """

    kind: str
    key: str
    made_from: dict[str, str]
    ledger: tuple[str, ...]
    n_images: int
    seconds: float
    made: int
    peak_memory: int
    shared_with: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    schema: int = SCHEMA

    def output_hash(self) -> str:
        """What a later stage's key takes of this one: its files' hashes, or the key where it has none."""
        return self.key if not self.files else ",".join(f"{n}:{h}" for n, h in sorted(self.files.items()))


class Store:
    """The folder of artefacts that several runs share.

    Args:
        root: usually ``runs/.store``.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, kind: str, key: str) -> Path:
        """Where the artefact of that key lives, made or not."""
        return self.root / f"{kind}-{key[:16]}"

    def manifest(self, kind: str, key: str) -> Manifest | None:
        """The manifest of a finished artefact; None where it is not finished or a file of it is gone or changed.

        Raises:
            StageError: the manifest was written by another version of the schema.
        """
        path = self.folder(kind, key) / MANIFEST
        if not path.exists():
            return None
        values: dict[str, Any] = read_json(path)
        if values.get("schema") != SCHEMA:
            raise StageError(f"{path} has schema {values.get('schema')}, expected {SCHEMA}; remove {path.parent}")
        values["ledger"], values["shared_with"] = tuple(values["ledger"]), tuple(values["shared_with"])
        manifest = Manifest(**values)
        whole = all((path.parent / n).is_file() and file_hash(path.parent / n) == h for n, h in manifest.files.items())
        return manifest if whole and manifest.key == key else None

    def finish(self, manifest: Manifest) -> None:
        """Write the manifest: from now on the artefact counts as made."""
        write_json(self.folder(manifest.kind, manifest.key) / MANIFEST, asdict(manifest))

    def hash_files(self, kind: str, key: str) -> dict[str, str]:
        """SHA-256 of the files directly in an artefact's folder, hidden ones, logs and the manifest left out."""
        folder = self.folder(kind, key)
        names = sorted(p.name for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
        return {n: file_hash(folder / n) for n in names if n != MANIFEST and not n.endswith(".log")}


def sweep(folder: Path) -> None:
    """Remove what a killed process left half-made in an artefact's folder; only under its lock."""
    for path in [*folder.rglob(".*.tmp"), *folder.rglob(".vectors-*")]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


@contextmanager
def exclusive(path: Path, what: str, wait: bool = False) -> Iterator[None]:
    """Hold a lock that ends with the process, however it ends.

    Args:
        path: lock file; stays behind, empty of meaning.
        what: named in the error.
        wait: wait for the other process instead of refusing.

    Raises:
        StageError: another process holds it and ``wait`` is false.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            other = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            raise StageError(
                f"{what} is in use by process {other}; wait for it to end, or choose another folder with --out"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
