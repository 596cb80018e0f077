"""The threshold behind a stage's output, and its kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from tag2mask.evaluation.thresholds import Threshold
from tag2mask.methods.artefact import Artefact
from tag2mask.methods.stage_kinds import StageKind

ROLE = "threshold"
"""Role in which a stage may read a threshold of kind ``few-masks`` or ``rule``."""


class Cutting(Protocol):
    """A stage that runs, or what one has made."""

    @property
    def kind(self) -> StageKind[Any] | None:
        """Of the stage."""

    @property
    def settings(self) -> Any:
        """Of the stage."""

    @property
    def reads(self) -> Mapping[str, Artefact]:
        """Artefacts by role."""


def threshold_of(stage: Cutting) -> Threshold:
    """The threshold that a stage cuts at: the one it reads, else its settings'; of kind ``none`` where it has none.

    Refined seeds have two thresholds; theirs is the middle of them.
    """
    chosen = stage.reads.get(ROLE)
    if chosen is not None:
        return chosen.threshold().as_threshold()
    if stage.kind is None or stage.kind.threshold is None:
        return Threshold(None, "none")
    return stage.kind.threshold(stage.settings)
