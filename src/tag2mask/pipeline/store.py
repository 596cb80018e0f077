"""The store: each artefact once, under its key, with a manifest written last; what of it is in use, and pruning."""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tag2mask.core.errors import ConfigError, DamagedError, StageError
from tag2mask.core.files import cannot_write, file_hash, read_json, stamp, value_hash, write_json
from tag2mask.core.links import PACKED, check_store, followed, links_in, make_link
from tag2mask.core.locks import exclusive, is_locked
from tag2mask.core.manifest import MANIFEST, Manifest, read_manifest

__all__ = ["MANIFEST", "Manifest", "Store", "point", "sweep"]
LOG = logging.getLogger("tag2mask")
Stamp = tuple[int, ...]
_RUNS = "runs"
"""Folder of the store with a file for each run and sweep that uses it."""
_ARTEFACT = re.compile(r".+-[0-9a-f]{16}")
_RECIPES = [f"{'*/' * depth}recipe.yaml" for depth in range(4)]
"""Where runs lie in a folder: in itself, in it, in a sweep in it, in a sweep of an experiment in it."""


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
        """Make the folder, and see that it can be written.

        Raises:
            StageError: it cannot, such as a store of another user, a file of that name, or a link to nowhere.
        """
        check_store(self.root)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            if not os.access(self.root, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        except OSError as error:
            raise cannot_write(self.root, error) from error

    def manifest(self, kind: str, key: str) -> Manifest | None:
        """The manifest of a finished artefact; None where it is not finished or is not what was made, which is said.

        Raises:
            StageError: the manifest may not be read, or was written by another version of the schema.
        """
        found, wrong = self.look(kind, key)
        if wrong:
            LOG.warning("%s; '%s' counts as not made and is made again", wrong, self.folder(kind, key).name)
        return found

    def look(self, kind: str, key: str) -> tuple[Manifest | None, str]:
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


@dataclass(frozen=True, slots=True)
class Registration:
    """A run or sweep that uses a store, as it was when it last wrote there.

    Attributes:
        path: of its folder.
        artefacts: names of what it linked, or had begun to make.
    """

    path: Path
    artefacts: frozenset[str]

    @property
    def file(self) -> str:
        """Name of its file in the store."""
        return f"{value_hash(str(self.path))[:16]}.json"

    def runs(self) -> list[Path]:
        """The run, or those of the sweep; none where it is not there."""
        return _runs_in(self.path)


def register(store: Path, run: Path, begun: Iterable[str] = ()) -> None:
    """Note in a store that a run or sweep uses it, and what; called as a run begins, and for each artefact.

    A file for each run, written by the one process that holds its lock.

    Args:
        store: its folder.
        run: folder of the run or sweep; what it links now is noted.
        begun: further artefacts by name, that are being made.

    Raises:
        StageError: the file cannot be written.
    """
    if store.name == PACKED:  # which no other run uses
        return
    found = Registration(run.resolve(), frozenset(begun) | _linked(run, store))
    write_json(store / _RUNS / found.file, {"path": str(found.path), "artefacts": sorted(found.artefacts)})


def registered(store: Path, run: Path) -> frozenset[str]:
    """The artefacts that a run has noted before."""
    file = Registration(run.resolve(), frozenset()).file
    return next((r.artefacts for r in _registrations(store) if r.file == file), frozenset())


def _registrations(store: Path) -> Iterator[Registration]:
    for path in sorted((store / _RUNS).glob("*.json")):
        try:
            values = read_json(path)
            yield Registration(Path(values["path"]), frozenset(values["artefacts"]))
        except (StageError, KeyError, TypeError) as error:
            LOG.warning("%s is not what a run wrote (%s); run it again, or remove the file", path, error)


def _linked(run: Path, store: Path) -> frozenset[str]:
    """Names of the artefacts of a store that a run links."""
    root = store.resolve()
    targets = [followed(link).resolve() for link in links_in(run)] if run.is_dir() else []
    return frozenset(target.name for target in targets if target.parent == root)


def _runs_in(folder: Path) -> list[Path]:
    return [path.parent for pattern in _RECIPES for path in sorted(folder.glob(pattern))] if folder.is_dir() else []


@dataclass(frozen=True, slots=True)
class StoredArtefact:
    """An artefact of a store.

    Attributes:
        path: its folder.
        size: of its files, in bytes.
        runs: that link it, or have begun it; those that are not there with what they linked when they last ran.
        finished: it has a manifest.
        locked: a process is making it.
    """

    path: Path
    size: int
    runs: tuple[Path, ...]
    finished: bool
    locked: bool


class StoreUsage:
    """What a store holds, and who uses it.

    Runs are found by the files that they leave in the store, and, as those of older versions leave none, in the folders
    beside it. A registered run that is not there keeps what it linked when it last ran, for its disk may not be
    connected; but for one whose folder would lie beside the store, or in a sweep there: it was removed.

    Args:
        root: folder of the store.
        forget: registered runs that are gone for good and keep nothing.

    Attributes:
        root: folder of the store.
        missing: registered runs and sweeps that are not there.
        removed: those that were removed, or are forgotten.

    Raises:
        StageError: there is no store, or it leads to a disk that is not connected.
        ConfigError: a run to forget is not registered, or is there.
    """

    def __init__(self, root: Path, forget: Sequence[Path] = ()) -> None:
        check_store(root)
        if not root.is_dir():
            raise StageError(f"{root} is not a store; name one, a run, or the folder of runs: tag2mask store runs")
        self.root, self.missing, self.removed = root, list[Registration](), list[Registration]()
        forgotten, runs = {path.resolve() for path in forget}, dict[Path, None]()
        known = list(_registrations(root))
        gone = {r.path: r for r in known if not r.path.exists()}
        for path in forget:
            if path.resolve() not in gone:
                raise ConfigError(f"--forget {path}: expected a registered run that is not there: {_names(gone)}")
        for one in known:
            if one.path not in gone:
                runs |= dict.fromkeys(run.resolve() for run in one.runs())
            elif one.path in forgotten or _was_removed(one.path, root):
                self.removed.append(one)
            else:
                self.missing.append(one)
        for folder in dict.fromkeys((root.absolute().parent, root.resolve().parent)):
            runs |= dict.fromkeys(run.resolve() for run in _runs_in(folder))
        self._begun = {r.path: r.artefacts for r in known}
        self.runs = tuple(run for run in runs if self._used_by(run))

    def _used_by(self, run: Path) -> frozenset[str]:
        return _linked(run, self.root) | self._begun.get(run, frozenset())

    def users(self, name: str) -> tuple[Path, ...]:
        """The runs that use an artefact, looked up now: a run that has just begun counts."""
        begun = {r.path: r.artefacts for r in _registrations(self.root)}
        removed = {r.path for r in self.removed}
        runs = dict.fromkeys((*self.runs, *(path for path in begun if path not in removed)))
        return tuple(r for r in runs if name in begun.get(r, ()) or name in _linked(r, self.root))

    @cached_property
    def artefacts(self) -> tuple[StoredArtefact, ...]:
        """Everything in the store, the largest first."""
        every = self.runs + tuple(one.path for one in self.missing)
        used = {run: self._used_by(run) for run in every}
        found = [
            StoredArtefact(
                path,
                sum(p.stat().st_size for p in path.rglob("*") if p.is_file()),
                tuple(run for run in every if path.name in used[run]),
                (path / MANIFEST).is_file(),
                is_locked(_lock(path)),
            )
            for path in self.root.iterdir()
            if path.is_dir() and _ARTEFACT.fullmatch(path.name)
        ]
        return tuple(sorted(found, key=lambda a: (-a.size, a.path.name)))

    @property
    def unused(self) -> tuple[StoredArtefact, ...]:
        """What no run uses and no process makes: half-made artefacts too."""
        return tuple(a for a in self.artefacts if not a.runs and not a.locked)

    def prune(self) -> tuple[StoredArtefact, ...]:
        """Remove what no run uses, and the files of runs that were removed; returns the artefacts that are gone.

        Each is removed under its lock, after a last look whether a run has begun to use it.

        Raises:
            StageError: a folder cannot be removed.
        """
        gone = []
        for artefact in self.unused:
            try:
                with exclusive(_lock(artefact.path), f"artefact {artefact.path.name}"):
                    if self.users(artefact.path.name):
                        continue
                    (artefact.path / MANIFEST).unlink(missing_ok=True)  # first: killed now, it counts as half-made
                    shutil.rmtree(artefact.path)
            except OSError as error:
                raise cannot_write(artefact.path, error) from error
            except StageError:
                LOG.info("%s is in use now; it stays", artefact.path.name)
                continue
            gone.append(artefact)
        for one in self.removed:
            (self.root / _RUNS / one.file).unlink(missing_ok=True)
        return tuple(gone)


def _lock(artefact: Path) -> Path:
    """The lock file of an artefact, as `tag2mask.pipeline.session.Session.lock` holds it."""
    return artefact.with_name(f".{artefact.name}.lock")


def _names(paths: Iterable[Path]) -> str:
    return ", ".join(map(str, paths)) or "there is none"


def _was_removed(run: Path, store: Path) -> bool:
    """Whether a run that is not there was removed: the folder beside the store, which is there, holds it no longer."""
    for path in (run, *run.parents):
        beside = followed(path.parent / ".store")
        if not path.exists() and beside.is_dir() and beside.resolve() == store.resolve():
            return True
    return False


def point(link: Path, target: Path) -> None:
    """Make a relative link to a store or to an artefact in one, or turn it there.

    Its folder may be a link itself, and what is in it is read from the folder that it leads to. The store is not
    followed further: where it is a link, that may be turned to another disk.

    Raises:
        StageError: no link can be made.
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
