"""Dropping a prototype of a run by hand, which the run's recipe then records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tag2mask.analysis.prototype_gallery import readers_of, stage_of_prototypes
from tag2mask.api import run_loaded
from tag2mask.core.errors import ConfigError, unknown
from tag2mask.pipeline.evaluate_run import finished, open_split
from tag2mask.pipeline.keys import keys_of
from tag2mask.pipeline.plan import make_plan
from tag2mask.pipeline.run_folder import RunFolder
from tag2mask.pipeline.run_result import RunResult


def drop_prototype(run: Path, cls: str, prototype: str, stage: str | None = None) -> RunResult:
    """Drop a prototype by hand: record it in the run's recipe and make again what depends on it.

    Args:
        run: the run folder.
        cls: name of the class.
        prototype: side and number, such as ``foreground:3``.
        stage: name of the prototypes stage; needed where the run has several.

    Raises:
        ConfigError: there is no such class or prototype; nothing is changed.
    """
    from tag2mask.methods.lpcam.kinds import parse_drop
    from tag2mask.methods.lpcam.select import drop_by_hand
    from tag2mask.methods.lpcam.stage import PROTOTYPES
    from tag2mask.methods.lpcam.store import load_prototypes

    folder = RunFolder.existing(run)
    recipe = folder.recipe()
    plan = make_plan(recipe)
    planned = stage_of_prototypes(plan, stage, run)
    classes = open_split(plan, plan.data.infer).classes
    if cls not in classes:
        raise ConfigError(unknown("class", cls, classes))
    try:
        _, side, number = parse_drop(f"{cls} {prototype}")
    except ValueError as error:
        raise ConfigError(str(error)) from error
    artefact = finished(folder, plan, planned, keys_of(folder.store.root))
    drop_by_hand(load_prototypes(artefact.path / PROTOTYPES), classes.index(cls), side, number, cls)
    stages: dict[str, dict[str, Any]] = {name: dict(spec) for name, spec in recipe.stages.items()}
    for reader_stage in readers_of(plan, planned):
        name = reader_stage.name.partition("@")[0]
        stages[name]["drop"] = [*dict.fromkeys([*stages[name].get("drop", []), f"{cls} {prototype}"])]
    changed = recipe.model_copy(update={"stages": stages})
    return run_loaded(changed, folder, folder.command)
