"""The folder of a run: its recipe, links, lock and environment (versions, state of the code, the machine)."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from tag2mask.config.recipe import Recipe, dump_recipe, load_recipe
from tag2mask.core.errors import ConfigError, StageError, command, quoted
from tag2mask.core.files import cannot_write, read_json, write_json, write_text
from tag2mask.core.links import artefact_of, is_link, links_in, remove_link, resuming, store_of
from tag2mask.core.locks import is_leftover
from tag2mask.core.manifest import MANIFEST, read_manifest
from tag2mask.core.progress import LOG
from tag2mask.pipeline.store import Store, point
from tag2mask.pipeline.store_usage import register, registered

_LIBRARIES = (
    "tag2mask", "torch", "torchvision", "timm", "segmentation-models-pytorch", "lightning", "numpy", "Pillow",
    "pycocotools",
)  # fmt: skip
_PACKAGE = Path(__file__).resolve().parents[1]
_SECONDS = 10


def environment() -> dict[str, str]:
    """Python, platform, processor, versions of libraries, and the commit where the code comes out of a git checkout."""
    found = {"python": sys.version.split()[0], "platform": platform.platform(), "processor": _processor()}
    for library in _LIBRARIES:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    commit = git_state(_PACKAGE)
    return {**found, "commit": commit} if commit else found


def git_state(folder: Path) -> str:
    """Commit of a folder of code, and whether the folder was changed since: ``3f2a… with changes``.

    Empty where git does not know the folder's ``__init__.py``: an installed package may lie inside of a repository
    that is not its own.
    """
    if _git(folder, "ls-files", "--error-unmatch", "__init__.py") is None:
        return ""
    commit, changes = _git(folder, "rev-parse", "HEAD"), _git(folder, "status", "--porcelain", "--", ".")
    if commit is None or changes is None:
        return ""
    return f"{commit} with changes" if changes else commit


def _git(folder: Path, *words: str) -> str | None:
    """What git prints, None where it fails, is absent or takes too long."""
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", *words], cwd=folder, capture_output=True, text=True, timeout=_SECONDS,
            check=False,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


RECIPE = "recipe.yaml"
ENVIRONMENT = "environment.json"
_THREADS = "threads"


class RunFolder:
    """A run on disk.

    Args:
        path: its folder; the store lies beside it, of a packed run in it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = Store(store_of(path))
        self._begun = set[str]()

    @classmethod
    def existing(cls, path: Path) -> RunFolder:
        """A run that was begun before."""
        if not (path / RECIPE).is_file():
            around = (("in", path), ("beside", path.parent))
            found = ((where, sorted(p.parent.name for p in place.glob(f"*/{RECIPE}"))) for where, place in around)
            hint = next((f" Runs {where} it: {', '.join(names)}." for where, names in found if names), "")
            if path.suffix == ".zip" and path.is_file():
                raise StageError(f"{path} is a packed run: unpack it, and name the folder that was in it")
            raise StageError(
                f"{path} is not a run (it has no {RECIPE}).{hint} Begin one: {command('run', 'demo', '--out', path)}"
            )
        return cls(path)

    def prepare(self) -> None:
        """Make the folder, or accept the run that is in it."""
        if self.path.is_file():
            raise StageError(f"--out {self.path} is a file; name a new folder or the folder of a run")
        try:
            names = {p.name for p in self.path.iterdir() if not is_leftover(p.name)} if self.path.is_dir() else set()
        except OSError as error:
            raise cannot_write(self.path, error) from error
        if names - {"lock"} and RECIPE not in names:
            raise StageError(
                f"--out {self.path} is not empty and is not a run (it has no {RECIPE}); nothing was changed. "
                f"Name a new folder, or the folder of a run to resume it"
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(self.path, error) from error
        self.store.prepare()

    def note(self, artefact: Path) -> None:
        """Note in the store that this run is about to make an artefact, so that pruning keeps it half-made too."""
        if artefact.name not in self._begun:
            self._begun.add(artefact.name)
            register(self.store.root, self.path, self._begun)

    def adopt(self) -> None:
        """Move artefacts that lie in the run's folder, as a copy with its links resolved has them, into the store."""
        try:
            folders = [
                p for p in sorted(self.path.iterdir()) if p.is_dir() and not is_link(p) and (p / MANIFEST).is_file()
            ]
            for folder in folders:
                manifest = read_manifest(folder)
                assert manifest is not None  # its file is there
                target = self.store.folder(manifest.kind, manifest.key)
                if not target.exists():
                    shutil.copytree(
                        folder, temporary := target.with_name(f".{target.name}.adopted"), dirs_exist_ok=True
                    )
                    os.replace(temporary, target)
                elif not (target / MANIFEST).is_file():
                    continue  # half-made there: the run makes it, and says what stands in the way
                shutil.rmtree(folder)
                self.link(folder.name, target)
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def begin(self, recipe: Recipe, threads: int | None = None) -> None:
        """Write the resolved recipe and the environment, with the number of threads, and register in the store."""
        self._begun = set(registered(self.store.root, self.path))
        register(self.store.root, self.path, self._begun)
        write_text(self.path / RECIPE, dump_recipe(recipe))
        write_json(self.path / ENVIRONMENT, environment() | ({_THREADS: str(threads)} if threads else {}))

    def threads(self) -> int | None:
        """CPU threads that the run computes with since it was begun; None where that is not noted."""
        noted = str(self.environment().get(_THREADS, ""))
        return int(noted) if re.fullmatch("[1-9][0-9]{0,3}", noted) else None

    def end(self, data: Mapping[str, str]) -> None:
        """Add to the environment what is known once the run is through.

        Args:
            data: split -> what its images, tags and masks were, as `tag2mask.pipeline.session.Session.fingerprints`.
        """
        known = self.environment() or environment()
        write_json(self.path / ENVIRONMENT, {**known, "data": dict(data)})
        register(self.store.root, self.path)  # what it links now; what was begun with other settings is in use no more

    def environment(self) -> dict[str, Any]:
        """What was written of versions, machine and data; empty where there is nothing, or not what was written."""
        path = self.path / ENVIRONMENT
        try:
            found = read_json(path) if path.is_file() else {}
        except StageError as error:
            LOG.warning("%s; nothing is said of versions and data. The next run rewrites it: %s", error, self.command)
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def command(self) -> str:
        """The command that resumes the run, and reruns what is missing of it."""
        return resuming(self.path)

    def recipe(self) -> Recipe:
        """The resolved recipe of the run."""
        try:
            return load_recipe(str(self.path / RECIPE))
        except ConfigError as error:
            raise ConfigError(
                f"{error}. The run wrote that file: give the command again that began the run, with --out "
                f"{quoted(self.path)}"
            ) from error

    def artefact(self, name: str) -> Path:
        """Folder of what stage ``name`` has made, through the run's link to it; it may not be there."""
        return artefact_of(self.path, name)

    def link(self, name: str, artefact: Path) -> None:
        """Point ``name`` at an artefact of the store."""
        link = self.path / name
        if link.exists() and not is_link(link):
            raise StageError(f"{link} stands where the link to stage '{name}' belongs; move it away")
        point(link, artefact)
        self.note(artefact)

    def unlink_others(self, names: set[str]) -> None:
        """Remove links to instances that the recipe has no longer."""
        for link in links_in(self.path):
            if link.name not in names:
                remove_link(link)
