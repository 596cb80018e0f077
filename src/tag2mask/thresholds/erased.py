"""The rule that erases, in the pipeline: what scores high is painted over, and the classifier looks again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from tag2mask.config.engine import Engine
from tag2mask.core.resize import bilinear
from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset
from tag2mask.evaluation.threshold_rules.erased import Erasures, choose_erased, levels_of
from tag2mask.evaluation.threshold_rules.score_evidence import cells
from tag2mask.evaluation.threshold_rules.score_rules import ClassChoice
from tag2mask.methods.artefact import Artefact
from tag2mask.methods.cam.classifier import LoadedClassifier, load_classifier
from tag2mask.thresholds.kinds import ErasureSettings, sampled

_BLUR = 16
"""What is painted over takes the colours around it, blurred by this part of the long side."""
_FINE = 4.0
"""Cells that the blur is computed on, to its standard deviation."""


def erased_choices(
    maps: Artefact,
    classifier: Artefact,
    dataset: Dataset,
    settings: ErasureSettings,
    engine: Engine,
    spare: Callable[[int], ClassChoice],
    advance: Callable[[], None],
    seed: int = 0,
) -> list[ClassChoice]:
    """What the rule says of every class, of at most ``settings.images`` images of each.

    Args:
        maps: with raw scores.
        classifier: behind them.
        dataset: the images.
        settings: of the stage.
        engine: device.
        spare: what stands in the place of a class that nothing is said of.
        advance: called after each class.
        seed: of the draws.
    """
    net = load_classifier(classifier.path, engine, dataset)
    found: list[Erasures | None] = []
    for column in range(len(dataset.classes)):
        having = [s for s in dataset.samples if column in s.tags]
        few = sampled(having, settings.images, per_class=False)
        found.append(_of_class(net, maps, dataset, few, column) if few else None)
        advance()
    return choose_erased(found, spare, seed)


def _of_class(
    net: LoadedClassifier, maps: Artefact, dataset: Dataset, samples: Sequence[Sample], column: int
) -> Erasures:
    scores = [_score(maps, dataset, sample, column) for sample in samples]
    levels = levels_of(sum((cells(score.numpy())[0] for score in scores), np.zeros(1, np.int64)))
    logits = np.array(
        [_logits(net, dataset, sample, score, levels, column) for sample, score in zip(samples, scores, strict=True)]
    )
    return Erasures(levels, logits[:, 0], logits[:, 1:])


def _score(maps: Artefact, dataset: Dataset, sample: Sample, column: int) -> Tensor:
    """The raw scores (1, h, w) of one class."""
    found = maps.maps(dataset, sample, "raw")
    place = found.classes.index(column)
    return found.maps[place : place + 1]


@torch.inference_mode()
def _logits(
    net: LoadedClassifier, dataset: Dataset, sample: Sample, score: Tensor, levels: np.ndarray, column: int
) -> list[float]:
    """The class's logit in the whole image, and with what lies above each level painted over."""
    image = dataset.image(sample)
    size = net.size(image)
    pixels = net.tensor(image, size)
    where = bilinear(score, *size)[0]
    views = [pixels, *(painted_over(pixels, where > float(level)) for level in levels)]
    return [logit(net, column, view) for view in views]


@torch.inference_mode()
def logit(net: LoadedClassifier, column: int, view: Tensor) -> float:
    """A class's logit in an image (3, H, W), normalised."""
    batch = view[None].to(net.device).contiguous(memory_format=torch.channels_last)
    return float(net.net(batch)[0, column])


def painted_over(pixels: Tensor, mask: Tensor) -> Tensor:
    """An image (3, H, W) whose pixels in a mask (H, W) have the blurred colours of those outside of it.

    Where nothing is outside, or far away, they are 0, the mean colour.
    """
    if not mask.any():
        return pixels
    outside = (~mask).to(pixels.dtype)
    sigma = max(mask.shape) / _BLUR
    cells = [max(1, round(side / max(1.0, sigma / _FINE))) for side in mask.shape]  # a blur so wide needs no more
    planes = adaptive_avg_pool2d(torch.stack([*(pixels * outside), outside]), (cells[0], cells[1])).numpy()
    wide = [
        gaussian_filter(plane, [sigma * n / side for n, side in zip(cells, mask.shape, strict=True)])
        for plane in planes
    ]
    *colours, weight = bilinear(torch.from_numpy(np.stack(wide)), *mask.shape)
    return torch.where(mask, torch.stack(colours) / weight.clamp(min=1e-3), pixels)
