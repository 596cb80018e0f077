"""Rebuilds the page of one or several finished runs for ``tag2mask report``, with the images that are named."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tag2mask.core.errors import ConfigError, DataError, StageError, nearest
from tag2mask.pipeline.opened_run import OpenedRun, as_run
from tag2mask.pipeline.run_result import measured
from tag2mask.report.choice import ImageChoice
from tag2mask.report.page import render_page
from tag2mask.run_report.build import finished_stages, run_part

_MARK = '<meta name="generator" content="tag2mask">'
_HEAD = 4096


def write_report(runs: Sequence[OpenedRun | str | Path], out: Path, choice: ImageChoice | None = None) -> int:
    """Write the page of one finished run, or of several with a comparison.

    Args:
        runs: runs or their folders, each once.
        out: the HTML file; a page that is there is replaced.
        choice: which images are shown; None means two best, median, worst and random ones.

    Returns:
        Size of the page in bytes.

    Raises:
        ConfigError: no run, a run twice, or a file to write to that is not a page.
        StageError: no run, a stage that is not finished, nothing measured, or the page cannot be written.
        DataError: an image that no run has.
    """
    choice = choice or ImageChoice()
    opened = [as_run(run) for run in runs]
    twice = [str(path) for path, n in Counter(run.path.resolve() for run in opened).items() if n > 1]
    if twice or not runs:
        raise ConfigError(f"run {twice[0]} is named twice; name each once" if twice else "name at least one run folder")
    _check_out(out)
    for run in opened:
        _check_finished(run)
    _check_images(opened, choice.images)
    names = Counter(run.path.name for run in opened)
    parts = [run_part(run, choice, run.path.name if names[run.path.name] == 1 else str(run.path)) for run in opened]
    render_page(parts, out)
    return out.stat().st_size


def _check_finished(run: OpenedRun) -> None:
    """Refuse a run that is not made as a whole, or has nothing to report."""
    for name in run.stages:
        run.check_files(name)
    if not any(not m.refined for m in measured(finished_stages(run))):
        raise StageError(
            f"{run.path} has measured neither seeds nor masks, so there is nothing to report; its recipe needs a stage "
            "of kind seeds or masks, as those of tag2mask ls recipes have"
        )


def _check_out(out: Path) -> None:
    """Refuse, before any work, what cannot be written or is not a page."""
    if out.is_dir():
        raise ConfigError(f"--out {out} is a folder; name a file in it, such as {out / 'report.html'}")
    if out.exists() and not out.is_file():
        raise ConfigError(f"--out {out} is a device or a pipe; name a file, such as {out.parent / 'report.html'}")
    if out.exists() and _MARK not in out.read_bytes()[:_HEAD].decode("utf-8", errors="replace"):
        raise ConfigError(f"--out {out} exists and is not a page of tag2mask; nothing was changed. Name another file")
    existing = next(p for p in out.absolute().parents if p.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise StageError(f"cannot write {out}: {existing} is not a folder that can be written; choose another --out")


def _check_images(runs: Sequence[OpenedRun], images: Sequence[str]) -> None:
    """Refuse ids that none of the runs has among the images it looks at."""
    if not images:
        return
    known: set[str] = set()
    for run in runs:
        splits = {run.plan.split_of(m.measuring.stage) for m in measured(finished_stages(run)) if not m.refined}
        known |= {s.id for split in splits if split is not None for s in run.split(split).samples}
    for name in images:
        if name not in known:
            near = nearest(name, known)
            hint = f"; did you mean '{near}'?" if near else ""
            which = "the run has" if len(runs) == 1 else "none of the runs has"
            raise DataError(f"--image '{name}': {which} {'no ' if len(runs) == 1 else ''}such image{hint}")
