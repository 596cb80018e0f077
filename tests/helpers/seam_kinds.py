"""Toy kinds for the seams: maps from a sidecar, with raw scores, or without one; a training; a background rule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from tag2mask.config.settings import Settings
from tag2mask.core.files import write_json
from tag2mask.core.resize import bilinear
from tag2mask.core.types import ActivationMaps, Sample
from tag2mask.data.sidecars import read_sidecar
from tag2mask.evaluation.background import BACKGROUNDS, Background, Level, Maps, Sides, register_background
from tag2mask.inference.maps_file import stride4
from tag2mask.inference.raw_scores import cells_by_score, halved
from tag2mask.methods.context import ImageProgram, StageContext
from tag2mask.methods.registry import METHODS, register_method
from tag2mask.methods.stage_kinds import ImageStage, Makes, TrainingStage

N_CLASSES = 6
"""Of the drawn toys."""


class NoSettings(Settings):
    """Nothing to set."""


def glow(context: StageContext[NoSettings]) -> ImageProgram:
    """Each map is the image's saliency; raw scores are it to the power of the class column and two."""
    dataset = context.dataset

    def prepare(sample: Sample) -> tuple[tuple[int, ...], Tensor]:
        return sample.tags, torch.from_numpy(read_sidecar(dataset, sample, "saliency"))

    return ImageProgram(prepare, lambda given: [_maps(tags, grey, raw=True) for tags, grey in given])


def brightness(context: StageContext[NoSettings]) -> ImageProgram:
    """Each map is the image's brightness."""
    dataset = context.dataset

    def prepare(sample: Sample) -> tuple[tuple[int, ...], Tensor]:
        return sample.tags, torch.from_numpy(np.asarray(dataset.image(sample).convert("L"), np.float32) / 255)

    return ImageProgram(prepare, lambda given: [_maps(tags, grey, raw=False) for tags, grey in given])


def _maps(tags: tuple[int, ...], grey: Tensor, raw: bool) -> ActivationMaps:
    small = bilinear(grey[None], *stride4(*grey.shape)).expand(len(tags), -1, -1)
    if not raw:
        return ActivationMaps(tags, small)
    every = bilinear(grey[None], *stride4(*grey.shape)) ** torch.arange(2.0, 2 + N_CLASSES)[:, None, None]
    absent = cells_by_score(halved(every))
    absent[list(tags)] = 0
    return ActivationMaps(tags, small, every[list(tags)], absent)


def tally(context: StageContext[NoSettings]) -> None:
    """Write the mean of each image's maps."""
    dataset, maps = context.dataset, context.reads["maps"]
    means = {s.id: [round(float(m.mean()), 6) for m in maps.maps(dataset, s).maps] for s in dataset.samples}
    write_json(context.out / "tally.json", means)


def _image_stage(name: str, sidecars: frozenset[str] = frozenset()) -> ImageStage[NoSettings]:
    runner = f"tests.helpers.seam_kinds:{name}"
    return ImageStage(
        name=name, settings=NoSettings, makes=Makes.MAPS, runner=runner, sidecars=sidecars, keeps_raw=name == "glow"
    )


KINDS = (
    _image_stage("glow", frozenset({"saliency"})),
    _image_stage("brightness"),
    TrainingStage(
        name="tally", settings=NoSettings, reads={"maps": Makes.MAPS}, runner="tests.helpers.seam_kinds:tally"
    ),
)


class Inside(Background):
    """Nothing lies outside of the sidecar ``foreground``; inside, the level decides."""

    sidecars: ClassVar[tuple[str, ...]] = ("foreground",)
    supervision: ClassVar[frozenset[str]] = frozenset({"saliency"})

    kind: Literal["inside"] = "inside"
    least: float = 0.5

    def values(self, maps: Maps, level: Level, sides: Sides) -> Maps:
        """The level, for each class its own, where the sidecar is ``least`` or more; 1 elsewhere."""
        own = level[:, None, None] if isinstance(level, np.ndarray) else np.float32(level)
        found: Maps = np.where(sides["foreground"] >= self.least, own, np.float32(1))
        return found


class Dim(Inside):
    """The same, declared as a rule that a sweep has to cut at every threshold."""

    sweepable: ClassVar[bool] = False


class NoBackground(Background):
    """The arg max of the classes, as data without background has it."""

    without_classes: ClassVar[int] = 255

    kind: Literal["nowhere"] = "nowhere"

    def values(self, maps: Maps, level: Level, sides: Sides) -> float:
        """Below every map."""
        return -1.0


@contextmanager
def registered() -> Iterator[None]:
    """Have the kinds and rules known."""
    register_method("tests.helpers.seam_kinds")
    rules: Sequence[tuple[str, type[Any]]] = [("inside", Inside), ("nowhere", NoBackground)]
    for kind, rule in rules:
        register_background(kind, rule)
    try:
        yield
    finally:
        METHODS.remove("tests.helpers.seam_kinds")
        for kind, _ in rules:
            BACKGROUNDS.pop(kind)
