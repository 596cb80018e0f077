"""Opens the sides of a comparison: a measured stage of a run, all its seeds, on the images it was measured on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tag2mask.core.errors import ConfigError, DataError, unknown
from tag2mask.data.base import Dataset
from tag2mask.evaluation.result_tables import METRICS, read_metrics
from tag2mask.evaluation.thresholds import Threshold
from tag2mask.methods.artefact import Artefact
from tag2mask.methods.stage_kinds import Makes, Measures
from tag2mask.pipeline.opened_run import OpenedRun
from tag2mask.pipeline.plan import measured_by
from tag2mask.pipeline.run_result import measures
from tag2mask.thresholds.threshold_of import threshold_of

ORACLE, WRITTEN = "oracle", ("fixed", "published")
"""Kinds of threshold: chosen on the evaluated ground truth, and written in the recipe."""


@dataclass(frozen=True, slots=True)
class OneSeed:
    """One seed of a side."""

    seed: int
    measured: Artefact  # the maps or masks
    measuring: Artefact  # the stage that measured them
    thresholds: dict[str, Threshold]  # that it measured at, by `Threshold.kind_text`; the first of each kind


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a comparison."""

    name: str  # as shown
    makes: Makes  # maps or masks
    dataset: Dataset  # the split that was measured
    seeds: tuple[OneSeed, ...]  # at least one, ascending
    measured: frozenset[str]  # supervision behind the maps or masks
    chosen: frozenset[str]  # the same, and that behind a threshold that the stage reads

    def ledger(self, kind: str, n_images: int) -> tuple[str, ...]:
        """Supervision behind a number at a kind of threshold; an oracle's includes the ground truth of the images."""
        if kind == ORACLE:
            return tuple(sorted(self.measured | {f"pixel-masks:threshold({n_images})"}))
        return tuple(sorted(self.measured if kind in WRITTEN else self.chosen))


def open_groups(runs: Sequence[OpenedRun], stages: Sequence[str]) -> list[list[Side]]:
    """Open the sides to compare, in groups: the first of a group with each other one.

    Stages are measuring ones, or what these measure. None: those that all runs have, a group each. One: that stage of
    each run. As many as there are runs: one of each run, in order. Of one run: two or more.
    """
    if len({run.path.resolve() for run in runs}) < len(runs):
        raise ConfigError(
            f"{', '.join(str(run.path) for run in runs)}: one run is named twice; for two stages of one run, name it "
            "once and give --stage twice"
        )
    names = [run.path.name for run in runs]
    shown = names if len(set(names)) == len(names) else [str(run.path) for run in runs]
    groups = []
    for group in _groups(runs, stages):
        found = [(i, _resolve(runs[i], name)) for i, name in group]
        groups.append([_open(runs[i], name, name if len(runs) == 1 else f"{shown[i]}/{name}") for i, name in found])
    return groups


def _groups(runs: Sequence[OpenedRun], stages: Sequence[str]) -> list[list[tuple[int, str]]]:
    """The sides of each group: index of the run and name of the stage."""
    names = [_measuring(run) for run in runs]
    if len(runs) == 1:
        if len(set(stages)) < 2:
            raise ConfigError(
                f"one run, {runs[0].path}: name two of its measured stages with --stage A --stage B, or a second run. "
                f"Measured: {', '.join(names[0]) or 'nothing'}"
            )
        return [[(0, stage) for stage in stages]]
    if not stages:
        common = [name for name in names[0] if all(name in other for other in names)]
        if not common:
            each = "; ".join(f"{run.path}: {', '.join(n) or 'none'}" for run, n in zip(runs, names, strict=True))
            raise ConfigError(f"no measured stage is in all runs; name one of each with --stage, in order ({each})")
        return [[(i, name) for i in range(len(runs))] for name in common]
    if len(stages) not in {1, len(runs)}:
        raise ConfigError(f"{len(stages)} stages for {len(runs)} runs; give --stage once for all, or once for each run")
    return [[(i, stages[i % len(stages)]) for i in range(len(runs))]]


def _measuring(run: OpenedRun) -> dict[str, str]:
    """Stages that measure a mIoU -> what they measure, by their names in the recipe."""
    stages = (stage for stage in run.stages.values() if measures(stage) is Measures.MIOU)
    return {stage.base_name: run.stages[measured_by(stage)].base_name for stage in stages}


def _resolve(run: OpenedRun, name: str) -> str:
    """The measuring stage of that name, or the only one that measures the stage of that name."""
    known = _measuring(run)
    if name in known:
        return name
    found = sorted(measuring for measuring, measured in known.items() if measured == name)
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(
            f"'{name}' of {run.path} is measured by several stages: {', '.join(found)}; name one of these"
        )
    if name in {s.base_name for s in run.stages.values()}:
        raise ConfigError(
            f"'{name}' of {run.path} has no mIoU: it is not evaluated, or has ignored pixels as refined seeds have. "
            f"Measured: {', '.join(known) or 'nothing'}"
        )
    raise ConfigError(f"{run.path}: " + unknown("measured stage", name, known))


def _open(run: OpenedRun, name: str, shown: str) -> Side:
    stages = sorted((s for s in run.stages.values() if s.base_name == name), key=lambda s: s.seed)
    seeds, seen, chosen = [], set[str](), set[str]()
    for stage in stages:
        made, maker = run.artefact(stage.name), measured_by(stage)
        measured = run.artefact(maker)
        seeds.append(OneSeed(stage.seed, measured, made, _thresholds(made, measured, run.path)))
        seen.update(run.done(maker).manifest.ledger)
        chosen.update(run.done(stage.name).manifest.ledger)
    makes = stages[0].kind.reads[stages[0].kind.first_role]
    return Side(shown, makes, run.dataset(stages[0]), tuple(seeds), frozenset(seen), frozenset(chosen))


def _thresholds(measuring: Artefact, measured: Artefact, run: Path) -> dict[str, Threshold]:
    """Thresholds by kind; those of classes or images, which no row holds, from the stage that chose them."""
    found: dict[str, Threshold] = {}
    for row in read_metrics(measuring.path / METRICS):
        if row.metric == "miou":
            found.setdefault(row.threshold_kind, Threshold.parse(row.threshold, row.threshold_kind))
    if not found:
        raise DataError(
            f"stage '{measuring.name}' of {run} has measured nothing: its split has no ground truth. Compare runs on "
            "data with masks"
        )
    first = threshold_of(measuring if measuring.kind and measuring.kind.threshold else measured)
    return {
        kind: first if kind == first.kind_text else replace(threshold, background=first.background)
        for kind, threshold in found.items()
    }
