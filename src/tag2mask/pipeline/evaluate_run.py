"""Evaluating the maps and predictions that a run has made, without making anything again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tag2mask.core.errors import ConfigError, DamagedError, StageError, nothing_shown, unknown
from tag2mask.core.manifest import read_manifest
from tag2mask.core.progress import progress
from tag2mask.core.types import ActivationMaps, Sample
from tag2mask.data import registry
from tag2mask.data.base import Dataset
from tag2mask.evaluation.label_images import evaluate_masks
from tag2mask.evaluation.result_tables import MetricRow, now, score_rows
from tag2mask.evaluation.seeds import evaluate_seeds
from tag2mask.evaluation.thresholds import Threshold
from tag2mask.methods.artefact import Artefact
from tag2mask.methods.stage_kinds import Makes
from tag2mask.pipeline.keys import SampleKeys, keys_of
from tag2mask.pipeline.metric_stages import say_nothing_shown, unseen
from tag2mask.pipeline.plan import Plan, PlannedStage, make_plan
from tag2mask.pipeline.run_folder import RunFolder
from tag2mask.pipeline.session import artefact_of
from tag2mask.segmentation.publish.provenance import how

_PREDICTIONS = "predictions"
"""Kind of the stages whose labels are of a segmentation network."""


def evaluate_run(
    run: Path, *, stages: Sequence[str] = (), thresholds: Sequence[float] = (), split: str | None = None
) -> list[MetricRow]:
    """Evaluate seeds and predictions of a finished run.

    Args:
        run: the run folder.
        stages: instances that made maps or predictions; all of them where empty.
        thresholds: each 0..1, of kind ``fixed``, for maps; the oracle is always added.
        split: a split with a truth; the one whose maps or predictions were made where None.

    Returns:
        Rows of each stage of maps at each threshold, and of each stage of predictions, under a name that says how these
        were made, such as ``predictions-crf (single scale, CRF deeplabv2)``.

    Raises:
        StageError: no run, or maps or predictions that are missing or outdated.
        ConfigError: an unknown stage, a threshold outside 0..1, or one for predictions alone.
        DataError: no image has a truth.
    """
    kinds = [Threshold(value, "fixed") for value in thresholds]
    predicted = _names(run, predictions=True)
    of_maps = [name for name in stages if name not in predicted] if stages else _names(run)
    if kinds and predicted and not of_maps:
        raise ConfigError(f"threshold = {thresholds[0]} belongs to stages of maps, but none is evaluated: leave it out")
    _check_names(run, stages, predicted)
    rows: list[MetricRow] = []
    for opened in open_maps(run, of_maps, split) if of_maps or not predicted else ():
        samples = unseen([opened.artefact], opened.dataset, opened.name)
        with progress(opened.name, len(samples)) as counter:
            found = evaluate_seeds(opened.dataset, opened.read, kinds, samples=samples, advance=counter.advance)
        say_nothing_shown(opened.name, found)
        rows += found.rows(stage=opened.name, method=opened.method, seed=opened.stage.seed, time=now())
    for name in (name for name in predicted if not stages or name in stages):
        rows += _prediction_rows(run, name, split)
    if not rows:  # no threshold was given, and none is best where the truth shows no class
        raise nothing_shown()
    return rows


def _prediction_rows(run: Path, name: str, split: str | None) -> tuple[MetricRow, ...]:
    folder = RunFolder.existing(run)
    plan = make_plan(folder.recipe())
    stage = next(s for s in plan.stages if s.name == name)
    made = finished(folder, plan, stage, keys_of(folder.store.root))
    dataset = open_split(plan, split or own_split(plan, stage))
    samples = unseen([made], dataset, name)
    with progress(name, len(samples)) as counter:
        found = evaluate_masks(dataset, partial(made.labels, dataset), samples=samples, advance=counter.advance)
    say_nothing_shown(name, found)
    label = f"{name} ({how(stage.settings.model_dump())})"
    method = f"{name} ({made.described()}; {how(stage.settings.model_dump())})"
    return score_rows(
        found.scores, Threshold(None, "none"), stage=label, method=method, split=found.split, n_images=found.n_images,
        seed=stage.seed, time=now(),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class OpenedMaps:
    """The maps of one stage of a finished run, and the split that they are looked at on.

    Attributes:
        run: the run folder.
        stage: that made the maps.
        artefact: the maps.
        dataset: the split.
    """

    run: Path
    stage: PlannedStage
    artefact: Artefact
    dataset: Dataset

    @property
    def name(self) -> str:
        """Name of the stage."""
        return self.stage.name

    @property
    def method(self) -> str:
        """Name of the stage without its seed."""
        return self.stage.base_name

    def read(self, sample: Sample) -> ActivationMaps:
        """The maps of one sample; raises as `Artefact.maps` does."""
        return self.artefact.maps(self.dataset, sample)


def open_maps(run: Path, stages: Sequence[str] = (), split: str | None = None) -> list[OpenedMaps]:
    """Open the maps that a finished run has made.

    Args:
        run: the run folder.
        stages: instances that made maps; all of them where empty.
        split: the split to look at; the one whose maps were made where None.

    Raises:
        StageError: no run, or a stage that is not finished.
        ConfigError: an unknown stage, one that makes no maps, or a recipe without any that does.
    """
    folder = RunFolder.existing(run)
    plan = make_plan(folder.recipe())
    chosen = _chosen(plan, stages, run)
    keys = keys_of(folder.store.root)
    dataset = open_split(plan, split or plan.data.infer)
    return [OpenedMaps(run, stage, finished(folder, plan, stage, keys), dataset) for stage in chosen]


def maps_stages(run: Path) -> tuple[str, ...]:
    """Names of the stages of a run that make maps, finished or not.

    Raises:
        StageError: no run.
    """
    return tuple(_names(run))


def own_split(plan: Plan, stage: PlannedStage) -> str:
    """The split that a stage of files went over.

    Raises:
        StageError: the data has no such.
    """
    split = plan.split_of(stage)
    if split is None:
        raise StageError(f"stage '{stage.name}' made nothing, as data.val was null: run it again with a split there")
    return split


def _check_names(run: Path, stages: Sequence[str], predicted: Sequence[str]) -> None:
    """Refuse a stage that is not there; where there are no predictions, `open_maps` says it."""
    every = [s.name for s in make_plan(RunFolder.existing(run).recipe()).stages]
    for name in stages:
        if predicted and name not in every:
            raise ConfigError(unknown("stage of maps or predictions", name, [*_names(run), *predicted]))


def _names(run: Path, *, predictions: bool = False) -> list[str]:
    """The stages of a run that make maps, or those of predictions."""
    stages = make_plan(RunFolder.existing(run).recipe()).stages
    return [s.name for s in stages if (s.kind.name == _PREDICTIONS if predictions else s.kind.makes is Makes.MAPS)]


def open_split(plan: Plan, split: str) -> Dataset:
    """One split of a plan's data."""
    return registry.open_split(plan.data_kind, plan.data, split)


def finished(folder: RunFolder, plan: Plan, stage: PlannedStage, keys: SampleKeys) -> Artefact:
    """The artefact of a stage that the run has finished, with all that it was made from.

    Raises:
        StageError: it has not, or what was trained or chosen in it is not what was made any more.
    """
    link = folder.artefact(stage.name)
    try:
        manifest = read_manifest(link)
    except DamagedError as error:
        raise StageError(f"{error}. Make stage '{stage.name}' again: {folder.command}") from error
    if manifest is None:
        raise StageError(f"stage '{stage.name}' of {folder.path} is not finished; go on: {folder.command}")
    # What is gone is told by whoever needs it; numbers are read row by row, and a page looks at their files itself.
    changed = [] if stage.kind.makes is Makes.METRICS else manifest.changed(link, keys.hashes.file)
    if changed:
        raise not_as_made(folder, stage.name, link / changed[0])
    key = manifest.key
    by_name = {s.name: s for s in plan.stages}
    reads = {role: finished(folder, plan, by_name[source], keys) for role, source in stage.reads.items()}
    return artefact_of(stage, link.resolve(), key, keys, reads, folder.command)


def not_as_made(folder: RunFolder, stage: str, first: Path) -> StageError:
    """The error for files of a stage that are not what was made, and what makes them again."""
    return StageError(
        f"files of stage '{stage}' of {folder.path} are gone or changed; go on: {folder.command} (the first of "
        f"them is {first})"
    )


def _chosen(plan: Plan, names: Sequence[str], run: Path) -> list[PlannedStage]:
    every = {s.name: s for s in plan.stages}
    makers = {name: s for name, s in every.items() if s.kind.makes is Makes.MAPS}
    if not makers:
        raise ConfigError(f"the recipe of {run} has no stage that makes maps; use one that does: tag2mask ls recipes")
    for name in names:
        if name in makers:
            continue
        if name in every:
            makes = every[name].kind.makes
            raise ConfigError(f"stage '{name}' makes {makes}, but maps are needed. Stages of maps: {', '.join(makers)}")
        raise ConfigError(unknown("stage of maps", name, makers))
    return [makers[name] for name in dict.fromkeys(names)] or list(makers.values())
