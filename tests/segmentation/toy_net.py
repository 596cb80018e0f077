"""Networks whose predictions are known, for tests of what is around them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

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


def convolutions(radius: int, labels: int = 3, seed: int = 0) -> nn.Module:
    """A random network that looks ``radius`` pixels to each side, at least 1."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        far = nn.Conv2d(3, 4, 3, padding=radius, dilation=radius)
        return nn.Sequential(far, nn.ReLU(), nn.Conv2d(4, labels, 1)).eval()
