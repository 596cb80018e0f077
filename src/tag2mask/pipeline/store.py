"""The store: each artefact once, under its key, with a manifest written last."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from tag2mask.core.errors import DamagedError
from tag2mask.core.files import cannot_write, file_hash, stamp, write_json
from tag2mask.core.links import check_store, make_link
from tag2mask.core.manifest import MANIFEST, Manifest, read_manifest
from tag2mask.core.progress import LOG

Stamp = tuple[int, ...]


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

    def prepare(self) -> None:
        """Make the folder, and see that it can be written."""
        check_store(self.root)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            if not os.access(self.root, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            raise cannot_write(self.root, error) from error

    def manifest(self, kind: str, key: str) -> Manifest | None:
        """The manifest of a finished artefact; None where it is not finished or is not what was made, which is said."""
        found, wrong = self.inspect(kind, key)
        if wrong:
            LOG.warning("%s; '%s' counts as not made and is rerun", wrong, self.folder(kind, key).name)
        return found

    def inspect(self, kind: str, key: str) -> tuple[Manifest | None, str]:
        """As `manifest`, but nothing is said: what is wrong with the artefact is returned beside; empty for nothing."""
        folder = self.folder(kind, key)
        try:
            found = read_manifest(folder)
        except DamagedError as error:
            return None, str(error)
        if found is None:
            return None, ""
        if (found.kind, found.key) != (kind, key):
            return None, f"{folder / MANIFEST} is that of another artefact"
        wrong = [*found.gone(folder), *found.changed(folder, file_hash)]
        return (None, f"{folder / wrong[0]} is gone or changed") if wrong else (found, "")

    def finish(self, manifest: Manifest) -> None:
        """Write the manifest: from now on the artefact counts as made."""
        write_json(self.folder(manifest.kind, manifest.key) / MANIFEST, manifest.text())

    def present(self, kind: str, key: str) -> dict[str, Stamp]:
        """The files directly in an artefact's folder with what a change of them shows in, before a stage writes."""
        folder = self.folder(kind, key)
        found = folder.iterdir() if folder.is_dir() else ()
        return {p.name: stamp(p) for p in found if p.is_file() and not p.name.startswith(".")}

    def hash_files(self, kind: str, key: str, before: Mapping[str, Stamp] | None = None) -> dict[str, str]:
        """SHA-256 of the files that a stage has written directly into its artefact's folder; logs are left out.

        Args:
            kind: of the stage.
            key: its stage key.
            before: what `present` found before: files that have not changed since are others', such as the report's.
        """
        folder, old = self.folder(kind, key), before or {}
        written = sorted(name for name, found in self.present(kind, key).items() if old.get(name) != found)
        return {n: file_hash(folder / n) for n in written if n != MANIFEST and not n.endswith(".log")}


def point(link: Path, target: Path) -> None:
    """Make a relative link to a store or to an artefact in one, or turn it there.

    Its folder may be a link itself, and what is in it is read from the folder that it leads to. The store is not
    followed further: where it is a link, that may be turned to another disk.
    """
    named = target.absolute().parent if target.name == ".store" else target.absolute().parent.parent
    to = named.resolve() / target.absolute().relative_to(named)
    try:
        make_link(link, os.path.relpath(to, link.parent.resolve()))
    except ValueError:  # on Windows a store on another drive
        make_link(link, str(to))


def sweep(folder: Path) -> None:
    """Remove what a killed process left half-made in an artefact's folder; only under its lock."""
    for path in [*folder.rglob(".*.tmp"), *folder.rglob(".vectors-*")]:
        try:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        except OSError as error:
            raise cannot_write(path, error) from error
