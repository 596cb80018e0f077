"""Trains pixel models: of each class whose things are thinner than its maps can show, and of no other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from tag2mask.backbones.files import WEIGHTS
from tag2mask.core.files import write_json
from tag2mask.core.prefetch import prefetch
from tag2mask.core.progress import LOG, Counter, progress
from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset
from tag2mask.label_images.kinds import PixelModelSettings
from tag2mask.label_images.stage import one_level, photo_reader
from tag2mask.methods.context import StageContext
from tag2mask.refine.crf.api import DenseCRF
from tag2mask.refine.pixels.learning import Learning, PixelNet, RegionPixels
from tag2mask.refine.pixels.model import PixelModels, save_pixels
from tag2mask.refine.pixels.regions import Mask, median_width
from tag2mask.thresholds.threshold_of import threshold_of

EVIDENCE = "pixel-model.json"
"""Why each class has a model or none: the fields of `ClassEvidence` by class name."""
_WINDOW, _LEAST_WINDOW = 1.2, 6
"""A neighbourhood's side: times the width of the active regions, and pixels at least."""
_PROBED = 24
"""Images of a class that a dense CRF is tried on."""
_READERS = 2


@dataclass(frozen=True, slots=True)
class ClassEvidence:
    """What decided whether a class has a model.

    Attributes:
        images: with an active region, of those looked at.
        width: median width of the active regions, pixels.
        kept: share of them that is left after a dense CRF, in the median; None where none was run.
        inside: share of the pixels found in active regions of images held out; None where nothing was learned.
        elsewhere: the same elsewhere.
        reason: why there is none, in words; empty where there is one.
    """

    images: int
    width: float
    kept: float | None = None
    inside: float | None = None
    elsewhere: float | None = None
    reason: str = ""


def train(context: StageContext[PixelModelSettings]) -> None:
    """Write the models of thin classes, and why each class has one or none; no ground truth is read.

    Raises:
        StageError: maps of an image are missing.
    """
    if context.rank != 0:
        return
    dataset = context.dataset
    nets: dict[int, PixelNet] = {}
    found: dict[str, ClassEvidence] = {}
    with progress(context.name, len(dataset.classes)) as counter:
        for column, name in enumerate(dataset.classes):
            net, found[name] = _one_class(context, dataset, column, counter)
            if net is not None:
                nets[column] = net
            _log(context.name, name, found[name])
    save_pixels(PixelModels(dataset.classes, nets), context.out / WEIGHTS)
    write_json(context.out / EVIDENCE, {name: asdict(evidence) for name, evidence in found.items()})


def _one_class(
    context: StageContext[PixelModelSettings], dataset: Dataset, column: int, counter: Counter
) -> tuple[PixelNet | None, ClassEvidence]:
    """The model of a class, or None with the reason."""
    settings, rng = context.settings, np.random.default_rng([context.seed, column])
    if not threshold_of(context).background.competes:
        return None, ClassEvidence(0, 0.0, reason="the data has no background, so every pixel is of a class")
    having, lacking = (_sampled([s for s in dataset.samples if (column in s.tags) == has], settings.images, rng)
                       for has in (True, False))  # fmt: skip
    active = _with_regions(context, having, column)
    width = round(median_width([region for _, region in active]), 2)
    counter.advance()
    if not active:
        return None, ClassEvidence(0, 0.0, reason="its maps are active nowhere")
    if width > settings.widest:
        reason = f"its active regions are {width:g} pixels wide, more than widest = {settings.widest:g}"
        return None, ClassEvidence(len(active), width, reason=reason)
    kept = round(float(np.median([kept_by_crf(*pair) for pair in active[:_PROBED]])), 3)
    if kept >= settings.kept:
        reason = f"a dense CRF keeps {kept:.2f} of its active regions, kept = {settings.kept:g} or more: they are solid"
        return None, ClassEvidence(len(active), width, kept, reason=reason)
    images = [RegionPixels.of(photo, region, rng) for photo, region in active]
    without = [RegionPixels.of(photo, np.zeros(photo.shape[:2], bool), rng) for photo in _photos(dataset, lacking)]
    learning = Learning(settings.share, settings.rounds, max(_LEAST_WINDOW, round(_WINDOW * width)), context.seed)
    apart = learning.held_out(images, without)
    evidence = ClassEvidence(len(active), width, kept, round(apart.inside, 4), round(apart.elsewhere, 4))
    if apart.lift < settings.lift:
        reason = f"on images held out it finds {apart.lift:.1f} times as many pixels in active regions as elsewhere, "
        reason += f"fewer than lift = {settings.lift:g}"
        return None, ClassEvidence(**{**asdict(evidence), "reason": reason})
    return learning.model(images, without), evidence


def kept_by_crf(image: NDArray[np.uint8], region: Mask) -> float:
    """What a dense CRF leaves of a region (H, W), or makes of it, as a share of its pixels.

    Where a region is solid, its colours keep it together. A thin thing in a fat region has no say: most of the region
    looks like what lies around it.
    """
    labels = DenseCRF(image).refine_labels(region.astype(np.uint8), n_labels=2)
    return float(labels.sum()) / max(1, int(region.sum()))


def _sampled(samples: Sequence[Sample], most: int, rng: np.random.Generator) -> list[Sample]:
    picked = rng.choice(len(samples), min(most, len(samples)), replace=False)
    return [samples[i] for i in sorted(picked)]


def _photos(dataset: Dataset, samples: Sequence[Sample]) -> Sequence[NDArray[np.uint8]]:
    return [np.array(image) for image in prefetch(dataset.image, samples, _READERS)]


def _with_regions(
    context: StageContext[PixelModelSettings], samples: Sequence[Sample], column: int
) -> list[tuple[NDArray[np.uint8], Mask]]:
    """Photos (H, W, 3) on which the map of a class is cut as that class somewhere, and where, (H, W)."""
    read, rule = photo_reader(context, one_level(context)), threshold_of(context).background

    def cut(sample: Sample) -> tuple[NDArray[np.uint8], Mask]:
        photo = read(sample)
        (labels,) = photo.cuts(rule, photo.classes)
        return photo.image, labels == column + 1

    return [(image, region) for image, region in prefetch(cut, samples, _READERS) if region.any()]


def _log(stage: str, name: str, evidence: ClassEvidence) -> None:
    if evidence.reason:
        LOG.info("%s: '%s' has no model: %s", stage, name, evidence.reason)
        return
    LOG.info(
        "%s: '%s' has a model: active regions are %g pixels wide in %d images; held out it finds %.1f %% of their "
        "pixels, %.1f %% of others",
        stage, name, evidence.width, evidence.images, 100 * (evidence.inside or 0), 100 * (evidence.elsewhere or 0),
    )  # fmt: skip
