"""The threshold behind a stage's output: its kind, and the background rule that maps are cut by at it."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from pydantic import BeforeValidator, SerializeAsAny

from tag2mask.core.errors import ConfigError
from tag2mask.evaluation.background import Background, background_rule, rule_on
from tag2mask.evaluation.thresholds import Threshold
from tag2mask.methods.artefact import Artefact
from tag2mask.methods.context import StageContext

ROLE = "threshold"
"""Role in which a stage may read a threshold of kind ``few-masks`` or ``rule``."""


def _validated(given: Any) -> Background:
    try:
        return background_rule(given)
    except ConfigError as error:
        raise ValueError(str(error)) from error


BackgroundRule = Annotated[SerializeAsAny[Background], BeforeValidator(_validated)]
"""Type of a setting that names a background rule: ``{kind: …}`` with its settings, or a kind alone."""


def threshold_of(stage: StageContext[Any] | Artefact) -> Threshold:
    """The threshold that a stage cuts at: the one it reads, else its settings'; of kind ``none`` where it has none.

    Refined seeds have two thresholds; theirs is the middle of them.
    """
    chosen, own = stage.reads.get(ROLE), Threshold(None, "none")
    if stage.kind is not None and stage.kind.threshold is not None:
        own = stage.kind.threshold(stage.settings)
    if chosen is not None:
        own = replace(chosen.threshold().as_threshold(), background=own.background, scores=own.scores)
    return replace(own, background=rule_on(stage.background, own.background))
