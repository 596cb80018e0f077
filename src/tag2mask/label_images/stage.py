"""Label images in the pipeline: image by image, from the maps of another stage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

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

_BATCH_ON_GPU = 8
"""Images whose lattices fill a GPU together."""


def refined_seeds(context: StageContext[RefinedSeedsSettings]) -> ImageProgram:
    """Refined seeds at two thresholds: the settings', or a margin on either side of the one that is read."""
    settings, crf = context.settings, _pass(context, context.settings.crf)
    own: tuple[Level, ...] = (settings.foreground, settings.background)
    read = ROLE in context.reads
    make = partial(refine_seeds, crf=crf, rule=settings.rule)
    return _program(context, make, lambda at: around(at, settings.margin) if read else own, crf)


def seed_crf(context: StageContext[SeedCRFSettings]) -> ImageProgram:
    """Seeds at one threshold after one CRF pass."""
    crf = _pass(context, context.settings.crf)
    return _program(context, partial(crf_seeds, crf=crf, rule=context.settings.rule), lambda at: (at,), crf)


def pseudo_masks(context: StageContext[CutSettings]) -> ImageProgram:
    """Maps cut at one threshold."""
    return _program(context, partial(cut_masks, rule=context.settings.rule), lambda at: (at,))


def around(level: Level, margin: float) -> tuple[Level, Level]:
    """The thresholds of refined seeds, foreground first: a margin on either side, within 0..1."""
    if isinstance(level, np.ndarray):
        return np.minimum(1, level + margin), np.maximum(0, level - margin)
    return min(1.0, level + margin), max(0.0, level - margin)


def _pass(context: StageContext[Any], settings: CRFSettings) -> Pass:
    device = resolve_device(context.engine)
    where = str(device) if device.type == "cuda" else "cpu"  # on other devices the lattices are untested
    return Pass(settings.preset, settings.iterations, settings.gt_prob, where)


def _program(
    context: StageContext[Settings],
    make: Callable[[Sequence[Photo]], list[LabelImage]],
    levels: Callable[[Level], tuple[Level, ...]],
    crf: Pass | None = None,
) -> ImageProgram:
    """A program whose photos carry what they are cut at, from the level of each by the stage's threshold."""
    dataset, maps, threshold = context.split("@infer"), context.reads["maps"], threshold_of(context)

    def prepare(sample: Sample) -> Photo:
        image = np.array(dataset.image(sample))
        found = maps.maps(dataset, sample)
        check_maps(found, image.shape[:2], len(dataset.classes), f"'{sample.id}' in stage '{maps.name}'")
        sides = threshold.background.read(dataset, sample, image.shape[:2])
        at = levels(threshold.of(sample.id, found.classes))
        return Photo(image, found.classes, found.maps.numpy(), at, sides)

    on_gpu = crf is not None and crf.device != "cpu"
    batch = _BATCH_ON_GPU if on_gpu else 1
    return ImageProgram(prepare, make, batch, pooled=crf is not None and not on_gpu)
