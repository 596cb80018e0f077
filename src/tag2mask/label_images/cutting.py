"""Label images from maps: refined seeds by two CRF passes, seeds after one, and a plain cut.

Maps are cut by a background rule: see `evaluation.background`, also for what thresholds of single classes mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from tag2mask.core.errors import DataError
from tag2mask.core.resize import bilinear
from tag2mask.core.types import IGNORE
from tag2mask.evaluation.background import CONSTANT, Background, Level, Sides
from tag2mask.evaluation.confusion import LabelImage
from tag2mask.refine.crf.api import DenseCRF


@dataclass(frozen=True, slots=True, eq=False)
class Photo:
    """One image with its maps, as arrays: a worker process gets them as they are.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        classes: K class columns, 0-based, ascending.
        maps: (K, h, w) float32 in [0, 1], of any size.
        sides: the sidecars that the background rule names, (H, W).
    """

    image: NDArray[np.uint8]
    classes: tuple[int, ...]
    maps: NDArray[np.float32]
    sides: Sides = field(default_factory=dict)

    def resized(self) -> NDArray[np.float32]:
        """The maps at the image's size, (K, H, W)."""
        height, width = self.image.shape[:2]
        resized: NDArray[np.float32] = bilinear(torch.from_numpy(self.maps), height, width).numpy()
        return resized


@dataclass(frozen=True, slots=True)
class Pass:
    """How the CRF is used.

    Attributes:
        preset: of its kernels.
        iterations: of mean field.
        gt_prob: how far a label is trusted.
        device: where it computes.
    """

    preset: str = "irn"
    iterations: int = 10
    gt_prob: float = 0.7
    device: str = "cpu"


PhotoLevels = Level | list[Level]
"""A threshold for all photos, or a list with one for each; (K,) of them are one for each of a photo's maps."""


def refine_seeds(
    photos: Sequence[Photo],
    foreground: PhotoLevels,
    background: PhotoLevels,
    crf: Pass | None = None,
    rule: Background = CONSTANT,
) -> list[LabelImage]:
    """Refined seeds: IRN's labels of confident pixels.

    Seeds are cut at each threshold, and each cut goes through one CRF pass. A pixel is of a class where the pass of the
    higher threshold says so, background where both say so, and ignored elsewhere.

    Args:
        photos: images with their maps.
        foreground: the higher threshold, 0..1, see `PhotoLevels`.
        background: the lower one, of the same form.
        crf: of both passes.
        rule: by which the maps are cut.

    Returns:
        (H, W) uint8 each: class column + 1, 0 background, 255 not confident. All background without tags or with maps
        that are zero everywhere.

    Raises:
        DataError: ``background`` is above ``foreground``.
    """
    levels = list(zip(_each(foreground, photos), _each(background, photos), strict=True))
    for high, low in levels:
        if np.any(low > high):
            text = f"background threshold {np.max(low):g} is above the foreground's {np.min(high):g}"
            raise DataError(f"{text}; exchange them")
    passes = _crf_passes(photos, levels, crf or Pass(), rule)
    return [np.where(high > 0, high, np.where(low > 0, np.uint8(IGNORE), np.uint8(0))) for high, low in passes]


def crf_seeds(
    photos: Sequence[Photo], threshold: PhotoLevels, crf: Pass | None = None, rule: Background = CONSTANT
) -> list[LabelImage]:
    """Seeds at one threshold after one CRF pass, (H, W) uint8 each, every pixel labelled: the papers' "w/ CRF"."""
    levels = [(level,) for level in _each(threshold, photos)]
    return [labels for (labels,) in _crf_passes(photos, levels, crf or Pass(), rule)]


def cut_masks(photos: Sequence[Photo], threshold: PhotoLevels, rule: Background = CONSTANT) -> list[LabelImage]:
    """Maps resized to their image and cut at one threshold, (H, W) uint8 each."""
    levels = _each(threshold, photos)
    return [rule.labels(p.resized(), p.classes, level, p.sides) for p, level in zip(photos, levels, strict=True)]


def _each(level: PhotoLevels, photos: Sequence[Photo]) -> list[Level]:
    return level if isinstance(level, list) else [level] * len(photos)


def _crf_passes(
    photos: Sequence[Photo], levels: Sequence[tuple[Level, ...]], crf: Pass, rule: Background
) -> list[list[LabelImage]]:
    """For each image the labels after one CRF pass for each threshold; an image's passes share its lattices."""
    passes = [
        [np.full(p.image.shape[:2], 0 if p.classes else rule.without_classes, dtype=np.uint8) for _ in own]
        for p, own in zip(photos, levels, strict=True)
    ]
    # Maps that are zero everywhere are background by a constant; another rule may see more than the maps.
    cut = [i for i, p in enumerate(photos) if p.maps.any() or (p.classes and not rule.is_constant)]
    if not cut:
        return passes
    chosen = [photos[i] for i in cut]
    cuts = [_local_cuts(photos[i], levels[i], rule) for i in cut]
    lattices = DenseCRF.batch([photo.image for photo in chosen], crf.preset, device=crf.device)
    n_labels = [len(photo.classes) + 1 for photo in chosen]
    refined = lattices.refine_labels(cuts, n_labels, crf.gt_prob, crf.iterations)
    for i, photo, labels in zip(cut, chosen, refined, strict=True):
        columns = np.array([0, *(c + 1 for c in photo.classes)], dtype=np.uint8)
        passes[i] = list(columns[labels.cpu().numpy()])
    return passes


def _local_cuts(photo: Photo, levels: Sequence[Level], rule: Background) -> LabelImage:
    """(T, H, W), one for each threshold; labels are numbered within the image: the CRF decides between its classes."""
    maps = photo.resized()
    return np.stack([rule.labels(maps, range(len(maps)), level, photo.sides) for level in levels])
