"""Thin things in label images: a class with a pixel model is where the model finds it in the region of its map."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tag2mask.backbones.files import WEIGHTS
from tag2mask.core.types import IGNORE
from tag2mask.evaluation.background import Background
from tag2mask.evaluation.confusion import LabelImage
from tag2mask.label_images.cutting import PhotoMaps
from tag2mask.methods.context import StageContext
from tag2mask.refine.pixels.model import PixelModels, load_pixels
from tag2mask.thresholds.threshold_of import threshold_of

PIXELS: Final = "pixels"
"""The role in which a stage reads a `pixel-model`."""
CERTAIN, POSSIBLE = 0.5, 0.2
"""Probabilities above which a pixel of a region is the thing, and above which it may be."""


def pixels_read(context: StageContext[Any]) -> PixelModels | None:
    """The pixel models that a stage reads; None where it reads none, they are of no class, or there is no background.

    Raises:
        WeightsError: their file is damaged, or of other classes.
    """
    if PIXELS not in context.reads or not threshold_of(context).background.competes:
        return None
    models = load_pixels(context.reads[PIXELS].path / WEIGHTS, context.dataset.classes)
    return models if models.columns else None


def with_thin(
    photos: Sequence[PhotoMaps],
    make: Callable[[Sequence[PhotoMaps]], list[LabelImage]],
    pixels: PixelModels,
    rule: Background,
) -> list[LabelImage]:
    """Label images by ``make``, classes with a pixel model by that model instead, (H, W) uint8 each.

    What ``make`` does with an image whose classes all have one, such as a CRF that would smooth them away, is spared.

    Args:
        photos: images with their maps.
        make: gives labels of images.
        pixels: the models.
        rule: by which the maps are cut.
    """
    thin = [set(photo.classes) <= set(pixels.columns) for photo in photos]
    others = [photo for photo, alone in zip(photos, thin, strict=True) if not alone]
    made = iter(make(others) if others else [])
    found = []
    for photo, alone in zip(photos, thin, strict=True):
        base = np.full(photo.image.shape[:2], 0 if photo.classes else rule.without_classes, np.uint8)
        labels = base if alone else next(made)
        likely = pixels.probabilities(photo.image, photo.classes)
        if likely:
            labels = overlaid(labels, photo.cuts(rule, photo.classes), likely)
        found.append(labels)
    return found


def overlaid(labels: LabelImage, cuts: Sequence[LabelImage], likely: Mapping[int, NDArray[np.float32]]) -> LabelImage:
    """Labels in which some classes are where their pixels are likely, within their regions.

    A pixel is of such a class where the first cut says so and its probability is above `CERTAIN`. With a second, lower
    cut it is ignored (255) where that says so and the probability is above `POSSIBLE`, unless another class has it.

    Args:
        labels: (H, W); what they have of these classes is taken away.
        cuts: one, or that of the foreground's threshold and that of the background's, (H, W) each.
        likely: (H, W) probabilities by class column.
    """
    thin = [column + 1 for column in likely]
    result = np.where(np.isin(labels, thin), np.uint8(0), labels)
    for column, probability in likely.items():
        mine = (cuts[0] == column + 1) & (probability > CERTAIN)
        if len(cuts) > 1:
            result[(cuts[-1] == column + 1) & (probability > POSSIBLE) & (result == 0)] = IGNORE
        result[mine] = column + 1
    return result
