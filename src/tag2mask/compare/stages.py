"""What is compared: a measured stage of a finished run, all its seeds, opened on the images it was measured on."""

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
from tag2mask.pipeline.plan import PlannedStage, measured_by
from tag2mask.pipeline.run_result import measures
from tag2mask.thresholds.threshold_of import threshold_of

ORACLE, WRITTEN = "oracle", ("fixed", "published")
"""Kinds of threshold: chosen with the truth that is measured on, and those that stand in the recipe."""


@dataclass(frozen=True, slots=True)
class OneSeed:
    """One seed of a side.

    Attributes:
        seed: of the stage.
        measured: the maps or masks.
        measuring: the stage that measured them, with what it read.
        thresholds: it measured at, by `Threshold.kind_text`; the first of each kind.
    """

    seed: int
    measured: Artefact
    measuring: Artefact
    thresholds: dict[str, Threshold]


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a comparison.

    Attributes:
        stage: the measuring stage, without the suffix of its seed.
        name: as shown.
        makes: maps or masks.
        dataset: the split that was measured.
        seeds: at least one, ascending.
        measured: supervision behind the maps or masks.
        chosen: that, and what stands behind a threshold that the stage reads.
    """

    stage: str
    name: str
    makes: Makes
    dataset: Dataset
    seeds: tuple[OneSeed, ...]
    measured: frozenset[str]
    chosen: frozenset[str]

    def ledger(self, kind: str, n_images: int) -> tuple[str, ...]:
        """Supervision behind a number at a kind of threshold, of an oracle the truth of the images included."""
        if kind == ORACLE:
            return tuple(sorted(self.measured | {f"pixel-masks:threshold({n_images})"}))
        return tuple(sorted(self.measured if kind in WRITTEN else self.chosen))


def open_groups(runs: Sequence[OpenedRun], stages: Sequence[str]) -> list[list[Side]]:
    """Open what is compared: in each group the first side against each other one.

    Args:
        runs: at least one.
        stages: measuring stages, or what these measure. None: those that all runs have, a group each. One: that stage
            of each run. As many as there are runs: one of each run, in order. Of one run: two or more.

    Raises:
        ConfigError: a stage that is not there, or a number of stages that fits no comparison.
        StageError: no run, or a stage that is not finished.
        DataError: a stage has measured nothing, for want of a truth.
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
    """Which stage of which run, by number, in each group."""
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


def _measuring(run: OpenedRun) -> list[str]:
    """Stages that measure seeds or masks of a mIoU, without seeds' suffixes."""
    return list(dict.fromkeys(s.base_name for s in run.stages.values() if _measures(s)))


def _measures(stage: PlannedStage) -> bool:
    return measures(stage) is Measures.MIOU


def _resolve(run: OpenedRun, name: str) -> str:
    """The measuring stage that a name stands for: its own name, or what it alone measures."""
    known = _measuring(run)
    if name in known:
        return name
    found = sorted(
        {s.base_name for s in run.stages.values() if _measures(s) and run.stages[measured_by(s)].base_name == name}
    )
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(
            f"'{name}' of {run.path} is measured by several stages: {', '.join(found)}; name one of these"
        )
    if name in {s.base_name for s in run.stages.values()}:
        raise ConfigError(
            f"'{name}' of {run.path} has no mIoU: it is not measured against the truth, or as refined seeds, which are "
            f"unsure in places. Measured: {', '.join(known) or 'nothing'}"
        )
    raise ConfigError(f"{run.path}: " + unknown("measured stage", name, known))


def _open(run: OpenedRun, name: str, shown: str) -> Side:
    stages = sorted((s for s in run.stages.values() if s.base_name == name), key=lambda s: s.seed)
    seeds, seen, chosen = [], set[str](), set[str]()
    for stage in stages:
        made, maker = run.artefact(stage.name), measured_by(stage)
        measured = run.artefact(maker)
        seeds.append(OneSeed(stage.seed, measured, made, _thresholds(made, measured, run.path)))
        seen.update(run.manifest(maker).ledger)
        chosen.update(run.manifest(stage.name).ledger)
    makes = stages[0].kind.reads[stages[0].kind.first_role]
    return Side(name, shown, makes, run.dataset(stages[0]), tuple(seeds), frozenset(seen), frozenset(chosen))


def _thresholds(measuring: Artefact, measured: Artefact, run: Path) -> dict[str, Threshold]:
    """What was measured, by kind; a rule's thresholds of classes or images are with the stage that measured at them."""
    found: dict[str, Threshold] = {}
    for row in read_metrics(measuring.path / METRICS):
        if row.metric == "miou":
            found.setdefault(row.threshold_kind, Threshold.parse(row.threshold, row.threshold_kind))
    if not found:
        raise DataError(
            f"stage '{measuring.name}' of {run} has measured nothing: its split has no truth. Compare runs on data "
            "with masks"
        )
    first = threshold_of(measuring if measuring.kind and measuring.kind.threshold else measured)
    return {
        kind: first if kind == first.kind_text else replace(threshold, background=first.background)
        for kind, threshold in found.items()
    }
