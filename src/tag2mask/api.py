"""Running a recipe: what the command line and ``tag2mask.run`` both call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tag2mask.analysis.prototype_gallery import readers_of, stage_of_prototypes
from tag2mask.config.recipe import Recipe, load_recipe, reduced
from tag2mask.core import errors
from tag2mask.core.errors import ConfigError, unknown
from tag2mask.core.processes.ranks import rank
from tag2mask.evaluation.result_tables import METRICS, write_metrics
from tag2mask.pipeline.execute import run_plan
from tag2mask.pipeline.opened_run import OpenedRun, as_run
from tag2mask.pipeline.plan import make_plan
from tag2mask.pipeline.run_folder import RunFolder
from tag2mask.pipeline.run_result import RunResult, collect_metrics


def run(
    recipe: str,
    *overrides: str,
    out: str | Path | None = None,
    only: Sequence[str] = (),
    command: str | None = None,
) -> RunResult:
    """Run a recipe; what an earlier run made already is used.

    Args:
        recipe: a name that ``tag2mask ls`` shows, or a path that ends in .yaml.
        *overrides: ``key.key=value``, such as ``data.root=photos`` or ``cam.scales=[1.0]``.
        out: the run folder; ``runs/<name of the recipe>`` where left out. The store lies beside it.
        only: stages to make, with all that they read; none means every stage of the recipe.
        command: the command that the report names to rerun this.

    Raises:
        Tag2MaskError: anything a user can fix; what was made so far stays.

    Example:
        >>> import tag2mask
        >>> result = tag2mask.run("demo", "data.images=24", out="runs/small")  # doctest: +SKIP
    """
    loaded = load_recipe(recipe, overrides)
    folder = RunFolder(Path(out) if out is not None else Path("runs") / loaded.name)
    part = [word for name in only for word in ("--only", name)]
    words = command or errors.command("run", recipe, *overrides, "--out", folder.path, *part)
    return run_loaded(reduced(loaded, only) if only else loaded, folder, words)


def run_loaded(recipe: Recipe, folder: RunFolder, command: str) -> RunResult:
    """Run a recipe that is in memory; see `run`."""
    plan = make_plan(_absolute(recipe))
    done = run_plan(plan, folder)
    result = RunResult(folder.path, tuple(collect_metrics(done)), tuple(done))
    if rank() == 0:
        write_metrics(folder.path / METRICS, result.metrics)
        from tag2mask.run_report.build import write_page

        return replace(result, reported=write_page(OpenedRun(folder.path), command))
    return result


def _absolute(recipe: Recipe) -> Recipe:
    """The recipe with absolute paths of its data, so that later commands find them from any folder."""
    data, root = dict(recipe.data), recipe.data.get("root")
    if isinstance(root, str):
        data["root"] = root = _full(root)
    if isinstance(given := data.get("sidecars"), dict):
        inside = {role for role, path in given.items() if root and (Path(root) / str(path)).is_dir()}
        data["sidecars"] = {role: path if role in inside else _full(str(path)) for role, path in given.items()}
    return recipe.model_copy(update={"data": data})


def _full(path: str) -> str:
    return str(Path(path).expanduser().absolute())


def drop_prototype(run: OpenedRun | str | Path, cls: str, prototype: str, stage: str | None = None) -> RunResult:
    """Drop a prototype by hand: record it in the run's recipe and rerun what depends on it.

    Args:
        run: the run, or its folder.
        cls: name of the class.
        prototype: side and number, such as ``foreground:3``.
        stage: name of the prototypes stage; needed where the run has several.

    Raises:
        ConfigError: there is no such class or prototype, or nothing is made from it; nothing is changed.
    """
    from tag2mask.methods.lpcam.kinds import parse_drop
    from tag2mask.methods.lpcam.prototypes import drop_by_hand
    from tag2mask.methods.lpcam.prototypes_file import load_prototypes
    from tag2mask.methods.lpcam.stage import PROTOTYPES

    run = as_run(run)
    planned = stage_of_prototypes(run, stage)
    classes = run.split(run.plan.data.infer).classes
    if cls not in classes:
        raise ConfigError(unknown("class", cls, classes))
    try:
        _, side, number = parse_drop(f"{cls} {prototype}")
    except ValueError as error:
        raise ConfigError(str(error)) from error
    prototypes = load_prototypes(run.artefact(planned.name).path / PROTOTYPES)
    drop_by_hand(prototypes, classes.index(cls), side, number, cls)
    readers = readers_of(run, planned)
    if not readers:
        raise ConfigError(
            f"no stage of {run.path} makes maps from '{planned.name}', so nothing depends on its prototypes: name one "
            "that maps are made from, with --stage"
        )
    recipe = run.plan.recipe
    stages: dict[str, dict[str, Any]] = {name: dict(spec) for name, spec in recipe.stages.items()}
    for reader_stage in readers:
        name = reader_stage.base_name
        stages[name]["drop"] = [*dict.fromkeys([*stages[name].get("drop", []), f"{cls} {prototype}"])]
    return run_loaded(recipe.model_copy(update={"stages": stages}), run.folder, run.command)
