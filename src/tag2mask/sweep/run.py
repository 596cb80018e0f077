"""Runs a recipe at every point of a grid: points share stages, a failing one is reported and does not stop the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import astuple, replace
from pathlib import Path

from tag2mask.api import run_loaded
from tag2mask.config.recipe import Recipe, load_recipe, reduced
from tag2mask.core.errors import ConfigError, StageError, Tag2MaskError, command, unknown
from tag2mask.core.files import cannot_write, write_json, write_text
from tag2mask.core.links import ENDING, is_link, store_beside
from tag2mask.core.locks import exclusive
from tag2mask.core.processes.ranks import rank
from tag2mask.core.progress import LOG
from tag2mask.evaluation.result_tables import COLUMNS, csv_text
from tag2mask.methods.stage_kinds import MetricStage
from tag2mask.pipeline.plan import Plan, make_plan, measured_by
from tag2mask.pipeline.run_folder import RunFolder
from tag2mask.pipeline.store import Store, point
from tag2mask.pipeline.store_usage import register
from tag2mask.sweep.figure import draw_sweep
from tag2mask.sweep.grid import check_grid, grid_points, point_name, point_words
from tag2mask.sweep.result import SweepPoint, SweepResult, series_of

TABLE, FIGURE = "sweep.csv", "sweep.svg"
MARK = "sweep.json"
"""File that marks the folder of a sweep."""


def sweep(
    recipe: str,
    grid: Mapping[str, Sequence[str]],
    *,
    overrides: Sequence[str] = (),
    out: Path | None = None,
    only: Sequence[str] = (),
    metric: str = "miou",
) -> SweepResult:
    """Run a recipe at every point of a grid, reusing finished stages of earlier runs and points.

    All points are checked before the first one runs. A failing point is reported and does not stop the rest.

    Args:
        recipe: a name that ``tag2mask ls`` shows, or a path that ends in .yaml.
        grid: setting -> its values as YAML, such as ``{"prototypes.tau": ["0.05", "0.1"]}``.
        overrides: ``key=value`` for all points.
        out: folder of the sweep, which uses the store beside it; None for ``runs/sweep-<name of the recipe>``.
        only: stages to make, with all that they read; empty for every stage of the recipe.
        metric: to plot and rank.
    """
    check_grid(grid, overrides)
    keys = tuple(grid)
    words = [[*overrides, *point_words(keys, values)] for values in grid_points(grid)]
    recipes = [_checked(recipe, point, only) for point in words]
    out = out or Path("runs") / f"sweep-{recipes[0].name}"
    mark = {"recipe": recipe, "overrides": list(overrides), "grid": {k: list(v) for k, v in grid.items()}}
    with ExitStack() as held:
        if rank() == 0:
            prepare(out, MARK, "sweep")
            held.enter_context(exclusive(out / "lock", f"the sweep {out}"))
            write_json(out / MARK, {**mark, "only": list(only)})
            share_store(out)
        points = []
        for number, (values, point, loaded) in enumerate(zip(grid_points(grid), words, recipes, strict=True), start=1):
            LOG.info("point %d of %d: %s", number, len(words), " ".join(point_words(keys, values)))
            begun = SweepPoint(values, out / point_name(keys, values), _command(recipe, point, only))
            points.append(_run(begun, loaded))
        result = SweepResult(out, keys, metric, tuple(points), ())
        return write_sweep(result, recipes[0].name) if rank() == 0 else result


def prepare(out: Path, mark: str, what: str) -> None:
    """Make the folder of several runs, marked by a file, or accept one begun before; for sweeps and experiments."""
    if out.is_file():
        raise StageError(f"--out {out} is a file; name a new folder for the {what}")
    names = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if names - {"lock", ".store", f".store{ENDING}"} and mark not in names:
        raise StageError(
            f"--out {out} is not empty and holds no {what} (it has no {mark}); nothing was changed. Name a new folder"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(out, error) from error


def share_store(out: Path) -> None:
    """Let the runs in a folder use the store beside the folder, as runs beside it do."""
    store, link = store_beside(out), out / ".store"
    Store(store).prepare()
    if link.exists() and not is_link(link):
        raise StageError(
            f"{link} is a store of its own, where a link to {store} belongs; name another folder with --out"
        )
    point(link, store)
    register(store, out)


def _checked(recipe: str, words: Sequence[str], only: Sequence[str]) -> Recipe:
    """The recipe of one point with the wanted stages, at least one of which measures something."""
    loaded = load_recipe(recipe, words)
    plan = make_plan(loaded)
    if not only:
        return loaded
    part = reduced(loaded, only)
    if not any(isinstance(stage.kind, MetricStage) for stage in make_plan(part).stages):
        raise ConfigError(_nothing_measured(plan, only))
    return part


def _nothing_measured(plan: Plan, only: Sequence[str]) -> str:
    """Error text: which stages measure what was named, or what there is."""
    measuring = [stage for stage in plan.stages if isinstance(stage.kind, MetricStage)]
    names = {stage.base_name: plan.stage(measured_by(stage)).base_name for stage in measuring}
    wanted = [name for name, measured in names.items() if measured in only]
    if not wanted:
        return unknown("measuring stage", only[0], names)
    return f"stage '{only[0]}' is made, but nothing measures it; name what does: --stage {' --stage '.join(wanted)}"


def _command(recipe: str, words: Sequence[str], only: Sequence[str]) -> str:
    return command("run", recipe, *words, *(word for name in only for word in ("--only", name)))


def _run(point: SweepPoint, recipe: Recipe) -> SweepPoint:
    """Run one point; a failure becomes its error."""
    try:
        return replace(point, metrics=run_loaded(recipe, RunFolder(point.path), point.command).metrics)
    except (Tag2MaskError, RuntimeError, MemoryError) as error:  # torch's lack of memory is a RuntimeError
        LOG.error("%s: %s", point.path.name, error)
        return replace(point, error=str(error) or type(error).__name__)


def write_sweep(result: SweepResult, name: str) -> SweepResult:
    """Write table and figure into the folder of a sweep; gives the result with these files."""
    table, figure = result.path / TABLE, result.path / FIGURE
    rows = [(point, row) for point in result.points for row in point.metrics]
    numbers = ((point.values, astuple(row.result(point.command))) for point, row in rows)
    cells = ([*values, *("" if cell is None else cell for cell in row)] for values, row in numbers)
    write_text(table, csv_text([[*result.keys, *COLUMNS], *cells]))
    every, measured = series_of(result), sorted({row.metric for _, row in rows})
    if not every and result.metric in measured:
        raise ConfigError(
            f"metric = {result.metric} is undefined at every point, as means are where the ground truth shows no "
            f"class. All numbers are in {table}"
        )
    if not every and measured:
        raise ConfigError(f"{unknown('metric', result.metric, measured)}. All numbers are in {table}")
    if not every or len(result.keys) > 2:
        return replace(result, files=(table,))
    draw_sweep(result, every, name, figure)
    return replace(result, files=(table, figure))
