"""Settings of AMN's network, of its maps, and of its features as a classifier's; no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from tag2mask.backbones.settings import RESNET50_IRN, BackboneSettings
from tag2mask.config.settings import UNPRINTED, Settings
from tag2mask.inference.settings import PyramidSettings
from tag2mask.training.settings import HeadScheduleSettings

LAST = 4
"""The stage whose conditioning is that of the paper: the network's last features."""
STRIDE = 16
"""Of the features, as published; null is the network's own."""
Stage = Annotated[int, Field(ge=1, le=LAST)]
Normalise = Literal["background-prior", "minmax", "learned"]


class AmnTrainSettings(HeadScheduleSettings):
    """The schedule of backbone, label code and head. Defaults are the published."""

    epochs: int = Field(default=5, ge=1, description="passes over the images")
    accumulate: int = Field(
        default=4,
        ge=1,
        description="parts a batch is computed in, to save memory; the loss stays that of the whole batch; the number "
        "of processes divides it",
    )
    optimiser: Literal["sgd", "adamw", "adam"] = Field(default="adam", description="update rule")
    lr: float = Field(default=5e-6, gt=0, description="learning rate of the backbone")
    head_lr: float = Field(default=1e-4, gt=0, description="learning rate of label code and head")
    weight_decay: float = Field(default=1e-4, ge=0, description="with adam: added to the gradient (L2), as published")
    schedule: Literal["poly", "constant"] = Field(
        default="constant", description="poly: rate times (1 - step/steps)^poly_power"
    )
    rescale: tuple[float, float] = Field(default=(0.5, 1.5), description="range of the random factor on both sides")
    crop: int = Field(default=512, ge=1, description="side of the square crop in pixels")

    @model_validator(mode="after")
    def _range(self) -> Self:
        if not 0 < self.rescale[0] <= self.rescale[1]:
            raise ValueError(f"rescale = {list(self.rescale)}: expected [smallest, largest], both above 0")
        return self


class AmnSettings(Settings):
    """AMN: its network, its training on refined seeds, or a finished one from a file."""

    backbone: BackboneSettings = Field(
        default=BackboneSettings(stride=STRIDE),
        description="network below the head; with resnet50_irn detach_after null trains all stages, as published",
    )
    train: AmnTrainSettings = Field(default=AmnTrainSettings(), description="schedule, rates and crops")
    condition: tuple[Stage, ...] = Field(
        default=(LAST,),
        description="eq. 2: stages of the backbone (1 to 4) whose features the label code multiplies; [] for none",
    )
    dropout: float = Field(default=0.1, ge=0, lt=1, description="share of features set to 0 before the head")
    smoothing: float = Field(default=0.4, ge=0, lt=1, description="of the target, shared by the other classes")
    smoothing_classes: int | None = Field(
        default=None,
        ge=1,
        description="number of classes that smoothing is meant for: with fewer it is less, so that the label's share "
        "stays as many times another's; null: smoothing as it is",
        json_schema_extra=UNPRINTED,
    )
    balanced: bool = Field(default=True, description="background and foreground pixels weigh the same in sum")
    class_weight: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="a pixel of a class weighs (background pixels / its own)^class_weight in the images with it: 1 "
        "each class in sum as much as background, 0 all pixels alike; null: as balanced says",
        json_schema_extra=UNPRINTED,
    )
    absent: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of the images shown under the label code of one more class, which they lack",
        json_schema_extra=UNPRINTED,
    )
    negatives: Literal["keep", "drop"] = Field(
        default="keep", description="images with an empty tag cell: background everywhere"
    )
    split: str | None = Field(default=None, description="a split of the data; null: the one that trains")
    checkpoint: Path | None = Field(
        default=None, description="AMN's res50_amn.pth: taken as it is instead of a training (resnet50_irn only)"
    )

    def smoothed(self, n_classes: int) -> float:
        """The smoothing for a number of classes: the share of the target that the label's others have together.

        With fewer classes than ``smoothing_classes``, N, it is such that the label's share over each other's stays
        ``(1 - e) N / e``: 30 for e = 0.4 and N = 20, where one class would have 1.5 and no probability below 0.4.
        """
        if self.smoothing_classes is None or n_classes >= self.smoothing_classes:
            return self.smoothing
        others = self.smoothing * n_classes
        return others / (others + (1 - self.smoothing) * self.smoothing_classes)

    @field_validator("backbone", mode="before")
    @classmethod
    def _stride(cls, given: object) -> object:
        """A backbone whose stride is not named has AMN's, unless its levels are joined at a stride of their own."""
        if not isinstance(given, Mapping):
            return given
        return {"stride": STRIDE if given.get("levels") is None else None, **given}

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if list(self.condition) != sorted(set(self.condition)):
            raise ValueError(f"condition = {list(self.condition)}: expected stages in ascending order, each once")
        detached = self.backbone.detach_after or 0
        if self.condition and self.condition[0] < LAST and self.condition[0] <= detached:
            raise ValueError(
                f"condition = {list(self.condition)}, but backbone.detach_after = {detached} lets no gradient reach "
                f"stage {self.condition[0]}: set backbone.detach_after={self.condition[0] - 1}, or condition later"
            )
        if self.checkpoint is not None and (self.backbone.name != RESNET50_IRN or self.condition != (LAST,)):
            raise ValueError(
                f"checkpoint = {self.checkpoint} is of the network {RESNET50_IRN} conditioned at stage {LAST}, but "
                f"backbone.name = {self.backbone.name} and condition = {list(self.condition)}: set "
                f"backbone.name={RESNET50_IRN} condition=[{LAST}], or leave checkpoint out"
            )
        return self


class AmnMapsSettings(PyramidSettings):
    """AMN's maps: logits averaged over scales and mirror, and what becomes of them."""

    normalise: Normalise = Field(
        default="learned",
        description="learned: probability against the background, so that a threshold of 0.5 is the arg max; minmax: "
        "each class's softmax from its least value to its largest; background-prior: the same, but pixels that are "
        "background in the refined seeds (reads.seeds) keep the softmax, as published",
    )


class AmnFeaturesSettings(Settings):
    """AMN's features under a linear classifier made of its head; nothing to choose."""
