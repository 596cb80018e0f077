"""Packing a run: one folder or zip with its artefacts inside, which every command reads wherever it lies."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from tag2mask.config.recipe import dump_recipe
from tag2mask.core.errors import ConfigError, StageError
from tag2mask.core.files import atomic_path, write_text
from tag2mask.core.links import ENDING, PACKED
from tag2mask.core.locks import is_leftover
from tag2mask.core.progress import LOG
from tag2mask.export.output import atomic_folder
from tag2mask.pipeline.opened_run import OpenedRun, as_run
from tag2mask.pipeline.run_folder import RECIPE

_ZIP = ".zip"


def pack_run(run: OpenedRun | str | Path, out: Path | None = None) -> Path:
    """Write a run with everything that it has made as one folder, or as a zip of one; its photos are left out.

    The folder is a run as any other, whose store lies in it. Where its photos are there, `OpenedRun` and the commands
    are given their folder as ``root``; `tag2mask.load` and ``tag2mask predict`` need none.

    Args:
        run: the run, or its folder; stages that are not finished are left out. Of one with a ``root``, data lie there.
        out: new or empty folder, or a new file that ends in ``.zip``; None means ``<run>-packed`` beside the run.

    Returns:
        The folder or file.

    Raises:
        StageError: no run, none of its stages is finished, an artefact was changed, or ``out`` cannot be written.
        ConfigError: ``out`` lies in the run's folder.
    """
    run = as_run(run)
    path = run.path.resolve()
    out = out or path.with_name(f"{path.name}-packed")
    if path in (out.resolve(), *out.resolve().parents):
        raise ConfigError(f"--out {out} lies in the run {run.path}: name a place outside of it")
    stages = [name for name in run.stages if run.is_finished(name)]
    if not stages:
        run.check_links()
        raise StageError(f"no stage of {run.path} is finished, so there is nothing to pack; resume: {run.command}")
    left = [name for name in run.stages if name not in stages]
    if left:
        LOG.warning("%s: not finished, and left out: %s", run.path, ", ".join(left))
    artefacts = {name: run.artefact(name).folder for name in stages}
    files = list(_files(path, artefacts))
    texts = {f"{name}{ENDING}": f"{PACKED}/{artefact.name}\n" for name, artefact in artefacts.items()}
    if run.root is not None:
        texts[RECIPE] = dump_recipe(run.plan.recipe)
        files = [(source, inside) for source, inside in files if inside != Path(RECIPE)]
    if out.suffix.lower() == _ZIP:
        if out.exists():
            raise StageError(f"--out {out} exists; nothing was written. Name a new file")
        with atomic_path(out) as temporary, zipfile.ZipFile(temporary, "w") as archive:  # what is in it is compressed
            for source, inside in files:
                archive.write(source, Path(path.name, inside).as_posix())
            for name, text in texts.items():
                archive.writestr(f"{path.name}/{name}", text)
        return out
    with atomic_folder(out) as folder:
        for source, inside in files:
            (folder / inside).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, folder / inside)
        for name, text in texts.items():
            write_text(folder / name, text)
    return out


def _files(run: Path, artefacts: Mapping[str, Path]) -> Iterator[tuple[Path, Path]]:
    """The files of a packed run with their places in it: its own, then those of each artefact once."""
    for entry in sorted(run.iterdir()):
        if entry.name == "lock" or entry.name in artefacts or entry.is_symlink() or entry.name.endswith(ENDING):
            continue
        if entry.name != PACKED:
            yield from _below(entry, Path(entry.name))
    for artefact in dict.fromkeys(artefacts.values()):
        yield from _below(artefact, Path(PACKED, artefact.name))


def _below(path: Path, inside: Path) -> Iterator[tuple[Path, Path]]:
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    yield from ((file, inside / file.relative_to(path)) for file in files if not is_leftover(file.name))
