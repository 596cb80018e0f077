"""Settings of every stage that makes maps."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tag2mask.config.settings import Settings

Scale = Annotated[float, Field(gt=0, le=8)]


class PyramidSettings(Settings):
    """Multi-scale and mirror inference."""

    scales: tuple[Scale, ...] = Field((0.5, 1.0, 1.5, 2.0), min_length=1, description="factors on the image's sides")
    mirror: bool = Field(True, description="add the map of the mirrored image")
    precision: Literal["float32", "bfloat16"] = Field("float32", description="of the network's forward pass")


class MapsSettings(PyramidSettings):
    """Maps from features that methods share: scales and mirror are averaged, then divided by the maximum."""
