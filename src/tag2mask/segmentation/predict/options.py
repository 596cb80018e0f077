"""What decides the labels of a photo beside the network: one schema for recipes, `tag2mask predict` and Python."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self, TypedDict

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from tag2mask.config.settings import Settings
from tag2mask.core.errors import ConfigError
from tag2mask.refine.crf.presets import PresetName

ALIGN = 32
"""Tiles begin at multiples of this, so that the grids of networks of a stride up to it lie as in the whole photo."""
_LARGEST_SCALE = 8
Precision = Literal["float32", "bfloat16"]


_SIDES = "expected [long side, short side] in pixels, both at least 1, such as [2048, 512]"


def _two(given: Any) -> Any:
    if not isinstance(given, list | tuple) or len(given) != len(("long", "short")):
        raise ValueError(_SIDES)
    return given


def _long_first(sides: tuple[int, int]) -> tuple[int, int]:
    if not sides[0] >= sides[1] >= 1:
        raise ValueError(_SIDES)
    return sides


Fit = Annotated[tuple[int, int], BeforeValidator(_two), AfterValidator(_long_first)]
"""Long and short side in pixels."""


@dataclass(frozen=True, slots=True)
class Tiling:
    """How a photo is cut."""

    tile: int = 768  # largest side of a tile in pixels
    overlap: int = 128  # pixels that neighbouring tiles share at least

    def __post_init__(self) -> None:
        """Check that each tile covers new pixels."""
        if self.overlap < 0:
            raise ConfigError(f"overlap = {self.overlap}: expected 0 or more pixels")
        if self.tile < self.overlap + ALIGN:
            raise ConfigError(
                f"tile = {self.tile} with overlap = {self.overlap}: expected a tile of at least "
                f"{self.overlap + ALIGN} pixels (the overlap and {ALIGN}), or a smaller overlap"
            )


class ViewOptions(Settings):
    """The views of a photo whose probabilities are averaged, and what refines them."""

    scales: tuple[float, ...] = Field(
        default=(1.0,), min_length=1, description="factors on the image's sides; probabilities are averaged"
    )
    mirror: bool = Field(default=False, description="also the mirror image at each scale")
    fit: Fit | None = Field(
        default=None, description="[long, short] side that images are first brought into, as published [2048, 512]"
    )
    crf: PresetName | None = Field(default=None, description="dense CRF over the probabilities, with these kernels")

    @model_validator(mode="after")
    def _scales_in_range(self) -> Self:
        if not all(0 < scale <= _LARGEST_SCALE for scale in self.scales):
            raise ValueError(f"scales = {list(self.scales)}: expected factors above 0, up to {_LARGEST_SCALE}")
        return self


class PredictionSettings(ViewOptions):
    """How a trained network segments images."""

    split: str | None = Field(default=None, description="a split of the data; null: data.val")

    def options(self) -> PredictOptions:
        """The same for the labeller, which `tag2mask predict` uses too."""
        return PredictOptions(**self.model_dump(exclude={"split"}))


class PredictOptions(ViewOptions):
    """How photos are segmented outside a run: views, tiles, precision."""

    tile: int | None = Field(
        default=None, description="side of tiles in pixels; null: whole, and tiles only for very large photos"
    )
    overlap: int | None = Field(default=None, description="pixels that tiles share; null: a sixth of the tile")
    precision: Precision = Field(default="float32", description="of the network's pass")

    @model_validator(mode="after")
    def _tiles_advance(self) -> Self:
        if self.tile is None and self.overlap is not None:
            raise ValueError(f"overlap = {self.overlap} belongs to tiles: give tile too, such as tile = 768")
        self.tiling()
        return self

    def tiling(self) -> Tiling | None:
        """The tiles that were requested; None for photos as a whole."""
        if self.tile is None:
            return None
        return Tiling(self.tile, self.tile // 6 if self.overlap is None else self.overlap)

    def text(self) -> dict[str, Any]:
        """As plain values, for a key or a manifest."""
        return self.model_dump(mode="json")


class PredictWords(TypedDict, total=False):
    """The fields of `PredictOptions` for type checkers, where a call takes them by name."""

    scales: tuple[float, ...]
    mirror: bool
    fit: tuple[int, int] | None
    crf: str | None
    tile: int | None
    overlap: int | None
    precision: Precision
