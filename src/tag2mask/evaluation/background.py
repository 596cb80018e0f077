"""Background rules: what the classes of an image compete with. Every cut of maps into labels goes through one.

A rule gives each pixel a background value. A pixel is of the present class whose map is largest, if that value is above
the background's, else background. Ties go to background first, then to the lower class column. The comparison is in
float32, the precision of the maps. Beside the maps and the level that they are cut at, a rule may look at sidecars of
the image, such as its saliency.

With a background value for each class, such as a threshold t_c, a class is a candidate where its map is above its own,
and the candidate that is farthest above wins: the label is the largest ``map_c - t_c``, background where none is
positive. Equal values give the very labels of the one.

Data may have no background at all, or a given one: then no class competes with it (`NoBackground`, `Given`), whatever
the rule and the threshold of a stage are; `rule_on` gives the rule that holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Final, Literal

import numpy as np
from numpy.typing import NDArray

from tag2mask.config.settings import Settings, validate
from tag2mask.core.errors import ConfigError, unknown
from tag2mask.core.names import shortened
from tag2mask.core.types import IGNORE, Sample
from tag2mask.data.base import Dataset, Ground
from tag2mask.data.sidecars import read_sidecar
from tag2mask.evaluation.confusion import LabelImage

Level = float | NDArray[np.float32]
"""What the maps of one image are cut at: one threshold, or (K,), one for each map."""
Maps = NDArray[np.float32]
Sides = Mapping[str, Maps]
"""Sidecars of an image by role, (H, W) float32 in [0, 1] at the size of the maps."""
NO_SIDES: Final[Sides] = MappingProxyType({})


class Background(Settings):
    """A background rule: its settings, and what it makes of an image. Subclasses add ``kind`` and settings of theirs.

    Attributes:
        is_constant: the background value is the level, at every pixel.
        sweepable: at each pixel the background value is the level, or does not depend on it. Elsewhere it must not
            fall as the level rises, and a sweep over thresholds costs as many cuts.
        sidecars: roles of the sidecars that it looks at.
        supervision: what these add to the ledger.
        without_classes: label of every pixel of an image without classes: 0, or 255 where the data has no background.
        competes: the background is one of those that a pixel may be of; else the classes compete with each other
            alone, and no level matters.
    """

    is_constant: ClassVar[bool] = False
    sweepable: ClassVar[bool] = True
    sidecars: ClassVar[tuple[str, ...]] = ()
    supervision: ClassVar[frozenset[str]] = frozenset()
    without_classes: ClassVar[int] = 0
    competes: ClassVar[bool] = True

    kind: str

    def values(self, maps: Maps, level: Level, sides: Sides) -> float | Maps:
        """The background values of an image.

        Args:
            maps: (K, H, W) in [0, 1], one for each present class, K at least 1.
            level: what the maps are cut at.
            sides: sidecars of the roles that the rule names.

        Returns:
            A number, or an array that broadcasts to (H, W); to (K, H, W) where the level is (K,). 1 lets no class win,
            a number below 0 lets one win always.
        """
        raise NotImplementedError

    def labels(self, maps: Maps, classes: Sequence[int], level: Level, sides: Sides = NO_SIDES) -> LabelImage:
        """Cut maps (K, H, W) of K ascending class columns: (H, W) uint8, label c + 1 for column c.

        K may be 0; ``level`` and ``sides`` are as for `values`.
        """
        if not len(classes):
            return np.full(maps.shape[1:], self.without_classes, dtype=np.uint8)
        labels = (np.asarray(classes) + 1).astype(np.uint8)
        ground = np.asarray(self.values(maps, level, sides), dtype=np.float32)
        if ground.ndim < maps.ndim:
            return np.where(maps.max(axis=0) > ground, labels[maps.argmax(axis=0)], np.uint8(0))
        # Differences of float32 values in [0, 1] are exact in float64, so equal values keep the order of the maps.
        above = maps.astype(np.float64) - ground
        return np.where(above.max(axis=0) > 0, labels[above.argmax(axis=0)], np.uint8(0))

    def passed(self, largest: Maps, maps: Maps, thresholds: Maps, sides: Sides = NO_SIDES) -> NDArray[np.intp]:
        """(H, W): n where a pixel is of its largest class at the first n of ascending thresholds, and background after.

        ``largest`` (H, W) is the largest of the maps (K, H, W) at each pixel.
        """
        if self.is_constant:
            return np.searchsorted(thresholds, largest)  # those strictly below the value
        if not self.sweepable:
            each = [largest > np.float32(self.values(maps, float(t), sides)) for t in thresholds]
            counts: NDArray[np.intp] = np.sum(each, axis=0, dtype=np.intp)
            return counts
        low, high = (np.broadcast_to(np.float32(self.values(maps, t, sides)), largest.shape) for t in (0.0, 1.0))
        always = np.where(largest > low, len(thresholds), 0)
        return np.where(low == high, always, np.searchsorted(thresholds, largest))

    def read(self, dataset: Dataset, sample: Sample, size: Sequence[int]) -> Sides:
        """The sidecars of an image that the rule looks at, resized bilinearly to (height, width) where they differ."""
        return {role: _resized(read_sidecar(dataset, sample, role), size) for role in self.sidecars}


def _resized(values: Maps, size: Sequence[int]) -> Maps:
    if values.shape == tuple(size):
        return values
    import torch

    from tag2mask.core.resize import bilinear

    resized: Maps = bilinear(torch.from_numpy(values)[None], *size)[0].numpy()
    return resized


class Constant(Background):
    """The level is the background value at every pixel, or for each class its own."""

    is_constant: ClassVar[bool] = True

    kind: Literal["constant", "learned"] = "constant"

    def values(self, maps: Maps, level: Level, sides: Sides) -> float | Maps:
        """The level; (K, 1, 1) where there is one for each class."""
        return level[:, None, None] if isinstance(level, np.ndarray) else level


class Learned(Constant):
    """The maps say themselves how likely the background is, as AMN's learned ones do: 0.5 is the arg max over both."""

    kind: Literal["learned"] = "learned"


class NoBackground(Background):
    """Every pixel is of one of the image's classes: the one whose map is largest, the lower column of equal ones.

    An image with one class is that class everywhere; of one without a class nothing is known: 255.
    """

    without_classes: ClassVar[int] = IGNORE
    competes: ClassVar[bool] = False

    kind: Literal["none", "given", "plain"] = "none"

    def values(self, maps: Maps, level: Level, sides: Sides) -> float | Maps:
        """Below every map."""
        return -1.0


class Given(NoBackground):
    """What lies outside of the sidecar ``foreground`` is of no class; all else is of one of the image's classes."""

    sidecars: ClassVar[tuple[str, ...]] = ("foreground",)
    supervision: ClassVar[frozenset[str]] = frozenset({"foreground"})

    kind: Literal["none", "given", "plain"] = "given"

    def values(self, maps: Maps, level: Level, sides: Sides) -> float | Maps:
        """Above every map outside of the foreground, below them inside."""
        return np.where(sides[_FOREGROUND] < _INSIDE, np.float32(1), np.float32(-1))

    def labels(self, maps: Maps, classes: Sequence[int], level: Level, sides: Sides = NO_SIDES) -> LabelImage:
        """As of every rule; inside an image without classes nothing is known: 255."""
        found = super().labels(maps, classes, level, sides)
        return found if len(classes) else np.where(sides[_FOREGROUND] < _INSIDE, np.uint8(0), found)


class Plain(Given):
    """White or black pixels are of no class; all others are of one of the image's classes."""

    sidecars: ClassVar[tuple[str, ...]] = ()
    supervision: ClassVar[frozenset[str]] = frozenset()

    kind: Literal["none", "given", "plain"] = "plain"
    colour: Literal["white", "black"] = "white"

    def read(self, dataset: Dataset, sample: Sample, size: Sequence[int]) -> Sides:
        """The foreground of an image, 1 inside and 0 outside, resized bilinearly to (height, width)."""
        photo = np.asarray(dataset.image(sample))
        nothing = photo.min(axis=2) >= 255 - _NEARLY if self.colour == "white" else photo.max(axis=2) <= _NEARLY
        return {_FOREGROUND: _resized((~nothing).astype(np.float32), size)}


_FOREGROUND, _INSIDE = "foreground", 0.5
_NEARLY = 8
"""How far white and black may be off, as JPEG leaves them."""
CONSTANT: Final = Constant()
NOTHING: Final = NoBackground()
_ON: Final[Mapping[Ground, Background]] = {
    "none": NOTHING,
    "white": Plain(colour="white"),
    "black": Plain(colour="black"),
    "foreground": Given(),
}
BACKGROUNDS: dict[str, type[Background]] = {
    "constant": Constant, "learned": Learned, "none": NoBackground, "given": Given, "plain": Plain,
}  # fmt: skip
"""The rules by the kind that recipes name."""


def rule_on(background: Ground, own: Background) -> Background:
    """The rule that holds: what the data's background demands, else a stage's own."""
    return _ON.get(background, own)


def register_background(kind: str, rule: type[Background]) -> None:
    """Add a background rule under the kind that recipes name.

    Raises:
        ConfigError: the kind is taken by another rule.
    """
    if BACKGROUNDS.setdefault(kind, rule) is not rule:
        raise ConfigError(f"background rule '{kind}' is {BACKGROUNDS[kind].__name__} already; choose another name")


def background_rule(given: Any) -> Background:
    """The rule that a setting names: ``{kind: saliency, alpha: 0.25}``, a kind alone, or a rule."""
    if isinstance(given, Background):
        return given
    values = {"kind": given} if isinstance(given, str) else given
    if not isinstance(values, Mapping) or not isinstance(values.get("kind"), str):
        raise ConfigError(f"background = {shortened(repr(given))}: expected a kind, of {', '.join(BACKGROUNDS)}")
    if values["kind"] not in BACKGROUNDS:
        raise ConfigError(unknown("background rule", values["kind"], BACKGROUNDS))
    return validate(BACKGROUNDS[values["kind"]], values, "background")
