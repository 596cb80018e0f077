"""Experiments over settings (L8 to L10, A14): one sweep for each axis, on one recipe and one store."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tag2mask.config.recipe import dump_recipe
from tag2mask.core.files import write_text
from tag2mask.core.ranks import barrier, join, rank
from tag2mask.evaluation.result_tables import ResultRow
from tag2mask.papers.definition import FinishedExperiment, StepResult
from tag2mask.sweep.run import share_store, sweep
from tag2mask.training.device import resolve_device

BASE = "base.yaml"
"""The recipe that every point changes in one setting."""


def run_axes(run: FinishedExperiment) -> StepResult:
    """Sweep every axis of an experiment; a failing point is reported and does not stop the rest."""
    assert run.recipe is not None
    base = run.out / BASE
    join(resolve_device(run.recipe.engine).type)
    if rank() == 0:
        write_text(base, dump_recipe(run.recipe))
        share_store(run.out)
    barrier()
    rows: list[ResultRow] = []
    files: list[Path] = [base]
    lines: list[str] = []
    for axis in run.experiment.axes:
        result = sweep(str(base), {axis.setting: axis.values}, out=run.out / axis.setting)
        for point in result.points:
            name = axis.row(point.values[0])
            mine = [row for row in point.metrics if run.row_of(row.stage) in run.stages]
            rows += [replace(row.result(run.command), method=name) for row in mine]
            lines += [f"{name} failed: {point.error}"] if point.error else []
        files += result.files
    return StepResult(tuple(rows), tuple(files), tuple(lines))
