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
from tag2mask.evaluation.background import CONSTANT, NOTHING, Background, Level, Sides
from tag2mask.evaluation.confusion import LabelImage
from tag2mask.label_images.kinds import CRFSettings
from tag2mask.refine.crf.api import DenseCRF
from tag2mask.refine.crf.presets import find_preset
from tag2mask.refine.pixels.regions import kernels_for, region_width


@dataclass(frozen=True, slots=True, eq=False)
class PhotoMaps:
    """One image with its maps, as arrays, and what they are cut at: a worker process gets them as they are."""

    image: NDArray[np.uint8]  # (H, W, 3) uint8 RGB
    classes: tuple[int, ...]  # K class columns, 0-based, ascending
    maps: NDArray[np.float32]  # (K, h, w) float32 of any size: in [0, 1], or in deviations around a threshold
    levels: tuple[Level, ...]  # one, or the foreground's and the background's; each a number on that scale, or (K,)
    sides: Sides = field(default_factory=dict)  # what the background rule looks at

    def cuts(self, rule: Background, classes: Sequence[int]) -> list[LabelImage]:
        """The maps at the image's size, cut at each level under these class columns: (H, W) each."""
        maps = bilinear(torch.from_numpy(self.maps), *self.image.shape[:2]).numpy()
        return [rule.labels(maps, classes, level, self.sides) for level in self.levels]


_CRF = CRFSettings()


def refine_seeds(
    photos: Sequence[PhotoMaps], crf: CRFSettings = _CRF, rule: Background = CONSTANT, device: str = "cpu"
) -> list[LabelImage]:
    """Refined seeds, (H, W) uint8 each: IRN's labels of confident pixels, 255 elsewhere.

    Seeds are cut at both thresholds of a photo, and each cut goes through one CRF pass. A pixel is of a class where the
    pass of the higher threshold says so, background where both say so: everywhere without tags or with empty maps.
    """
    for high, low in (photo.levels for photo in photos):
        if np.any(low > high):
            raise DataError(
                f"background threshold {np.max(low):g} is above the foreground's {np.min(high):g}; exchange them"
            )
    passes = _crf_passes(photos, crf, rule, device)
    return [np.where(high > 0, high, np.where(low > 0, np.uint8(IGNORE), np.uint8(0))) for high, low in passes]


def separate_seeds(
    photos: Sequence[PhotoMaps],
    crf: CRFSettings = _CRF,
    rule: Background = NOTHING,
    device: str = "cpu",
    relative: bool = True,
) -> list[LabelImage]:
    """Refined seeds where classes compete with each other alone, (H, W) uint8 each, 255 where not confident.

    The only level of a photo says how far the largest map must be above the second largest: ``relative``, as a share
    of the photo's largest such distance, since raw scores lie closer together than maps that were each divided by
    their maximum. One CRF pass begins with the labels of all pixels, a second with those of the pixels that are so far
    apart; such a pixel is of its class where both passes leave it so. An image with one class is that class wherever
    anything may be; what a rule gives as no class stays 0.
    """
    starts: list[list[LabelImage]] = []
    for photo in photos:
        (whole,) = photo.cuts(rule, range(len(photo.classes)))
        close = _lead(photo, relative) < photo.levels[0]
        starts.append([whole, np.where(close & (whole != 0), np.uint8(IGNORE), whole)])
    found = []
    for photo, (_, apart), (after, beyond) in zip(
        photos, starts, _between_classes(photos, starts, crf, device), strict=True
    ):
        own = _columns(photo)[apart]
        found.append(np.where((after == own) & (beyond == own), own, np.uint8(IGNORE)))
    return found


def _columns(photo: PhotoMaps) -> LabelImage:
    """(256,): the label of each number within the image, 1 for the first of its classes; 0 and 255 stay."""
    columns = np.full(IGNORE + 1, IGNORE, dtype=np.uint8)
    columns[: len(photo.classes) + 1] = [0, *(c + 1 for c in photo.classes)]
    return columns


def _lead(photo: PhotoMaps, relative: bool) -> NDArray[np.float32]:
    """(H, W): how far the largest map is above the second largest; 1 where there is no second, and relative to it."""
    maps = bilinear(torch.from_numpy(photo.maps), *photo.image.shape[:2])
    if len(maps) < _PAIR:
        return np.ones(photo.image.shape[:2], dtype=np.float32)
    first, second = maps.topk(_PAIR, dim=0).values
    lead: NDArray[np.float32] = (first - second).numpy()
    return lead / max(float(lead.max()), _ALIKE) if relative else lead


_PAIR = 2
_ALIKE = 1e-6
"""Maps that nowhere differ by more say nothing."""


def _between_classes(
    photos: Sequence[PhotoMaps], starts: Sequence[Sequence[LabelImage]], crf: CRFSettings, device: str
) -> list[list[LabelImage]]:
    """The labels after one CRF pass from each start of an image, without a label for the background.

    Starts are numbered within the image, 1 for the first of its classes, 0 for what is of no class, which stays so, and
    255 where nothing is known. With one class, or none, there is nothing to decide.
    """
    found: list[list[LabelImage]] = []
    for photo, labels in zip(photos, starts, strict=True):
        whole = photo.classes[0] + 1 if len(photo.classes) == 1 else IGNORE
        found.append([np.where(one == 0, np.uint8(0), np.uint8(whole)) for one in labels])
    several = [i for i, photo in enumerate(photos) if len(photo.classes) >= _PAIR]
    if not several:
        return found
    chosen = [photos[i] for i in several]
    # Nothing is known of what is of no class either: it takes no part in the decision.
    cuts = [np.stack([np.where((s == 0) | (s == IGNORE), IGNORE, s - 1) for s in starts[i]]) for i in several]
    lattices = DenseCRF.batch([photo.image for photo in chosen], crf.preset, device=device)
    refined = lattices.refine_labels(cuts, [len(p.classes) for p in chosen], crf.gt_prob, crf.iterations)
    for i, photo, after in zip(several, chosen, refined, strict=True):
        numbers = after.cpu().numpy()  # of the CRF, which begin with 0
        every = _columns(photo)[np.where(numbers == IGNORE, IGNORE, numbers + 1)]
        found[i] = [np.where(start == 0, np.uint8(0), one) for start, one in zip(starts[i], every, strict=True)]
    return found


def crf_seeds(
    photos: Sequence[PhotoMaps], crf: CRFSettings = _CRF, rule: Background = CONSTANT, device: str = "cpu"
) -> list[LabelImage]:
    """Seeds at one threshold after one CRF pass, (H, W) uint8 each, every pixel labelled: the papers' "w/ CRF"."""
    return [labels for (labels,) in _crf_passes(photos, crf, rule, device)]


def cut_masks(photos: Sequence[PhotoMaps], rule: Background = CONSTANT) -> list[LabelImage]:
    """Maps resized to their image and cut at one threshold, (H, W) uint8 each."""
    return [photo.cuts(rule, photo.classes)[0] for photo in photos]


def _crf_passes(photos: Sequence[PhotoMaps], crf: CRFSettings, rule: Background, device: str) -> list[list[LabelImage]]:
    """For each image the labels after one CRF pass for each threshold; an image's passes share its lattices."""
    if not rule.competes:
        return _between_classes(photos, [p.cuts(rule, range(len(p.classes))) for p in photos], crf, device)
    passes = [
        [np.full(p.image.shape[:2], 0 if p.classes else rule.without_classes, dtype=np.uint8) for _ in p.levels]
        for p in photos
    ]
    # Maps that are zero everywhere are background by a constant; another rule may see more than the maps.
    cut = [i for i, p in enumerate(photos) if p.maps.any() or (p.classes and not rule.is_constant)]
    if not cut:
        return passes
    chosen = [photos[i] for i in cut]
    # Labels are numbered within the image: the CRF decides between its classes.
    cuts = [np.stack(photo.cuts(rule, range(len(photo.classes)))) for photo in chosen]
    n_labels = [len(photo.classes) + 1 for photo in chosen]
    refined = _refined(chosen, cuts, n_labels, crf, device)
    for i, photo, labels in zip(cut, chosen, refined, strict=True):
        passes[i] = list(_columns(photo)[labels.cpu().numpy()])
    return passes


def _refined(
    photos: Sequence[PhotoMaps], cuts: Sequence[NDArray[np.uint8]], n_labels: Sequence[int], crf: CRFSettings,
    device: str,
) -> list[torch.Tensor]:  # fmt: skip
    """The labels (T, H, W) of each image after a CRF pass from each of its cuts, images with equal kernels together."""
    if crf.full_width is None:
        lattices = DenseCRF.batch([photo.image for photo in photos], crf.preset, device=device)
        return lattices.refine_labels(cuts, n_labels, crf.gt_prob, crf.iterations)
    found: dict[int, torch.Tensor] = {}
    presets = [kernels_for(find_preset(crf.preset), narrowest(own), crf.full_width) for own in cuts]
    for preset in dict.fromkeys(presets):
        mine = [i for i, one in enumerate(presets) if one == preset]
        lattices = DenseCRF.batch([photos[i].image for i in mine], preset, device=device)
        refined = lattices.refine_labels(
            [cuts[i] for i in mine], [n_labels[i] for i in mine], crf.gt_prob, crf.iterations
        )
        found |= dict(zip(mine, refined, strict=True))
    return [found[i] for i in range(len(photos))]


def narrowest(cuts: NDArray[np.uint8]) -> float:
    """The width in pixels of the narrowest class of an image's cuts (T, H, W), by the first that holds it; 0: none."""
    labels = [label for label in np.unique(cuts) if label not in (0, IGNORE)]
    widths = [region_width(next(one for one in cuts if (one == label).any()) == label) for label in labels]
    return min(widths, default=0.0)
