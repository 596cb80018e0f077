"""Label images in the pipeline: image by image, from the maps of another stage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from tag2mask.core.types import Sample
from tag2mask.evaluation.confusion import LabelImage
from tag2mask.inference.maps_file import check_maps
from tag2mask.methods.context import ImageProgram, StageContext
from tag2mask.methods.refined.seeds import Pass, Photo, crf_seeds, cut_masks, refine_seeds
from tag2mask.methods.refined.settings import CRFSettings, RefinedSeedsSettings
from tag2mask.methods.thresholds.behind import threshold_of
from tag2mask.training.device import resolve_device

_BATCH_ON_GPU = 8
"""Images whose lattices fill a GPU together."""


def refined_seeds(context: StageContext) -> ImageProgram:
    """Refined seeds at two thresholds: the settings', or a margin on either side of the one that is read."""
    foreground, background = bounds(context)
    crf = _pass(context, context.settings.crf)
    return _program(context, partial(refine_seeds, foreground=foreground, background=background, crf=crf), crf)


def seed_crf(context: StageContext) -> ImageProgram:
    """Seeds at one threshold after one CRF pass."""
    crf = _pass(context, context.settings.crf)
    return _program(context, partial(crf_seeds, threshold=_threshold(context), crf=crf), crf)


def pseudo_masks(context: StageContext) -> ImageProgram:
    """Maps cut at one threshold."""
    return _program(context, partial(cut_masks, threshold=_threshold(context)))


def bounds(context: StageContext) -> tuple[float, float]:
    """The thresholds of refined seeds, foreground first."""
    settings: RefinedSeedsSettings = context.settings
    if "threshold" not in context.reads:
        return settings.foreground, settings.background
    value = _threshold(context)
    return min(1.0, value + settings.margin), max(0.0, value - settings.margin)


def _threshold(context: StageContext) -> float:
    value = threshold_of(context).value
    assert value is not None  # these stages all cut
    return value


def _pass(context: StageContext, settings: CRFSettings) -> Pass:
    device = resolve_device(context.engine)
    where = str(device) if device.type == "cuda" else "cpu"  # on other devices the lattices are untested
    return Pass(settings.preset, settings.iterations, settings.gt_prob, where)


def _program(
    context: StageContext, compute: Callable[[Sequence[Photo]], list[LabelImage]], crf: Pass | None = None
) -> ImageProgram:
    dataset, maps = context.split("@infer"), context.reads["maps"]

    def prepare(sample: Sample) -> Photo:
        image = np.array(dataset.image(sample))
        found = maps.maps(dataset, sample)
        check_maps(found, image.shape[:2], len(dataset.classes), f"'{sample.id}' in stage '{maps.name}'")
        return Photo(image, found.classes, found.maps.numpy())

    on_gpu = crf is not None and crf.device != "cpu"
    return ImageProgram(prepare, compute, _BATCH_ON_GPU if on_gpu else 1, pooled=crf is not None and not on_gpu)
