"""Label images in the pipeline: image by image, from the maps of another stage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from tag2mask.core.types import Sample
from tag2mask.evaluation.confusion import LabelImage
from tag2mask.evaluation.thresholds import Level, Threshold
from tag2mask.inference.maps_file import check_maps
from tag2mask.methods.context import ImageProgram, StageContext
from tag2mask.methods.refined.seeds import Pass, Photo, crf_seeds, cut_masks, one_by_one, refine_seeds
from tag2mask.methods.refined.settings import CRFSettings, RefinedSeedsSettings
from tag2mask.methods.thresholds.behind import threshold_of
from tag2mask.training.device import resolve_device

_BATCH_ON_GPU = 8
"""Images whose lattices fill a GPU together."""


def refined_seeds(context: StageContext) -> ImageProgram:
    """Refined seeds at two thresholds: the settings', or a margin on either side of the one that is read."""
    crf = _pass(context, context.settings.crf)
    make = partial(refine_seeds, crf=crf)
    read = threshold_of(context)
    if read.levels is not None:
        return _own_program(context, make, read, partial(_around, margin=context.settings.margin), crf)
    foreground, background = bounds(context)
    return _program(context, partial(make, foreground=foreground, background=background), crf)


def seed_crf(context: StageContext) -> ImageProgram:
    """Seeds at one threshold after one CRF pass."""
    crf = _pass(context, context.settings.crf)
    return _cut_program(context, partial(crf_seeds, crf=crf), crf)


def pseudo_masks(context: StageContext) -> ImageProgram:
    """Maps cut at one threshold."""
    return _cut_program(context, cut_masks)


def bounds(context: StageContext) -> tuple[float, float]:
    """The thresholds of refined seeds, foreground first."""
    settings: RefinedSeedsSettings = context.settings
    if "threshold" not in context.reads:
        return settings.foreground, settings.background
    value = _threshold(context)
    return min(1.0, value + settings.margin), max(0.0, value - settings.margin)


def _threshold(context: StageContext) -> float:
    value = threshold_of(context).value
    assert value is not None  # these stages all cut, and thresholds of classes or images went another way
    return value


def _around(level: Level, margin: float) -> dict[str, Level]:
    """The thresholds of refined seeds a margin on either side, as `bounds`."""
    if isinstance(level, np.ndarray):
        return {"foreground": np.minimum(1, level + margin), "background": np.maximum(0, level - margin)}
    return {"foreground": min(1.0, level + margin), "background": max(0.0, level - margin)}


def _pass(context: StageContext, settings: CRFSettings) -> Pass:
    device = resolve_device(context.engine)
    where = str(device) if device.type == "cuda" else "cpu"  # on other devices the lattices are untested
    return Pass(settings.preset, settings.iterations, settings.gt_prob, where)


def _cut_program(context: StageContext, make: Callable[..., list[LabelImage]], crf: Pass | None = None) -> ImageProgram:
    """A program that cuts at the stage's threshold, or at those of each class or image."""
    read = threshold_of(context)
    if read.levels is not None:
        return _own_program(context, make, read, lambda level: {"threshold": level}, crf)
    return _program(context, partial(make, threshold=_threshold(context)), crf)


def _program(
    context: StageContext, compute: Callable[[Sequence[Photo]], list[LabelImage]], crf: Pass | None = None
) -> ImageProgram:
    on_gpu = crf is not None and crf.device != "cpu"
    batch = _BATCH_ON_GPU if on_gpu else 1
    return ImageProgram(_photos(context), compute, batch, pooled=crf is not None and not on_gpu)


def _own_program(
    context: StageContext,
    make: Callable[..., list[LabelImage]],
    read: Threshold,
    levels: Callable[[Level], dict[str, Level]],
    crf: Pass | None,
) -> ImageProgram:
    """A program whose photos travel with their thresholds, so that a pool is never sent those of all images."""
    photo_of = _photos(context)

    def prepare(sample: Sample) -> tuple[Photo, dict[str, Level]]:
        photo = photo_of(sample)
        return photo, levels(read.of(sample.id, photo.classes))

    compute: Any = partial(one_by_one, make=make)
    return ImageProgram(prepare, compute, pooled=crf is not None and crf.device == "cpu")


def _photos(context: StageContext) -> Callable[[Sample], Photo]:
    """Reads the image and the maps of a sample."""
    dataset, maps = context.split("@infer"), context.reads["maps"]

    def prepare(sample: Sample) -> Photo:
        image = np.array(dataset.image(sample))
        found = maps.maps(dataset, sample)
        check_maps(found, image.shape[:2], len(dataset.classes), f"'{sample.id}' in stage '{maps.name}'")
        return Photo(image, found.classes, found.maps.numpy())

    return prepare
