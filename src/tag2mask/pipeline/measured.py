"""What the stages of a run measure, in the order of the recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tag2mask.evaluation.thresholds import Threshold
from tag2mask.methods.artefact import Artefact
from tag2mask.pipeline.measures import MasksSettings, SeedsSettings
from tag2mask.pipeline.plan import measured_by
from tag2mask.pipeline.session import Done
from tag2mask.segmentation.settings import SegmenterSettings
from tag2mask.thresholds.threshold_of import threshold_of


@dataclass(frozen=True, slots=True)
class Measured:
    """Seeds or masks, and the stage that measures them.

    Attributes:
        maker: the stage that made the maps or masks.
        measuring: the stage that measures them.
        threshold: first one that they are measured at.
    """

    maker: Done
    measuring: Done
    threshold: Threshold

    @property
    def name(self) -> str:
        """Name of what is measured."""
        return self.maker.stage.name

    @property
    def unsure(self) -> bool:
        """Whether these are refined seeds, which have no mIoU."""
        settings = self.measuring.stage.settings
        return isinstance(settings, MasksSettings) and settings.unsure


def network_of(artefact: Artefact) -> str:
    """The network behind predictions and its first weights, in words; empty for what no such network made."""
    source = artefact.reads.get("segmenter")
    if source is None or not isinstance(source.settings, SegmenterSettings):
        return ""
    network = source.settings.network
    taught = ", trained on the truth" if source.settings.truth else ""
    return f"{network.kind} on {network.encoder}, first weights {network.initial}{taught}"


def measured(stages: Sequence[Done]) -> list[Measured]:
    """What the stages of kind ``seeds`` and ``masks`` measure."""
    by_name = {d.stage.name: d for d in stages}
    found = []
    for done in stages:
        if isinstance(done.stage.settings, SeedsSettings | MasksSettings):
            maker = by_name[measured_by(done.stage)]
            seeds = isinstance(done.stage.settings, SeedsSettings)
            found.append(Measured(maker, done, threshold_of(done.artefact if seeds else maker.artefact)))
    return found
