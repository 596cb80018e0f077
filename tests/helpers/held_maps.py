"""Maps and truths in memory, for what looks at both: two-level maps of known optimum, and random ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from tag2mask.core.types import ActivationMaps, Sample
from tag2mask.data.base import Dataset, Labels

Content = tuple[NDArray[np.float32], tuple[int, ...], Labels | None]
"""Maps (K, H, W), their class columns, and the truth (H, W) or None."""


class Held(Dataset):
    """A split that holds its maps and truths."""

    name, split = "held", "train"

    def __init__(self, classes: Sequence[str], content: Sequence[Content]) -> None:
        self.classes = tuple(classes)
        self.samples = tuple(Sample(str(i), tags) for i, (_, tags, _) in enumerate(content))
        self.content = content

    def image(self, sample: Sample) -> Image.Image:
        raise AssertionError("no image is needed")

    def truth(self, sample: Sample) -> Labels | None:
        return self.content[int(sample.id)][2]

    @property
    def has_truth(self) -> bool:
        return any(truth is not None for _, _, truth in self.content)

    def maps(self, sample: Sample) -> ActivationMaps:
        values, classes, _ = self.content[int(sample.id)]
        return ActivationMaps(classes, torch.from_numpy(values))


def steps(object_value: float, background_value: float, column: int = 0) -> Content:
    """20 x 20 pixels: an object of 100 of them at one value, one of these at 1, and the rest at another.

    Seeds are right at thresholds from ``background_value`` on and below ``object_value``.
    """
    truth = np.zeros((20, 20), np.uint8)
    truth[5:15, 5:15] = column + 1
    values = np.full((1, 20, 20), background_value, np.float32)
    values[0, 5:15, 5:15] = object_value
    values[0, 5, 5] = 1
    return values, (column,), truth


NAMES = tuple("abcde")


def random_content(seed: int) -> list[Content]:
    """Images whose maps are high on noisy objects, with wrong pixels, void, missing and untagged classes."""
    rng = np.random.default_rng(seed)
    made: list[Content] = []
    for classes in [(0,), (1, 3), (2,), (0, 4), (1,), (3, 4), (), (2,)]:
        truth = np.zeros((14, 11), np.uint8)
        for place, column in enumerate(classes):
            truth[2 + 4 * place : 6 + 4 * place, 2:9] = column + 1
        truth[rng.random(truth.shape) < 0.1] = rng.integers(0, 6)
        truth[rng.random(truth.shape) < 0.1] = 255
        values = rng.random((len(classes), *truth.shape)).astype(np.float32) * rng.uniform(0.3, 0.9)
        for place, column in enumerate(classes):
            values[place][truth == column + 1] += rng.uniform(0.1, 0.5)
        made.append((values.clip(0, 1), classes, truth))
    return made
