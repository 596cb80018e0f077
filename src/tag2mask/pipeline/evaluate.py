"""Evaluating the maps that a run has made, without making anything again."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tag2mask.core.errors import ConfigError, StageError, unknown
from tag2mask.core.files import read_json
from tag2mask.core.progress import progress
from tag2mask.data.base import Dataset
from tag2mask.data.registry import reader
from tag2mask.evaluation.rows import MetricRow
from tag2mask.evaluation.seeds import evaluate_seeds
from tag2mask.evaluation.thresholds import Threshold
from tag2mask.methods.artefact import Artefact
from tag2mask.pipeline.keys import SampleKeys, keys_of
from tag2mask.pipeline.measures import now, unseen
from tag2mask.pipeline.plan import Plan, PlannedStage, make_plan
from tag2mask.pipeline.runfolder import RunFolder
from tag2mask.pipeline.store import MANIFEST


def evaluate_run(
    run: Path, *, stages: Sequence[str] = (), thresholds: Sequence[float] = (), split: str | None = None
) -> list[MetricRow]:
    """Evaluate seeds of a finished run.

    Args:
        run: the run folder.
        stages: instances that made maps; all of them where empty.
        thresholds: each 0..1, of kind ``fixed``; the oracle is always added.
        split: a split with a truth; the one whose maps were made where None.

    Raises:
        StageError: no run, or maps that are missing or outdated.
        ConfigError: an unknown stage or a threshold outside 0..1.
        DataError: no image has a truth.
    """
    folder = RunFolder.existing(run)
    plan = make_plan(folder.recipe())
    dataset = open_split(plan, split or plan.data.infer)
    keys = keys_of(folder.store.root)
    kinds = [Threshold(value, "fixed") for value in thresholds]
    rows: list[MetricRow] = []
    for stage in _chosen(plan, stages):
        artefact = finished(folder, plan, stage, keys)
        samples = unseen([artefact], dataset, stage.name)
        with progress(stage.name, len(samples)) as counter:
            read = partial(artefact.maps, dataset)
            found = evaluate_seeds(dataset, read, kinds, samples=samples, advance=counter.advance)
        rows += found.rows(stage=stage.name, method=stage.name.partition("@")[0], seed=stage.seed, time=now())
    return rows


def open_split(plan: Plan, split: str) -> Dataset:
    """One split of a plan's data."""
    return reader(plan.data_kind).open_split(plan.data, split)


def finished(folder: RunFolder, plan: Plan, stage: PlannedStage, keys: SampleKeys) -> Artefact:
    """The artefact of a stage that the run has finished, with all that it was made from.

    Raises:
        StageError: it has not.
    """
    link = folder.path / stage.name
    if not (link / MANIFEST).is_file():
        raise StageError(f"stage '{stage.name}' of {folder.path} is not finished; go on: {folder.command}")
    key = str(read_json(link / MANIFEST)["key"])
    by_name = {s.name: s for s in plan.stages}
    reads = {role: finished(folder, plan, by_name[source], keys) for role, source in stage.reads.items()}
    path, sample_key = link.resolve(), partial(keys.of, key)
    return Artefact(stage.name, path, key, sample_key, stage.settings, reads, folder.command)


def _chosen(plan: Plan, names: Sequence[str]) -> list[PlannedStage]:
    makers = {s.name: s for s in plan.stages if s.kind.makes == "maps"}
    for name in names:
        if name not in makers:
            raise ConfigError(unknown("stage of maps", name, makers))
    return [makers[name] for name in names] or list(makers.values())
