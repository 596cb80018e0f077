"""Experiments over a setting: one sweep for each axis, all of them on one recipe and one store."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tag2mask.config.recipe import dump_recipe
from tag2mask.core.files import write_text
from tag2mask.core.names import base_name
from tag2mask.core.ranks import barrier, join, rank
from tag2mask.evaluation.result_tables import ResultRow
from tag2mask.papers.definition import Found, Ran
from tag2mask.sweep.result import SweepPoint
from tag2mask.sweep.run import share_store, sweep
from tag2mask.training.device import resolve_device

BASE = "base.yaml"
"""The recipe that every point changes in one setting."""


def run_axes(ran: Ran) -> Found:
    """Sweep every axis of an experiment; a point that fails is told and costs no other.

    Raises:
        ConfigError: a value that does not fit the recipe.
        StageError: a folder holds something else, or another process uses it.
    """
    assert ran.recipe is not None
    base = ran.out / BASE
    join(resolve_device(ran.recipe.engine).type)
    if rank() == 0:
        write_text(base, dump_recipe(ran.recipe))
        share_store(ran.out)
    barrier()
    (stage,) = ran.stages.values()
    rows: list[ResultRow] = []
    files: list[Path] = [base]
    lines: list[str] = []
    for axis in ran.experiment.axes:
        result = sweep(str(base), {axis.setting: axis.values}, out=ran.out / axis.setting)
        for point in result.points:
            name = axis.row(point.values[0])
            rows += _rows(point, stage, name, ran.command)
            lines += [f"{name} failed: {point.error}"] if point.error else []
        files += result.files
    return Found(tuple(rows), tuple(files), tuple(lines))


def _rows(point: SweepPoint, stage: str, name: str, command: str) -> list[ResultRow]:
    mine = [row for row in point.metrics if base_name(row.stage) == stage]
    return [replace(row.result(command), method=name) for row in mine]
