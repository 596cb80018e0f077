"""The page of finished runs, one or several, made again with the images that one wants to see."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tag2mask.core.errors import ConfigError, DataError, StageError, nearest
from tag2mask.core.manifest import read_manifest
from tag2mask.pipeline.evaluate_run import finished, not_as_made, open_split
from tag2mask.pipeline.keys import keys_of
from tag2mask.pipeline.plan import make_plan
from tag2mask.pipeline.run_folder import RunFolder
from tag2mask.pipeline.run_result import measured
from tag2mask.pipeline.session import Done
from tag2mask.report.choice import Choice
from tag2mask.report.page import render_page
from tag2mask.run_report.build import FinishedRun, run_part

_MARK = '<meta name="generator" content="tag2mask">'
_HEAD = 4096


def write_report(runs: Sequence[Path], out: Path, choice: Choice | None = None) -> int:
    """Write the page of one finished run, or of several with a comparison.

    Args:
        runs: run folders, each once.
        out: the HTML file; a page that is there is replaced.
        choice: which images are shown; two best, median, worst and random ones where None.

    Returns:
        Size of the page in bytes.

    Raises:
        ConfigError: no run, a run twice, or a file to write to that is no page.
        StageError: no run, a stage that is not finished, nothing measured, or the page cannot be written.
        DataError: an image that no run has.
    """
    choice = choice or Choice()
    twice = [str(path) for path, n in Counter(run.resolve() for run in runs).items() if n > 1]
    if twice or not runs:
        raise ConfigError(f"run {twice[0]} is named twice; name each once" if twice else "name at least one run folder")
    _check_out(out)
    opened = [open_run(run) for run in runs]
    _check_images(opened, choice.images)
    names = Counter(run.path.name for run in opened)
    parts = [
        run_part(run, choice, name=run.path.name if names[run.path.name] == 1 else str(run.path)) for run in opened
    ]
    render_page(parts, out)
    return out.stat().st_size


def open_run(path: Path) -> FinishedRun:
    """A run with all its stages made and at least one measured.

    Raises:
        StageError: no run, a stage that is not finished, or nothing measured.
    """
    from tag2mask.pipeline.run_result import collect_metrics

    folder = RunFolder.existing(path)
    plan = make_plan(folder.recipe())
    keys = keys_of(folder.store.root)
    stages = []
    for stage in plan.stages:
        artefact = finished(folder, plan, stage, keys)
        manifest = read_manifest(artefact.path)
        assert manifest is not None  # it is finished
        wrong = [*manifest.gone(artefact.path), *manifest.changed(artefact.path, keys.hashes.file)]
        if wrong:
            raise not_as_made(folder, stage.name, artefact.path / wrong[0])
        stages.append(Done(stage, artefact, manifest))
    if not any(not m.unsure for m in measured(stages)):
        raise StageError(
            f"{path} has measured neither seeds nor masks, so there is nothing to report; its recipe needs a stage of "
            "kind seeds or masks, as those of tag2mask ls recipes have"
        )
    return FinishedRun(plan, folder.path, stages, collect_metrics(stages), folder.command)


def _check_out(out: Path) -> None:
    """Refuse, before any work, what cannot be written or is not a page.

    Raises:
        ConfigError: ``out`` is a folder, or a file that is no page of tag2mask.
        StageError: the folder cannot be written.
    """
    if out.is_dir():
        raise ConfigError(f"--out {out} is a folder; name a file in it, such as {out / 'report.html'}")
    if out.exists() and not out.is_file():
        raise ConfigError(f"--out {out} is a device or a pipe; name a file, such as {out.parent / 'report.html'}")
    if out.exists() and _MARK not in out.read_bytes()[:_HEAD].decode("utf-8", errors="replace"):
        raise ConfigError(f"--out {out} exists and is no page of tag2mask; nothing was changed. Name another file")
    existing = next(p for p in out.absolute().parents if p.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise StageError(f"cannot write {out}: {existing} is no folder that can be written; choose another with --out")


def _check_images(runs: Sequence[FinishedRun], images: Sequence[str]) -> None:
    """Refuse ids that no run has among the images it looks at."""
    if not images:
        return
    known: set[str] = set()
    for run in runs:
        splits = {run.plan.split_of(m.measuring.stage) for m in measured(run.stages) if not m.unsure}
        known |= {s.id for split in splits if split is not None for s in open_split(run.plan, split).samples}
    for name in images:
        if name not in known:
            near = nearest(name, known)
            hint = f"; did you mean '{near}'?" if near else ""
            which = "the run has" if len(runs) == 1 else "none of the runs has"
            raise DataError(f"--image '{name}': {which} {'no ' if len(runs) == 1 else ''}such image{hint}")
