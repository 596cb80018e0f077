"""Label images in the pipeline: image by image, from the maps of another stage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from tag2mask.config.settings import Settings
from tag2mask.core.types import Sample
from tag2mask.evaluation.background import Level
from tag2mask.evaluation.confusion import LabelImage
from tag2mask.inference.maps_file import check_maps
from tag2mask.label_images.cutting import Pass, Photo, crf_seeds, cut_masks, refine_seeds
from tag2mask.label_images.kinds import CRFSettings, CutSettings, RefinedSeedsSettings, SeedCRFSettings
from tag2mask.methods.context import ImageProgram, StageContext
from tag2mask.thresholds.threshold_of import ROLE, threshold_of
from tag2mask.training.device import resolve_device

Make = Callable[..., list[LabelImage]]
Thresholds = Callable[[str, Sequence[int]], dict[str, Level]]
"""From an image's id and its class columns to what its maps are cut at, by the name of the argument."""

_BATCH_ON_GPU = 8
"""Images whose lattices fill a GPU together."""


def refined_seeds(context: StageContext[RefinedSeedsSettings]) -> ImageProgram:
    """Refined seeds at two thresholds: the settings', or a margin on either side of the one that is read."""
    settings = context.settings
    crf = _pass(context, settings.crf)
    make = partial(refine_seeds, crf=crf, rule=settings.rule)
    if ROLE not in context.reads:
        own: dict[str, Level] = {"foreground": settings.foreground, "background": settings.background}
        return _program(context, make, lambda _, __: own, crf)
    read = threshold_of(context)
    return _program(context, make, lambda i, classes: around(read.of(i, classes), settings.margin), crf)


def seed_crf(context: StageContext[SeedCRFSettings]) -> ImageProgram:
    """Seeds at one threshold after one CRF pass."""
    crf = _pass(context, context.settings.crf)
    return _program(context, partial(crf_seeds, crf=crf, rule=context.settings.rule), _cut_at(context), crf)


def pseudo_masks(context: StageContext[CutSettings]) -> ImageProgram:
    """Maps cut at one threshold."""
    return _program(context, partial(cut_masks, rule=context.settings.rule), _cut_at(context))


def around(level: Level, margin: float) -> dict[str, Level]:
    """The thresholds of refined seeds, a margin on either side, within 0..1."""
    if isinstance(level, np.ndarray):
        return {"foreground": np.minimum(1, level + margin), "background": np.maximum(0, level - margin)}
    return {"foreground": min(1.0, level + margin), "background": max(0.0, level - margin)}


def _cut_at(context: StageContext[Settings]) -> Thresholds:
    read = threshold_of(context)
    return lambda i, classes: {"threshold": read.of(i, classes)}


def _pass(context: StageContext[Settings], settings: CRFSettings) -> Pass:
    device = resolve_device(context.engine)
    where = str(device) if device.type == "cuda" else "cpu"  # on other devices the lattices are untested
    return Pass(settings.preset, settings.iterations, settings.gt_prob, where)


def _program(
    context: StageContext[Settings], make: Make, thresholds: Thresholds, crf: Pass | None = None
) -> ImageProgram:
    """A program whose photos travel with their thresholds, so that a pool is never sent those of all images."""
    photo_of = _photos(context)

    def prepare(sample: Sample) -> tuple[Photo, dict[str, Level]]:
        photo = photo_of(sample)
        return photo, thresholds(sample.id, photo.classes)

    on_gpu = crf is not None and crf.device != "cpu"
    batch = _BATCH_ON_GPU if on_gpu else 1
    return ImageProgram(prepare, partial(together, make=make), batch, pooled=crf is not None and not on_gpu)


def together(given: Sequence[tuple[Photo, dict[str, Level]]], make: Make) -> list[LabelImage]:
    """Label images of photos with thresholds of their own.

    Args:
        given: photos, and the thresholds of each by the name of the argument.
        make: a function of `cutting`.
    """
    photos, levels = zip(*given, strict=True)
    return make(photos, **{name: [own[name] for own in levels] for name in levels[0]})


def _photos(context: StageContext[Settings]) -> Callable[[Sample], Photo]:
    """Reads the image and the maps of a sample, and the sidecars that the background rule names."""
    dataset, maps, rule = context.split("@infer"), context.reads["maps"], threshold_of(context).background

    def prepare(sample: Sample) -> Photo:
        image = np.array(dataset.image(sample))
        found = maps.maps(dataset, sample)
        check_maps(found, image.shape[:2], len(dataset.classes), f"'{sample.id}' in stage '{maps.name}'")
        return Photo(image, found.classes, found.maps.numpy(), rule.read(dataset, sample, image.shape[:2]))

    return prepare
