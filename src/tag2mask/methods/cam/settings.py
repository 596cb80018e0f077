"""Settings of the classifier that CAM and LPCAM read; no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tag2mask.backbones.settings import BackboneSettings
from tag2mask.config.settings import Settings
from tag2mask.training.settings import TrainSettings


class ClassifierSettings(Settings):
    """A classifier on tags: its network, its training, and whether images without tags take part."""

    backbone: BackboneSettings = Field(default=BackboneSettings(), description="network below the head")
    train: TrainSettings = Field(default=TrainSettings(), description="schedule, rates and crops")
    negatives: Literal["keep", "drop"] = Field(
        default="keep", description="images with an empty tag cell: none of the classes"
    )
