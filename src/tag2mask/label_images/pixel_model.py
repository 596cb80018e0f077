"""Trains pixel models: of each class whose things are finer than its maps can show, and of no other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from tag2mask.backbones.files import WEIGHTS
from tag2mask.core.files import write_json
from tag2mask.core.prefetch import prefetch
from tag2mask.core.progress import LOG, Counter, progress
from tag2mask.core.types import Sample
from tag2mask.label_images.kinds import PixelModelSettings
from tag2mask.label_images.stage import one_level, photo_reader
from tag2mask.label_images.thin import POSSIBLE
from tag2mask.methods.cam.classifier import LoadedClassifier, load_classifier
from tag2mask.methods.context import StageContext
from tag2mask.refine.crf.api import DenseCRF
from tag2mask.refine.pixels.learning import Learning, PixelNet, RegionPixels
from tag2mask.refine.pixels.model import PixelModels, save_pixels
from tag2mask.refine.pixels.regions import Mask, median_width
from tag2mask.thresholds.erased import logit, painted_over
from tag2mask.thresholds.threshold_of import threshold_of

EVIDENCE = "pixel-model.json"
"""Why each class has a model or none: the fields of `ClassEvidence` by class name."""
_WINDOW, _LEAST_WINDOW = 1.2, 6
"""A neighbourhood's side: times the width of the active regions, and pixels at least."""
_PROBED = 24
"""Images of a class that are looked at to decide whether it has a model."""
_HALVES = 2
_PAINTED = 0.3
"""Share of a cell of the image as the classifier sees it from which on the cell is painted over."""
_READERS = 2

Photo = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class ClassEvidence:
    """What decided whether a class has a model.

    Attributes:
        images: with an active region, of those looked at.
        width: median width of the active regions, pixels.
        kept: share of them that is left after a dense CRF, in the median; None where none was run.
        area: share of the active regions of images held out that a model finds; None where nothing was learned.
        fall: share of what the classifier's score loses with the whole regions that painting over this takes away.
        reason: why there is none, in words; empty where there is one.
    """

    images: int
    width: float
    kept: float | None = None
    area: float | None = None
    fall: float | None = None
    reason: str = ""

    @property
    def worth(self) -> float:
        """How far the found pixels are the class and the rest of the regions is not: see `PixelModelSettings.worth`."""
        if not self.area or self.fall is None or self.kept is None or self.fall <= 0:
            return 0.0
        return self.fall * (self.fall / self.area) * (1 - min(1.0, self.kept))


def train(context: StageContext[PixelModelSettings]) -> None:
    """Write the models of fine classes, and why each class has one or none; no ground truth is read.

    Where things are finer than the cells of the maps, an active region is mostly something else: a dense CRF takes most
    of it away, and a few of its pixels hold what the classifier sees of the class, far more than their share of the
    area. Of a solid thing some pixels are painted over in vain, the rest shows it as well.

    Raises:
        StageError: maps of an image are missing.
        DataError: the classifier is of other classes.
    """
    if context.rank != 0:
        return
    dataset = context.dataset
    classifier = load_classifier(context.reads["classifier"].path, context.engine, dataset)
    nets: dict[int, PixelNet] = {}
    found: dict[str, ClassEvidence] = {}
    with progress(context.name, len(dataset.classes)) as counter:
        for column, name in enumerate(dataset.classes):
            net, found[name] = _one_class(context, classifier, column, counter)
            if net is not None:
                nets[column] = net
            _log(context.name, name, found[name])
    save_pixels(PixelModels(dataset.classes, nets), context.out / WEIGHTS)
    write_json(context.out / EVIDENCE, {name: asdict(evidence) for name, evidence in found.items()})


def _one_class(
    context: StageContext[PixelModelSettings], classifier: LoadedClassifier, column: int, counter: Counter
) -> tuple[PixelNet | None, ClassEvidence]:
    """The model of a class, or None with the reason."""
    settings, samples = context.settings, context.dataset.samples
    rng = np.random.default_rng([context.seed, column])
    counter.advance()
    if not threshold_of(context).background.competes:
        return None, ClassEvidence(0, 0.0, reason="the data has no background, so every pixel is of a class")
    having, lacking = (_shuffled([s for s in samples if (column in s.tags) == has], settings.images, rng)
                       for has in (True, False))  # fmt: skip
    probed = _with_regions(context, having[:_PROBED], column)
    if not probed:
        return None, ClassEvidence(0, 0.0, reason="its maps are active nowhere")
    width = round(median_width([region for _, region in probed]), 2)
    kept = round(float(np.median([kept_by_crf(*pair) for pair in probed])), 3)
    if kept > settings.kept:
        reason = (
            f"a dense CRF keeps {kept:.2f} of its active regions, more than kept = {settings.kept:g}: they are solid"
        )
        return None, ClassEvidence(len(probed), width, kept, reason=reason)
    window = max(_LEAST_WINDOW, round(_WINDOW * width))
    learning = Learning(settings.share, settings.rounds, window, context.seed)
    learned = [RegionPixels.of(photo, region, rng) for photo, region in probed]
    without = _without(context, lacking[:_PROBED], rng)
    area, fall = _held_out(learning, learned, without, [photo for photo, _ in probed], classifier, column)
    evidence = ClassEvidence(len(probed), width, kept, round(area, 4), round(fall, 4))
    if evidence.worth < settings.worth:
        reason = f"painting over the {100 * area:.0f} % of its active regions that it finds takes away "
        reason += f"{100 * fall:.0f} % of what the classifier's score loses with all of them, and a dense CRF keeps "
        reason += f"{kept:.2f} of them: worth {evidence.worth:.2f}, less than {settings.worth:g}"
        return None, replace(evidence, reason=reason)
    rest = [RegionPixels.of(*pair, rng) for pair in _with_regions(context, having[_PROBED:], column)]
    return learning.model([*learned, *rest], [*without, *_without(context, lacking[_PROBED:], rng)]), evidence


def kept_by_crf(image: Photo, region: Mask) -> float:
    """What a dense CRF leaves of a region (H, W), or makes of it, as a share of its pixels.

    Where a region is solid, its colours keep it together. A fine thing in a fat region has no say: most of the region
    looks like what lies around it.
    """
    labels = DenseCRF(image).refine_labels(region.astype(np.uint8), n_labels=2)
    return float(labels.sum()) / max(1, int(region.sum()))


def _held_out(
    learning: Learning, images: Sequence[RegionPixels], without: Sequence[RegionPixels], photos: Sequence[Photo],
    classifier: LoadedClassifier, column: int,
) -> tuple[float, float]:  # fmt: skip
    """`erased_by` of each half of the images, by a model of the other; nothing is found where there is one image."""
    if len(images) < _HALVES:
        return 0.0, 0.0
    halves = [slice(half, None, _HALVES) for half in range(_HALVES)]
    nets = [learning.model(images[mine], without[mine]) for mine in halves]
    found = [
        erased_by(net, images[other], photos[other], classifier, column)
        for net, other in zip(nets, reversed(halves), strict=True)
    ]
    area, fall = np.mean(found, axis=0)
    return float(area), float(fall)


def erased_by(
    net: PixelNet, images: Sequence[RegionPixels], photos: Sequence[Photo], classifier: LoadedClassifier, column: int
) -> tuple[float, float]:
    """How much of the regions a model finds, and of the classifier's score that painting over it takes away.

    Args:
        net: of the class.
        images: with their regions.
        photos: (H, W, 3) uint8 each.
        classifier: to be asked.
        column: of the class.

    Returns:
        Share of the regions' pixels, 0..1, and of the fall of the mean logit with the whole regions, at most 1; 0 where
        the logit does not fall with them.
    """
    taken, logits = [], []
    for image, photo in zip(images, photos, strict=True):
        found = np.zeros(image.region.shape, bool)
        found[image.region] = net.scores(image.inside) > np.log(POSSIBLE / (1 - POSSIBLE))
        taken.append([float(found.sum()), float(len(image.inside))])
        picture = Image.fromarray(photo)
        pixels = classifier.tensor(picture, classifier.size(picture))
        views = [pixels, *(painted_over(pixels, _shrunk(mask, pixels.shape[1:])) for mask in (image.region, found))]
        logits.append([logit(classifier, column, view) for view in views])
    (area, of), (whole, none, rest) = np.sum(taken, axis=0), np.mean(logits, axis=0)
    return float(area / max(1, of)), float(min(1, (whole - rest) / (whole - none))) if whole > none else 0.0


def _shrunk(mask: Mask, size: Sequence[int]) -> torch.Tensor:
    """A mask (H, W) on another grid: cells of which a part is in it, or what is thin would fall between them."""
    height, width = size
    share = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(mask)[None].float(), (height, width))[0]
    return share > _PAINTED


def _shuffled(samples: Sequence[Sample], most: int, rng: np.random.Generator) -> list[Sample]:
    picked = rng.choice(len(samples), min(most, len(samples)), replace=False)
    return [samples[i] for i in picked]


def _without(
    context: StageContext[PixelModelSettings], samples: Sequence[Sample], rng: np.random.Generator
) -> list[RegionPixels]:
    """Images without the class, whose pixels are all of something else."""
    photos = (np.array(image) for image in prefetch(context.dataset.image, samples, _READERS))
    return [RegionPixels.of(photo, np.zeros(photo.shape[:2], bool), rng) for photo in photos]


def _with_regions(
    context: StageContext[PixelModelSettings], samples: Sequence[Sample], column: int
) -> list[tuple[Photo, Mask]]:
    """Photos (H, W, 3) on which the map of a class is cut as that class somewhere, and where, (H, W)."""
    read, rule = photo_reader(context, one_level(context)), threshold_of(context).background

    def cut(sample: Sample) -> tuple[Photo, Mask]:
        photo = read(sample)
        (labels,) = photo.cuts(rule, photo.classes)
        return photo.image, labels == column + 1

    return [(image, region) for image, region in prefetch(cut, samples, _READERS) if region.any()]


def _log(stage: str, name: str, evidence: ClassEvidence) -> None:
    if evidence.reason:
        LOG.info("%s: '%s' has no model: %s", stage, name, evidence.reason)
        return
    LOG.info(
        "%s: '%s' has a model: painting over the %.0f %% of its active regions that it finds takes away %.0f %% of "
        "what the classifier's score loses with all of them (%d images)",
        stage, name, 100 * (evidence.area or 0), 100 * (evidence.fall or 0), evidence.images,
    )  # fmt: skip
