"""Who uses a store: runs and sweeps note themselves in it; what nobody uses is listed and pruned."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tag2mask.core.errors import ConfigError, StageError
from tag2mask.core.files import cannot_write, read_json, value_hash, write_json
from tag2mask.core.links import PACKED, check_store, followed, links_in
from tag2mask.core.locks import exclusive, is_locked
from tag2mask.core.manifest import MANIFEST
from tag2mask.core.progress import LOG

_RUNS = "runs"
"""Folder of the store with a file for each run and sweep that uses it."""
_ARTEFACT = re.compile(r".+-[0-9a-f]{16}")
_RECIPES = [f"{'*/' * depth}recipe.yaml" for depth in range(4)]
"""Where runs lie in a folder: in itself, in it, in a sweep in it, in a sweep of an experiment in it."""


@dataclass(frozen=True, slots=True)
class Registration:
    """A run or sweep that uses a store, as it was when it last wrote there.

    Attributes:
        file: its file in the store.
        path: of its folder; one that lies in the folder of the store is looked for there, wherever that is now.
        beside: the path from the folder that the store lies in.
        artefacts: names of what it linked, or had begun to make.
    """

    file: Path
    path: Path
    beside: str
    artefacts: frozenset[str]

    def was_removed(self) -> bool:
        """Whether the folder is gone for good: the one that it lay in, beside the store, is there without it."""
        store = self.file.parents[1].resolve()
        if _is_inside(self.beside):
            return not self.path.exists()
        return any(
            not path.exists() and (beside := followed(path.parent / ".store")).is_dir() and beside.resolve() == store
            for path in (self.path, *self.path.parents)
        )


def register(store: Path, run: Path, begun: Iterable[str] = ()) -> None:
    """Note in a store that a run or sweep uses it, and what; called as a run begins, and for each artefact.

    A file for each run, written by the one process that holds its lock.

    Args:
        store: its folder.
        run: folder of the run or sweep; what it links now is noted.
        begun: further artefacts by name, that are being made.
    """
    if store.name == PACKED:  # which no other run uses
        return
    path, used = run.resolve(), frozenset(begun) | _linked(run, store)
    try:
        beside = os.path.relpath(path, store.resolve().parent)
    except ValueError:  # on Windows, on another drive
        beside = str(path)
    file = store / _RUNS / f"{value_hash(beside)[:16]}.json"
    noted = _registration(file) if file.is_file() else None
    if noted is None or (noted.path, noted.artefacts) != (path, used):
        write_json(file, {"path": str(path), "beside": beside, "artefacts": sorted(used)})


def registered(store: Path, run: Path) -> frozenset[str]:
    """The artefacts that a run has noted before."""
    return next((one.artefacts for one in _registrations(store) if one.path == run.resolve()), frozenset())


def _registrations(store: Path) -> Iterator[Registration]:
    found = (_registration(path) for path in sorted((store / _RUNS).glob("*.json")))
    return (one for one in found if one is not None)


def _registration(file: Path) -> Registration | None:
    try:
        values = read_json(file)
        run, moved = Path(values["path"]), (file.parents[1].resolve().parent / values["beside"]).resolve()
        if _is_inside(values["beside"]) or (moved.exists() and not run.exists()):
            run = moved
        return Registration(file, run, values["beside"], frozenset(values["artefacts"]))
    except (StageError, KeyError, TypeError) as error:
        LOG.warning("%s is not what a run wrote (%s); run it again, or remove the file", file, error)
        return None


def _is_inside(beside: str) -> bool:
    """Whether a path from the folder that the store lies in stays there; then the run moves, and is copied, with it."""
    return not os.path.isabs(beside) and not beside.startswith(os.pardir)


def _linked(run: Path, store: Path) -> frozenset[str]:
    """Names of the artefacts of a store that a run links."""
    targets = [followed(link).resolve() for link in links_in(run)] if run.is_dir() else []
    return frozenset(target.name for target in targets if target.parent == store.resolve())


def _runs_in(folder: Path) -> list[Path]:
    found = [path for pattern in _RECIPES for path in sorted(folder.glob(pattern))] if folder.is_dir() else []
    return [path.parent.resolve() for path in found]


@dataclass(frozen=True, slots=True)
class StoredArtefact:
    """An artefact of a store.

    Attributes:
        path: its folder.
        size: of its files, in bytes.
        runs: that link it or have begun it; of those that are not there, by what they linked when they last ran.
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
        runs: those that were found.
        missing: registered runs and sweeps that are not there.
        removed: those that were removed, or are forgotten.
    """

    def __init__(self, root: Path, forget: Sequence[Path] = ()) -> None:
        check_store(root)
        if not root.is_dir():
            raise StageError(f"{root} is not a store; name one, a run, or the folder of runs: tag2mask store runs")
        self.root, self.missing, self.removed = root, list[Registration](), list[Registration]()
        forgotten, known = {path.resolve() for path in forget}, list(_registrations(root))
        gone = [one for one in known if not one.path.exists()]
        for path in forgotten - {one.path for one in gone}:
            names = ", ".join(str(one.path) for one in gone) or "there is none"
            raise ConfigError(f"--forget {path}: expected a registered run that is not there: {names}")
        for one in gone:
            kept = one.path not in forgotten and not one.was_removed()
            (self.missing if kept else self.removed).append(one)
        beside = dict.fromkeys((root.absolute().parent, root.resolve().parent))
        places = [*(one.path for one in known if one not in gone), *beside]
        self.runs = tuple(dict.fromkeys(run for place in places for run in _runs_in(place)))

    def uses(self) -> dict[Path, frozenset[str]]:
        """Run -> the artefacts that it uses, looked up now: a run that has just begun counts."""
        removed = {one.path for one in self.removed}
        noted = {one.path: one.artefacts for one in _registrations(self.root) if one.path not in removed}
        runs = dict.fromkeys((*self.runs, *noted))
        return {run: _linked(run, self.root) | noted.get(run, frozenset()) for run in runs}

    @cached_property
    def artefacts(self) -> tuple[StoredArtefact, ...]:
        """Everything in the store, the largest first."""
        uses = self.uses()
        found = [
            StoredArtefact(
                path,
                sum(p.stat().st_size for p in path.rglob("*") if p.is_file()),
                tuple(run for run, names in uses.items() if path.name in names),
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
        """
        pruned = []
        for artefact in self.unused:
            try:
                with exclusive(_lock(artefact.path), f"artefact {artefact.path.name}"):
                    if any(artefact.path.name in names for names in self.uses().values()):
                        continue
                    (artefact.path / MANIFEST).unlink(missing_ok=True)  # first: killed now, it counts as half-made
                    shutil.rmtree(artefact.path)
                    pruned.append(artefact)
            except OSError as error:
                raise cannot_write(artefact.path, error) from error
            except StageError:
                LOG.info("%s is in use now; it stays", artefact.path.name)
        for one in self.removed:
            one.file.unlink(missing_ok=True)
        return tuple(pruned)


def _lock(artefact: Path) -> Path:
    """The lock file of an artefact, as `tag2mask.pipeline.session.Session.lock` holds it."""
    return artefact.with_name(f".{artefact.name}.lock")
