"""Settings of the boundary network and of the random walk that it steers; no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from tag2mask.backbones.settings import RESNET50_IRN, BackboneSettings
from tag2mask.config.settings import ADDED, UNPRINTED, Settings
from tag2mask.training.settings import ScheduleSettings

STRIDE = 4
"""Pixels per cell of the grid on which boundaries, pairs and maps lie."""
Pad = Literal["cells", 512, "none"]
"""Up to which size an image is filled with the mean colour; group norm averages over it too."""


class IrnTrainSettings(ScheduleSettings):
    """The schedule of the boundary branch; the backbone below it stays as it is. Defaults are the published."""

    epochs: int = Field(default=3, ge=1, description="passes over the images")
    batch_size: int = Field(default=32, ge=1, description="images in a step, over all processes")
    accumulate: int = Field(
        default=4,
        ge=1,
        description="parts a batch is computed in, to save memory; the loss stays that of the whole batch; the number "
        "of processes divides it",
    )
    optimiser: Literal["sgd", "adamw", "adam"] = Field(default="sgd", description="update rule")
    lr: float = Field(default=0.1, gt=0, description="learning rate of the boundary branch")
    rescale: tuple[float, float] = Field(default=(0.5, 1.5), description="range of the random factor on both sides")
    crop: int = Field(default=512, ge=1, description="side of the square crop in pixels, a multiple of 4")

    @model_validator(mode="after")
    def _sizes(self) -> Self:
        if not 0 < self.rescale[0] <= self.rescale[1]:
            raise ValueError(f"rescale = {list(self.rescale)}: expected [smallest, largest], both above 0")
        if self.crop % STRIDE:
            raise ValueError(f"crop = {self.crop}: expected a multiple of {STRIDE}, the pixels per cell of the grid")
        return self


class IrnSettings(Settings):
    """A boundary network: its frozen backbone, its training on refined seeds, or a finished one from a file."""

    backbone: BackboneSettings = Field(
        default=BackboneSettings(), description="network below the branch, with ImageNet weights; it is not trained"
    )
    train: IrnTrainSettings = Field(default=IrnTrainSettings(), description="schedule, rate and crops")
    radius: int = Field(default=10, ge=2, description="pairs of cells nearer than this are learned from")
    split: str | None = Field(default=None, description="a split of the data; null: the one that trains")
    checkpoint: Path | None = Field(
        default=None, description="IRN's res50_irn.pth: taken as it is instead of a training (resnet50_irn only)"
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        needed = STRIDE * (2 * self.radius - 1)
        if self.train.crop < needed:
            raise ValueError(
                f"train.crop = {self.train.crop} has no room for pairs of radius = {self.radius}: expected a crop of "
                f"at least {needed}, or a smaller radius"
            )
        if self.checkpoint is not None and self.backbone.name != RESNET50_IRN:
            raise ValueError(
                f"checkpoint = {self.checkpoint} is of the network {RESNET50_IRN}, but backbone.name = "
                f"{self.backbone.name}: set backbone.name={RESNET50_IRN}, or leave checkpoint out"
            )
        return self


class WalkSettings(Settings):
    """The random walk of maps along the boundaries; defaults are the published."""

    radius: int = Field(default=5, ge=2, description="cells nearer than this are neighbours")
    beta: float = Field(default=10, gt=0, description="power of the affinity between neighbours")
    log2_steps: int = Field(default=8, ge=0, le=20, description="the walk has 2^this steps")
    power: float = Field(default=1.0, gt=0, description="power of the maps before the walk")
    mirror: bool = Field(default=True, description="average the boundary logits of the image and its mirror image")
    pad: Pad = Field(
        default="cells",
        description="what the boundary network's input is filled up to: cells, whole ones; 512, both sides, as IRN "
        "does (larger images: cells); none. Nothing is cut",
        json_schema_extra=ADDED,
    )
    agreement: float = Field(
        default=0.8,
        ge=0,
        le=1,
        description="with refined seeds in the role seeds: a class's map walks only where its IoU with their confident "
        "pixels, each map cut where it is best, stays at least this share of what it was; elsewhere the map stays",
        json_schema_extra=UNPRINTED,
    )

    @field_validator("pad", mode="before")
    @classmethod
    def _number(cls, given: object) -> object:
        """Quotes around the number change nothing."""
        return 512 if given == "512" else given
