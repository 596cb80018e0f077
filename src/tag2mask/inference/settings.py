"""Settings of every stage that makes maps."""

from __future__ import annotations

from typing import Annotated, Literal, Protocol

from pydantic import Field

from tag2mask.config.settings import ADDED, UNPRINTED, Settings
from tag2mask.evaluation.thresholds import ScoreForm

Scale = Annotated[float, Field(gt=0, le=8)]
Grid = Literal["stretched", "aligned"]
ScoreChoice = Annotated[
    ScoreForm,
    Field(
        description="which form of the maps is read: normalised, each divided by its maximum, or raw (their stage "
        "needs raw: true)",
        json_schema_extra=UNPRINTED,
    ),
]
"""Type of the setting ``scores`` of a stage that cuts maps."""


class _Scored(Protocol):
    @property
    def scores(self) -> ScoreForm: ...


def reads_raw(settings: _Scored) -> bool:
    """Whether a stage with such a setting reads raw scores."""
    return settings.scores == "raw"


class PyramidSettings(Settings):
    """Multi-scale and mirror inference."""

    scales: tuple[Scale, ...] = Field(
        default=(0.5, 1.0, 1.5, 2.0), min_length=1, description="factors on the image's sides"
    )
    mirror: bool = Field(default=True, description="add the map of the mirrored image")
    precision: Literal["float32", "bfloat16"] = Field(default="float32", description="of the network's forward pass")


class MapsSettings(PyramidSettings):
    """Maps from features that methods share: scales and mirror are averaged, then divided by the maximum."""

    grid: Grid = Field(
        default="stretched",
        description="how feature cells lie on the image: stretched over it, or aligned, each as many pixels as the "
        "network's stride, the last ones reaching beyond the image, as published",
        json_schema_extra=ADDED,
    )
    raw: bool = Field(
        default=False,
        description="keep raw scores beside the maps, on one scale for all images, and of absent classes a histogram",
        json_schema_extra=UNPRINTED,
    )
    relative_to: Literal["image", "training"] = Field(
        default="image",
        description="what scales are factors on: the image's sides, or those at which the classifier was trained, the "
        "middle of its train.long_side; and the size at which prototypes are collected",
        json_schema_extra=UNPRINTED,
    )

    def base(self, size: tuple[int, int], side: int | None) -> tuple[int, int]:
        """(height, width) at scale 1 of an image of ``size``.

        Args:
            size: (height, width).
            side: longest side of whole images in the classifier's training; None where they kept their sizes.
        """
        if self.relative_to == "image" or side is None:
            return size
        factor = side / max(size)
        return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))

    def part(self, size: tuple[int, int], stride: int) -> tuple[float, float]:
        """The shares of the rows and columns of a feature grid that an image of ``size`` (its `base`) fills.

        Where aligned, the grid of every scale lies on ceil(side / stride) stride pixels of the image, as published.
        """
        if self.grid == "stretched":
            return 1.0, 1.0
        height, width = (side / (-(-side // stride) * stride) for side in size)
        return height, width
