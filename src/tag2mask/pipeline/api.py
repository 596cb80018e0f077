"""Running a recipe: what the command line and ``tag2mask.run`` both call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tag2mask.config.recipe import Recipe, load_recipe, reduced
from tag2mask.core import commands
from tag2mask.core.ranks import rank
from tag2mask.evaluation.rows import MetricRow, read_metrics, write_metrics
from tag2mask.pipeline.measured import network_of
from tag2mask.pipeline.measures import METRICS
from tag2mask.pipeline.plan import make_plan, measured_by
from tag2mask.pipeline.run import run_plan
from tag2mask.pipeline.runfolder import RunFolder
from tag2mask.pipeline.session import Done

REPORT = "report.html"


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run has made.

    Attributes:
        path: the run folder.
        metrics: every number measured.
        stages: the finished stages in order.
        reported: whether the page was written: there is none where neither seeds nor masks were measured.
    """

    path: Path
    metrics: tuple[MetricRow, ...]
    stages: tuple[Done, ...]
    reported: bool = False

    @property
    def report(self) -> Path:
        """The page to open, where it was written."""
        return self.path / REPORT


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
        only: stages to make, with all that they read; every stage of the recipe where empty.
        command: how the report says this run is made again.

    Raises:
        Tag2MaskError: anything a user can mend; what was made so far stays.

    Example:
        >>> import tag2mask
        >>> result = tag2mask.run("demo", "data.images=24", out="runs/small")  # doctest: +SKIP
    """
    loaded = load_recipe(recipe, overrides)
    folder = RunFolder(Path(out) if out is not None else Path("runs") / loaded.name)
    part = [word for name in only for word in ("--only", name)]
    words = command or commands.command("run", recipe, *overrides, "--out", folder.path, *part)
    return run_loaded(reduced(loaded, only) if only else loaded, folder, words)


def run_loaded(recipe: Recipe, folder: RunFolder, command: str) -> RunResult:
    """Run a recipe that is in memory; see `run`."""
    plan = make_plan(_absolute(recipe))
    done = run_plan(plan, folder)
    result = RunResult(folder.path, tuple(collect_metrics(done)), tuple(done))
    if rank() == 0:
        write_metrics(folder.path / METRICS, result.metrics)
        from tag2mask.pipeline.page import write_page

        return replace(result, reported=write_page(plan, result, command))
    return result


def _absolute(recipe: Recipe) -> Recipe:
    """The recipe with an absolute data root, so that later commands find the data from any folder."""
    root = recipe.data.get("root")
    if not isinstance(root, str):
        return recipe
    return recipe.model_copy(update={"data": {**recipe.data, "root": str(Path(root).expanduser().absolute())}})


def collect_metrics(done: Sequence[Done]) -> list[MetricRow]:
    """The rows of every measuring stage, under the names and seeds of this run; networks with their first weights."""
    by_name = {d.stage.name: d.artefact for d in done}
    rows: list[MetricRow] = []
    for finished in done:
        if finished.stage.kind.makes != "metrics":
            continue
        measured = measured_by(finished.stage)
        network = network_of(by_name[measured])
        method = measured.partition("@")[0] + (f" ({network})" if network else "")
        seed = finished.stage.seed
        found = read_metrics(finished.artefact.path / METRICS)
        rows.extend(replace(row, stage=measured, method=method, seed=seed) for row in found)
    return rows
