"""Label images in the pipeline: image by image, from the maps of another stage."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from tag2mask.core.types import Sample
from tag2mask.evaluation.background import Level
from tag2mask.evaluation.confusion import LabelImage
from tag2mask.inference.maps_file import check_maps
from tag2mask.label_images.cutting import PhotoMaps, crf_seeds, cut_masks, refine_seeds, separate_seeds
from tag2mask.label_images.kinds import CutSettings, RefinedSeedsSettings, SeedCRFSettings
from tag2mask.label_images.thin import pixels_read, with_thin
from tag2mask.methods.context import ImageProgram, StageContext
from tag2mask.thresholds.threshold_of import ROLE, threshold_of
from tag2mask.training.device import resolve_device

Make = Callable[..., list[LabelImage]]
Levels = Callable[[Level], tuple[Level, ...]]
_BATCH_ON_GPU = 8
"""Images whose lattices fill a GPU together."""


def refined_seeds(context: StageContext[RefinedSeedsSettings]) -> ImageProgram:
    """Refined seeds at two thresholds: the settings', or a margin on either side of the one that is read.

    Where the background does not compete, the distance of both is what parts the best class from the second best.
    """
    settings, rule = context.settings, threshold_of(context).background
    own: tuple[Level, ...] = (settings.foreground, settings.background)
    read = ROLE in context.reads
    if not rule.competes:  # classes have to be as far from each other as a class from the background elsewhere
        distance = 2 * settings.margin if read else settings.foreground - settings.background
        return _crf_program(context, partial(separate_seeds, crf=settings.crf, rule=rule), lambda _: (distance,))
    make = partial(refine_seeds, crf=settings.crf, rule=rule)
    return _crf_program(context, make, lambda at: around(at, settings.margin) if read else own)


def seed_crf(context: StageContext[SeedCRFSettings]) -> ImageProgram:
    """Seeds at one threshold after one CRF pass."""
    make = partial(crf_seeds, crf=context.settings.crf, rule=threshold_of(context).background)
    return _crf_program(context, make, lambda at: (at,))


def pseudo_masks(context: StageContext[CutSettings]) -> ImageProgram:
    """Maps cut at one threshold."""
    rule = threshold_of(context).background
    make: Make = partial(cut_masks, rule=rule)
    if pixels := pixels_read(context):
        make = partial(with_thin, make=make, pixels=pixels, rule=rule)
    return ImageProgram(_photos(context, lambda at: (at,)), make, pooled=pixels is not None)


def around(level: Level, margin: float) -> tuple[Level, Level]:
    """The thresholds of refined seeds, foreground first: a margin on either side, within 0..1."""
    return np.minimum(1, level + margin), np.maximum(0, level - margin)


def _crf_program(
    context: StageContext[RefinedSeedsSettings] | StageContext[SeedCRFSettings], make: Make, levels: Levels
) -> ImageProgram:
    device = resolve_device(context.engine)
    on_gpu = device.type == "cuda"  # on other devices the lattices are untested
    make = partial(make, device=str(device) if on_gpu else "cpu")
    rule = threshold_of(context).background
    if pixels := pixels_read(context):
        make = partial(with_thin, make=make, pixels=pixels, rule=rule)
    return ImageProgram(_photos(context, levels), make, _BATCH_ON_GPU if on_gpu else 1, pooled=not on_gpu)


def _photos(
    context: StageContext[RefinedSeedsSettings] | StageContext[CutSettings], levels: Levels
) -> Callable[[Sample], PhotoMaps]:
    """Reads a photo with its maps and what they are cut at, made from their level by the stage's threshold."""
    dataset, maps, threshold = context.dataset, context.reads["maps"], threshold_of(context)

    def prepare(sample: Sample) -> PhotoMaps:
        image = np.array(dataset.image(sample))
        found = maps.maps(dataset, sample, context.settings.scores)
        check_maps(found, image.shape[:2], len(dataset.classes), f"'{sample.id}' in stage '{maps.name}'")
        sides = threshold.background.read(dataset, sample, image.shape[:2])
        at = levels(threshold.of(sample.id, found.classes))
        return PhotoMaps(image, found.classes, found.maps.numpy(), at, sides)

    return prepare
