"""What can be known to be wrong with a run before anything of it is made."""

from __future__ import annotations

from tag2mask.core import ledger
from tag2mask.core.errors import ConfigError, WeightsError
from tag2mask.pipeline.plan import Plan


def preflight(plan: Plan) -> None:
    """Look over every stage: supervision that the recipe does not allow, missing weight files, names nobody knows.

    Raises:
        LedgerError: a stage would train on something that the recipe does not allow.
        ConfigError: settings that cannot be had; the stage is named.
        WeightsError: weights that are not there; the stage is named.
    """
    seen: dict[str, frozenset[str]] = {}
    for stage in plan.stages:
        seen[stage.name] = stage.kind.adds(stage.settings).union(*(seen[source] for source in stage.reads.values()))
        if stage.kind.makes in {"weights", "prototypes"}:
            ledger.check(seen[stage.name], plan.recipe.allow_supervision, stage.name)
        try:
            stage.kind.look_over(stage.settings, stage.reads)
        except (ConfigError, WeightsError) as error:
            text = str(error)
            named = text if text.startswith("stage ") else f"stage '{stage.name}': {text}"
            raise type(error)(named) from error
