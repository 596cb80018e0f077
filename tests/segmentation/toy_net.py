"""Networks whose predictions are known, for tests of what is around them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tag2mask.refine.crf.presets import CRFPreset
from tag2mask.segmentation.predict.logits import (
    LoadedNetwork,
    Network,
    Pixels,
    most_probable,
    predict_batch,
    refined,
)
from tag2mask.segmentation.predict.options import Precision

MEAN, STD = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
CLASSES = ("disc", "square")


class Colours(nn.Module):
    """Three labels by colour: the logits of a pixel are `GAIN` times its own R, G and B."""

    GAIN = 20.0

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(self.GAIN))
        self.batches: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.batches.append(len(images))
        return images * self.gain


def colours(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """A photo whose labels are 0, 1 or 2 where red, green or blue is strongest."""
    rng = np.random.default_rng(seed)
    values = np.array([[200, 20, 20], [20, 200, 20], [20, 20, 200]], np.uint8)
    photo: NDArray[np.uint8] = values[rng.integers(0, 3, (height, width))]
    return photo


def convolutions(radius: int, labels: int = 3, seed: int = 0) -> nn.Module:
    """A random network that looks ``radius`` pixels to each side, at least 1."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        far = nn.Conv2d(3, 4, 3, padding=radius, dilation=radius)
        return nn.Sequential(far, nn.ReLU(), nn.Conv2d(4, labels, 1)).eval()


def predict_probabilities(
    net: Network,
    image: Pixels,
    mean: Sequence[float] = MEAN,
    std: Sequence[float] = STD,
    scales: Sequence[float] = (1.0,),
    mirror: bool = False,
    precision: Precision = "float32",
) -> Tensor:
    """(C + 1, H, W) of one photo, as a whole."""
    network = LoadedNetwork(net, _three(mean), _three(std), ())
    return predict_batch(network, [image], scales, mirror, precision)[0]


def predict_labels(
    net: Network,
    image: Pixels,
    mean: Sequence[float] = MEAN,
    std: Sequence[float] = STD,
    scales: Sequence[float] = (1.0,),
    mirror: bool = False,
    crf: CRFPreset | None = None,
) -> Pixels:
    """(H, W) of one photo, as a whole: what every other way to compute it should give."""
    found = predict_probabilities(net, image, mean, std, scales, mirror)
    return most_probable(found if crf is None else refined(found, image, crf))


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    first, second, third = values
    return first, second, third
