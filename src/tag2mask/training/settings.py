"""Settings of a training; no torch."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from tag2mask.config.settings import UNPRINTED, Settings


class ScheduleSettings(Settings):
    """How long and in which steps a network is trained.

    The published ResNet recipes name a momentum of 0.9 that never reached their optimiser: a weight decay of 1e-4 took
    its place. Their learning rates are meant for a momentum of about 0, the default here.
    """

    epochs: int = Field(default=6, ge=1, description="passes over the images")
    batch_size: int = Field(default=16, ge=1, description="images in a step, over all processes")
    accumulate: int = Field(
        default=1, ge=1, description="parts a batch is split into; the number of processes divides it"
    )
    drop_last: bool = Field(default=True, description="leave out an epoch's incomplete batch; else it is filled up")
    optimiser: Literal["sgd", "adamw", "adam"] = Field(default="adamw", description="update rule")
    lr: float = Field(default=2e-4, gt=0, description="learning rate")
    weight_decay: float = Field(default=1e-4, ge=0, description="of every trained parameter")
    momentum: float = Field(default=0.0, ge=0, lt=1, description="of sgd; the published rates are for 0")
    schedule: Literal["poly", "constant"] = Field(
        default="poly", description="poly: rate times (1 - step/steps)^poly_power"
    )
    poly_power: float = Field(default=0.9, gt=0, description="power of the poly schedule")
    precision: Literal["float32", "bfloat16", "float16"] = Field(default="float32", description="of the forward pass")
    min_steps: int | None = Field(
        default=None,
        ge=1,
        description="steps that it takes at least, in as many more epochs as these need: few images are too few steps",
        json_schema_extra=UNPRINTED,
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"batch_size = {self.batch_size} cannot be split into accumulate = {self.accumulate} parts"
            )
        if self.momentum and self.optimiser != "sgd":
            raise ValueError(f"momentum = {self.momentum}: only optimiser = sgd has it, not {self.optimiser}")
        return self

    def batches(self, n: int) -> int:
        """Batches of an epoch over ``n`` images; one at least, which is filled up."""
        return max(1, n // self.batch_size if self.drop_last else -(-n // self.batch_size))

    def for_images(self, n: int) -> Self:
        """The same with as many epochs as ``min_steps`` takes over ``n`` images; unchanged where it has enough."""
        epochs = -(-(self.min_steps or 0) // self.batches(n))
        return self if epochs <= self.epochs else self.model_copy(update={"epochs": epochs})

    def rates(self) -> dict[str, float]:
        """The learning rates by the name of their setting."""
        return {"lr": self.lr}


class HeadScheduleSettings(ScheduleSettings):
    """The schedule of a backbone with a head."""

    lr: float = Field(default=2e-4, gt=0, description="learning rate of the backbone")
    head_lr: float = Field(default=2e-3, gt=0, description="learning rate of the head")

    def rates(self) -> dict[str, float]:
        """The learning rates by the name of their setting."""
        return {"lr": self.lr, "head_lr": self.head_lr}


class StopSettings(Settings):
    """A training that ends by itself: rates stay until images held out are learned no better, then fall to 0."""

    held_out: float = Field(default=0.15, gt=0, le=0.5, description="share of the images held out, 256 at most")
    every: int = Field(default=25, ge=1, description="steps between two checks of their loss, in whole epochs")
    patience: int = Field(default=3, ge=1, description="checks without gain after which the rates fall")
    gain: float = Field(default=0.02, ge=0, lt=1, description="share by which the loss has to fall to be a gain")
    decay: float = Field(default=0.25, gt=0, le=1, description="share of the steps so far that the rates take to fall")
    most_steps: int = Field(default=4000, ge=1, description="steps of the whole training at most")


class TrainSettings(HeadScheduleSettings):
    """The schedule of a backbone with a head, and on which crops the two are trained."""

    stop: StopSettings | None = Field(
        default=None,
        description="end by the loss of images held out, after epochs and min_steps at the earliest: {held_out: 0.15}; "
        "null: after these",
        json_schema_extra=UNPRINTED,
    )
    long_side: tuple[int, int] = Field(default=(240, 480), description="range of the random long side in pixels")
    crop: int = Field(default=288, ge=1, description="side of the square crop in pixels")

    @model_validator(mode="after")
    def _sizes(self) -> Self:
        if not 1 <= self.long_side[0] <= self.long_side[1]:
            raise ValueError(f"long_side = {list(self.long_side)}: expected [smallest, largest], both at least 1")
        return self
