"""Runs an experiment for ``tag2mask experiment run``: one combined run or its sweeps, the steps, then the table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tag2mask.api import run_loaded
from tag2mask.config.recipe import Recipe, dump_recipe, load_recipe
from tag2mask.core.errors import ConfigError, DataError, command, nearest
from tag2mask.core.files import write_json, write_text
from tag2mask.core.processes.ranks import barrier, join, rank
from tag2mask.data.base import Dataset
from tag2mask.data.registry import open_split
from tag2mask.evaluation.result_tables import MetricRow, ResultRow, write_results
from tag2mask.methods.stage_kinds import Measures
from tag2mask.papers.catalogue import Experiment, FinishedExperiment, Recipes, Size, StepResult, experiment, load_step
from tag2mask.papers.table import PAGE, RESULTS, legend, write_page
from tag2mask.papers.variants import Combined, combine, default_data, small
from tag2mask.pipeline.plan import make_plan
from tag2mask.pipeline.run_folder import RunFolder
from tag2mask.pipeline.run_result import measures
from tag2mask.sweep.run import prepare, share_store, sweep
from tag2mask.training.device import resolve_device

MARK = "experiment.json"
"""File that marks the folder of an experiment that is not a run."""

BASE = "base.yaml"
"""The recipe that every point of a sweep changes in one setting."""


@dataclass(frozen=True, slots=True)
class Options:
    """How an experiment is run."""

    words: tuple[str, ...] = ()  # the user's key=value
    seeds: int = 1  # their number: 0, 1, …
    size: Size = "full"  # small: the light settings on at most 300 images
    recipes: Recipes = "light"  # whose settings
    out: Path | None = None  # folder; None for runs/<id>
    images: tuple[str, ...] = ()  # ids of images to show in pictures

    @property
    def flags(self) -> list[tuple[str, str]]:
        """The options of the command line that are not at their defaults: seeds, size and recipes."""
        given = (("--seeds", self.seeds, 1), ("--size", self.size, "full"), ("--recipes", self.recipes, "light"))
        return [(flag, str(value)) for flag, value, usual in given if value != usual]

    def command(self, name: str) -> str:
        """The command that runs experiment ``name`` with these options."""
        given = [*self.flags, *([("--out", str(self.out))] if self.out else []), *(("--image", i) for i in self.images)]
        return command("experiment", "run", name, *self.words, *(word for pair in given for word in pair))


@dataclass(frozen=True, slots=True)
class ExperimentResult:
    """Result of `run_experiment`."""

    experiment: Experiment
    path: Path
    rows: tuple[ResultRow, ...]  # our numbers; ``method`` is the name of a row
    legend: str  # data, networks and seeds of the published columns and of ours
    lines: tuple[str, ...]  # sentences below the table
    files: tuple[Path, ...]  # results.csv, table.md, then figures and further tables


def run_experiment(name: str, options: Options | None = None) -> ExperimentResult:
    """Run an experiment, reusing finished stages: the same command resumes an interrupted one."""
    options = options or Options()
    chosen = experiment(name)
    _check_options(chosen, options)
    out = options.out or Path("runs") / chosen.id
    combined = plan_experiment(chosen, options)
    if combined is not None:
        _check_data(chosen, combined, options.images)
    run = FinishedExperiment(chosen, {}, None, (), out, options.command(chosen.id), options.images)
    if rank() == 0 and (combined is None or chosen.axes):
        prepare(out, MARK, "experiment")
        write_json(out / MARK, {"id": chosen.id, "command": run.command})
    found: list[StepResult] = []
    if combined is not None and chosen.axes:
        run = replace(run, stages=combined.stages, recipe=combined.recipe)
        found.append(_swept(run, combined.recipe))
    elif combined is not None:
        result = run_loaded(combined.recipe, RunFolder(out), run.command)
        run = replace(run, stages=combined.stages, recipe=combined.recipe, done=result.stages)
        found.append(StepResult(tuple(_own_rows(run, result.metrics))))
    if rank():
        return ExperimentResult(chosen, out, (), "", (), ())
    found += [load_step(name)(run) for name in chosen.steps]
    return _written(run, found)


def plan_experiment(chosen: Experiment, options: Options) -> Combined | None:
    """The combined recipe of an experiment, checked; None if it needs no run."""
    refs = chosen.refs(options.recipes)
    if not refs:
        if chosen.refs("light") or chosen.refs("voc12"):
            raise ConfigError(f"{chosen.id} has no rows with --recipes {options.recipes}; see tag2mask experiment show")
        return None
    words = (f"seeds={list(range(options.seeds))}", *options.words)
    scale = default_data(words, options.recipes == "light")
    if options.size == "small":
        first = next(iter(refs.values())).variant
        data = [w for w in words if w.startswith(("data=", "data."))]
        folder = (options.out or Path("runs") / chosen.id).parent
        scale = small(load_recipe(first.recipe, [*scale.data, *data]).data, folder, scale)
    return combine(chosen.id, f"{chosen.paper}, {chosen.item}: {chosen.title}", refs, words, scale)


def _check_options(chosen: Experiment, options: Options) -> None:
    if options.seeds < 1:
        raise ConfigError(f"--seeds {options.seeds}: expected a number of seeds, at least 1, such as --seeds 3")
    if options.size == "small" and options.recipes != "light":
        raise ConfigError(
            f"--size small with --recipes {options.recipes}: the papers' settings go with all of their images; leave "
            "one of the two out"
        )
    if options.images and not chosen.pictures:
        raise ConfigError(f"--image {options.images[0]}: {chosen.id} draws no images; leave it out")
    if not (chosen.refs("light") or chosen.refs("voc12")):
        _check_no_data(chosen, options)
    swept = chosen.axes[0] if len(chosen.axes) == 1 else None
    for word in options.words:
        if swept is not None and word.partition("=")[0] == swept.setting:
            raise ConfigError(
                f"{word}: {chosen.id} sweeps {swept.setting} over {', '.join(swept.values)}, so it has no effect; "
                "leave it out"
            )


def _check_no_data(chosen: Experiment, options: Options) -> None:
    """Refuse options that an experiment without a run would ignore."""
    given = [*options.words, *(" ".join(flag) for flag in options.flags)]
    if given:
        raise ConfigError(f"{given[0]}: {chosen.id} computes a toy from numbers of its own, without data; leave it out")


def _check_data(chosen: Experiment, combined: Combined, images: Sequence[str]) -> None:
    """Open every evaluated split and every weight file before anything is trained."""
    plan = make_plan(combined.recipe)
    opened: dict[str, Dataset] = {}
    for stage in plan.stages:
        if stage.kind.fingerprint is not None:
            stage.kind.fingerprint(stage.settings)
        if measures(stage) is not Measures.OTHER:
            split = plan.split_of(stage)
            if split is None:
                raise DataError(
                    f"{chosen.id} evaluates '{stage.name}' on data.val, which is not set: set data.val to a split"
                )
            opened.setdefault(split, open_split(plan.data_kind, plan.data, split))
    for split, dataset in opened.items():
        if chosen.needs_ground_truth and not dataset.has_truth:
            raise DataError(
                f"{chosen.id} compares with masks drawn by people, but split '{split}' of data={plan.data_kind} has "
                "none; give data with masks, or run it without data=… on generated scenes"
            )
    if images:
        known = {sample.id for sample in open_split(plan.data_kind, plan.data, plan.data.infer).samples}
        for image in (image for image in images if image not in known):
            near = nearest(image, known)
            hint = f"; did you mean '{near}'?" if near else ""
            raise DataError(f"--image {image}: split '{plan.data.infer}' has no such image{hint}")


def _swept(run: FinishedExperiment, recipe: Recipe) -> StepResult:
    """Sweep every axis of an experiment, on one recipe and one store."""
    base = run.out / BASE
    join(resolve_device(recipe.engine).type)
    if rank() == 0:
        write_text(base, dump_recipe(recipe))
        share_store(run.out)
    barrier()
    rows: list[ResultRow] = []
    files, lines = [base], []
    for axis in run.experiment.axes:
        result = sweep(str(base), {axis.setting: axis.values}, out=run.out / axis.setting)
        for point in result.points:
            name = axis.row(point.values[0])
            mine = [row for row in point.metrics if run.row_of(row.stage) in run.stages]
            rows += [replace(row.result(run.command), method=name) for row in mine]
            lines += [f"{name} failed: {point.error}"] if point.error else []
        files += result.files
    return StepResult(tuple(rows), tuple(files), tuple(lines))


def _own_rows(run: FinishedExperiment, metrics: Sequence[MetricRow]) -> list[ResultRow]:
    """The run's numbers under the names of the rows; of a stage that is measured twice the first numbers."""
    found: dict[tuple[str, str, str, int], ResultRow] = {}
    for row in metrics:
        name = run.row_of(row.stage)
        if name in run.stages:
            network = row.method.partition(" (")[2]
            method = f"{name} ({network}" if network else name
            key = (name, row.metric, row.threshold_kind, row.seed)
            found.setdefault(key, replace(row.result(run.command), method=method))
    return list(found.values())


def _written(run: FinishedExperiment, found: Sequence[StepResult]) -> ExperimentResult:
    rows = tuple(row for one in found for row in one.rows)
    lines = tuple(line for one in found for line in one.lines)
    results = run.out / RESULTS
    write_results(results, rows)
    figures = tuple(path for one in found for path in one.files)
    write_page(run, rows, lines, figures)
    return ExperimentResult(
        run.experiment, run.out, rows, legend(run, rows), lines, (results, run.out / PAGE, *figures)
    )
