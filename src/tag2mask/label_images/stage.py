"""Label images in the pipeline: image by image, from the maps of another stage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from tag2mask.core.types import Sample
from tag2mask.evaluation.background import Level
from tag2mask.evaluation.confusion import LabelImage
from tag2mask.evaluation.threshold_rules.histogram import split_of
from tag2mask.inference.maps_file import check_maps
from tag2mask.label_images.cutting import PhotoMaps, crf_seeds, cut_masks, refine_seeds, separate_seeds
from tag2mask.label_images.kinds import CutSettings, RefinedSeedsSettings, SeedCRFSettings
from tag2mask.label_images.thin import pixels_read, with_thin
from tag2mask.methods.context import ImageProgram, StageContext
from tag2mask.thresholds.threshold_of import ROLE, threshold_of
from tag2mask.training.device import resolve_device

Make = Callable[..., list[LabelImage]]
Scores = NDArray[np.float32]
Scale = Callable[[Scores, Level, Level], Scores]
Levels = Callable[[str, Sequence[int]], tuple[Level, ...]]
"""Of a sample id and class columns: what their maps are cut at."""
_BATCH_ON_GPU = 8
"""Images whose lattices fill a GPU together."""
_NARROWEST = 1e-4
"""Scores of a class that spread less are taken to spread so far: they are alike."""


def refined_seeds(context: StageContext[RefinedSeedsSettings]) -> ImageProgram:
    """Refined seeds at two thresholds: the settings', or a margin on either side of the one that is read.

    Where the background does not compete, the distance of both is what parts the best class from the second best.
    """
    settings, threshold = context.settings, threshold_of(context)
    rule, read, in_spread = threshold.background, ROLE in context.reads, settings.margin_in == "spread"
    if in_spread:
        threshold.spread(())  # a threshold without it is refused before the first image

    def margin(columns: Sequence[int]) -> Level:
        return settings.margin * threshold.spread(columns) if in_spread else settings.margin

    def both(sample_id: str, columns: Sequence[int]) -> tuple[Level, ...]:
        if not read:
            return settings.foreground, settings.background
        return around(threshold.of(sample_id, columns), margin(columns))

    def apart(_sample_id: str, columns: Sequence[int]) -> tuple[Level, ...]:
        if not read:
            return (settings.foreground - settings.background,)
        return (2 * float(np.mean(margin(columns))) if columns else 0.0,)

    if not rule.competes:  # classes have to be as far from each other as a class from the background elsewhere
        make = partial(separate_seeds, crf=settings.crf, rule=rule, relative=not in_spread)
        return _crf_program(context, make, apart)
    make = partial(refine_seeds, crf=settings.crf, rule=rule)
    if not (in_spread and rule.is_constant):
        return _crf_program(context, make, both)
    # In one unit for all, or a class of wide scores would take the pixels of one of narrow scores beside it.
    return _crf_program(
        context, make, lambda *_: (settings.margin, -settings.margin), scale=partial(_in_spreads, settings.per_image)
    )


def seed_crf(context: StageContext[SeedCRFSettings]) -> ImageProgram:
    """Seeds at one threshold after one CRF pass."""
    make = partial(crf_seeds, crf=context.settings.crf, rule=threshold_of(context).background)
    return _crf_program(context, make, one_level(context))


def pseudo_masks(context: StageContext[CutSettings]) -> ImageProgram:
    """Maps cut at one threshold."""
    rule = threshold_of(context).background
    make: Make = partial(cut_masks, rule=rule)
    if pixels := pixels_read(context):
        make = partial(with_thin, make=make, pixels=pixels, rule=rule)
    return ImageProgram(photo_reader(context, one_level(context)), make, pooled=pixels is not None)


def one_level(context: StageContext[CutSettings]) -> Levels:
    """The threshold of a stage that has one."""
    threshold = threshold_of(context)
    return lambda sample_id, columns: (threshold.of(sample_id, columns),)


def around(level: Level, margin: Level) -> tuple[Level, Level]:
    """The thresholds of refined seeds, foreground first: a margin on either side, within 0..1."""
    return np.minimum(1, level + margin), np.maximum(0, level - margin)


def _crf_program(
    context: StageContext[RefinedSeedsSettings] | StageContext[SeedCRFSettings],
    make: Make,
    levels: Levels,
    scale: Scale | None = None,
) -> ImageProgram:
    device = resolve_device(context.engine)
    on_gpu = device.type == "cuda"  # on other devices the lattices are untested
    make = partial(make, device=str(device) if on_gpu else "cpu")
    rule = threshold_of(context).background
    if pixels := pixels_read(context):
        make = partial(with_thin, make=make, pixels=pixels, rule=rule)
    return ImageProgram(photo_reader(context, levels, scale), make, _BATCH_ON_GPU if on_gpu else 1, pooled=not on_gpu)


def photo_reader(
    context: StageContext[RefinedSeedsSettings] | StageContext[CutSettings],
    levels: Levels,
    scale: Scale | None = None,
) -> Callable[[Sample], PhotoMaps]:
    """Reads a photo with its maps and what they are cut at, made from their level by the stage's threshold.

    ``scale`` makes what is cut of the maps, their classes' thresholds and the spreads of their scores.
    """
    dataset, maps, threshold = context.dataset, context.reads["maps"], threshold_of(context)

    def prepare(sample: Sample) -> PhotoMaps:
        image = np.array(dataset.image(sample))
        found = maps.maps(dataset, sample, context.settings.scores)
        check_maps(found, image.shape[:2], len(dataset.classes), f"'{sample.id}' in stage '{maps.name}'")
        sides = threshold.background.read(dataset, sample, image.shape[:2])
        values = found.maps.numpy()
        if scale is not None:
            values = scale(values, threshold.of(sample.id, found.classes), threshold.spread(found.classes))
        return PhotoMaps(image, found.classes, values, levels(sample.id, found.classes), sides)

    return prepare


def _in_spreads(per_image: float, maps: Scores, level: Level, spread: Level) -> Scores:
    """(K, h, w): how many deviations of its class's scores a map lies above its threshold in this image.

    A class's threshold is that of the whole data. Where the classifier sees a thing less or more clearly in an image
    than elsewhere, the image's own split is nearer. Each fails by itself: the first misses dim things, the second
    splits a thing that fills the image. ``per_image`` weighs them.
    """
    above = np.broadcast_to(np.asarray(level, dtype=np.float64), len(maps)).copy()
    for i, one in enumerate(maps):
        split = split_of(one) if per_image else None
        above[i] += per_image * (split - above[i]) if split is not None else 0.0
    unit = np.maximum(np.reshape(spread, (-1, 1, 1)), _NARROWEST)
    above_in_spreads: Scores = ((maps - above.reshape(-1, 1, 1)) / unit).astype(np.float32)
    return above_in_spreads
