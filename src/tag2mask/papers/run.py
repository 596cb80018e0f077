"""Running an experiment: one combined run (or its sweeps), then the table with the published values beside ours."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tag2mask.api import run_loaded
from tag2mask.config.recipe import load_recipe
from tag2mask.core.errors import ConfigError, DataError, command, nearest
from tag2mask.core.files import write_json
from tag2mask.core.ranks import rank
from tag2mask.data.base import Dataset
from tag2mask.data.registry import open_split
from tag2mask.evaluation.result_tables import MetricRow, ResultRow, write_results
from tag2mask.methods.stage_kinds import Measures
from tag2mask.papers.catalogue import experiment
from tag2mask.papers.definition import Experiment, Found, Ran, Recipes, Size, load_step
from tag2mask.papers.scale import default_data, small
from tag2mask.papers.steps.axis_sweep import run_axes
from tag2mask.papers.table import PAGE, RESULTS, legend, write_page
from tag2mask.papers.variants import Combined, combine
from tag2mask.pipeline.plan import make_plan
from tag2mask.pipeline.run_folder import RunFolder
from tag2mask.pipeline.run_result import measures
from tag2mask.sweep.run import prepare

LOG = logging.getLogger("tag2mask")
MARK = "experiment.json"
"""File that tells the folder of an experiment that is no run."""


@dataclass(frozen=True, slots=True)
class Options:
    """How an experiment is run.

    Attributes:
        words: the user's ``key=value``.
        seeds: number of seeds, 0, 1, ….
        size: ``full``, or ``small`` for the light settings on at most 300 images.
        recipes: whose settings.
        out: folder; ``runs/<id>`` where None.
        images: ids of images that pictures have to show.
    """

    words: tuple[str, ...] = ()
    seeds: int = 1
    size: Size = "full"
    recipes: Recipes = "light"
    out: Path | None = None
    images: tuple[str, ...] = ()

    def command(self, name: str) -> str:
        """The command line that says the same."""
        given = ["--seeds", str(self.seeds)] if self.seeds != 1 else []
        given += ["--size", self.size] if self.size != "full" else []
        given += ["--recipes", self.recipes] if self.recipes != "light" else []
        given += ["--out", str(self.out)] if self.out else []
        given += [word for image in self.images for word in ("--image", image)]
        return command("experiment", "run", name, *self.words, *given)


@dataclass(frozen=True, slots=True)
class ExperimentResult:
    """What an experiment has made.

    Attributes:
        experiment: the experiment.
        path: its folder.
        rows: every number of ours; ``method`` is the name of a row.
        legend: what tells the published columns from ours.
        lines: sentences below the table.
        files: ``results.csv``, ``table.md``, then figures and further tables.
    """

    experiment: Experiment
    path: Path
    rows: tuple[ResultRow, ...]
    legend: str
    lines: tuple[str, ...]
    files: tuple[Path, ...]


def run_experiment(name: str, options: Options | None = None) -> ExperimentResult:
    """Run an experiment; what an earlier run made already is used, so the same command goes on.

    Args:
        name: ``L1`` to ``L13``, ``A1`` to ``A15``.
        options: data, size, seeds and the rest.

    Raises:
        ConfigError: an unknown experiment, an option or word that does not fit.
        DataError: the data cannot be read, or has no truth to measure against.
        WeightsError: a file of weights is missing.
        StageError: the folder holds something else, or another process uses it.
    """
    options = options or Options()
    chosen = experiment(name)
    _check_options(chosen, options)
    out = options.out or Path("runs") / chosen.id
    combined = plan_experiment(chosen, options)
    if combined is not None:
        _check_data(chosen, combined, options.images)
    ran = Ran(chosen, {}, None, (), out, options.command(chosen.id), options.images)
    if rank() == 0 and (combined is None or chosen.axes):
        prepare(out, MARK, "experiment")
        write_json(out / MARK, {"id": chosen.id, "command": ran.command})
    found: list[Found] = []
    if combined is not None and chosen.axes:
        ran = replace(ran, stages=combined.stages, recipe=combined.recipe)
        found.append(run_axes(ran))
    elif combined is not None:
        result = run_loaded(combined.recipe, RunFolder(out), ran.command)
        ran = replace(ran, stages=combined.stages, recipe=combined.recipe, done=result.stages)
        found.append(Found(tuple(_own_rows(ran, result.metrics))))
    if rank():
        return ExperimentResult(chosen, out, (), "", (), ())
    found += [load_step(name)(ran) for name in chosen.steps]
    return _written(ran, found)


def plan_experiment(chosen: Experiment, options: Options) -> Combined | None:
    """The combined recipe of an experiment, checked; None where it needs no run.

    Raises:
        ConfigError: a word that does not fit, or recipes that the experiment has not.
        DataError: with the small size, the data cannot be read.
    """
    places = chosen.places(options.recipes)
    if not places:
        if chosen.places("light") or chosen.places("voc12"):
            raise ConfigError(f"{chosen.id} has no rows with --recipes {options.recipes}; see tag2mask experiment show")
        return None
    words = (f"seeds={list(range(options.seeds))}", *options.words)
    scale = default_data(words, options.recipes == "light")
    if options.size == "small":
        first = next(iter(places.values())).variant
        data = [w for w in words if w.startswith(("data=", "data."))]
        folder = (options.out or Path("runs") / chosen.id).parent
        scale = small(load_recipe(first.recipe, [*scale.data, *data]).data, folder, scale)
    return combine(chosen.id, f"{chosen.paper}, {chosen.item}: {chosen.title}", places, words, scale)


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
    if not (chosen.places("light") or chosen.places("voc12")):
        _check_no_data(chosen, options)
    swept = chosen.axes[0] if len(chosen.axes) == 1 else None
    for word in options.words:
        if swept is not None and word.partition("=")[0] == swept.setting:
            raise ConfigError(
                f"{word}: {chosen.id} sweeps {swept.setting} over {', '.join(swept.values)}, so it has no effect; "
                "leave it out"
            )


def _check_no_data(chosen: Experiment, options: Options) -> None:
    """Refuse what an experiment without a run would silently leave aside."""
    given = [
        *options.words,
        *([f"--seeds {options.seeds}"] if options.seeds != 1 else []),
        *([f"--size {options.size}"] if options.size != "full" else []),
        *([f"--recipes {options.recipes}"] if options.recipes != "light" else []),
    ]
    if given:
        raise ConfigError(f"{given[0]}: {chosen.id} computes a toy from numbers of its own, without data; leave it out")


def _check_data(chosen: Experiment, combined: Combined, images: Sequence[str]) -> None:
    """Open every split that is measured on, and every file of weights, before anything is trained."""
    plan = make_plan(combined.recipe)
    opened: dict[str, Dataset] = {}
    for stage in plan.stages:
        if stage.kind.fingerprint is not None:
            stage.kind.fingerprint(stage.settings)
        if measures(stage) is not Measures.OTHER:
            split = plan.split_of(stage)
            if split is None:
                raise DataError(
                    f"{chosen.id} measures '{stage.name}' on data.val, which the data has not: set data.val"
                )
            opened.setdefault(split, open_split(plan.data_kind, plan.data, split))
    for split, dataset in opened.items():
        if chosen.needs_truth and not dataset.has_truth:
            raise DataError(
                f"{chosen.id} compares with masks drawn by people, but split '{split}' of data={plan.data_kind} has "
                "none; give data with masks, or run it without data=… on generated scenes"
            )
    known = (
        {sample.id for sample in open_split(plan.data_kind, plan.data, plan.data.infer).samples} if images else set()
    )
    for image in images:
        if image not in known:
            near = nearest(image, known)
            hint = f"; did you mean '{near}'?" if near else ""
            raise DataError(f"--image {image}: split '{plan.data.infer}' has no such image{hint}")


def _own_rows(ran: Ran, metrics: Sequence[MetricRow]) -> list[ResultRow]:
    """The numbers of the run under the names of the rows; where a stage is measured twice, the first measure counts."""
    found: dict[tuple[str, str, str, int], ResultRow] = {}
    for row in metrics:
        name = ran.row_of(row.stage)
        if name in ran.stages:
            network = row.method.partition(" (")[2]
            method = f"{name} ({network}" if network else name
            key = (name, row.metric, row.threshold_kind, row.seed)
            found.setdefault(key, replace(row.result(ran.command), method=method))
    return list(found.values())


def _written(ran: Ran, found: Sequence[Found]) -> ExperimentResult:
    rows = tuple(row for one in found for row in one.rows)
    lines = tuple(line for one in found for line in one.lines)
    results = ran.out / RESULTS
    write_results(results, rows)
    figures = tuple(path for one in found for path in one.files)
    write_page(ran, rows, lines, figures)
    return ExperimentResult(
        ran.experiment, ran.out, rows, legend(ran, rows), lines, (results, ran.out / PAGE, *figures)
    )
