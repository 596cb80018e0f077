"""Raw class scores of drawn data in a second: a pixel-wise network on fixed filters, trained on the tags alone.

It stands in for a classifier where tests ask what comes behind its scores: like one, it sees tags and no mask, an
image's score is the mean of its highest cells, and its maps are right in places and wrong in others.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F

from tag2mask.data.readers.parts import PartsDataset, PartsSettings, Scenes, open_split
from tag2mask.data.scenes.layout import Difficulty

STRIDE = 2
SHARE = 0.05
"""Of an image's cells, whose mean is its score."""


@dataclass(frozen=True)
class Scored:
    """Scores of a split.

    Attributes:
        dataset: its images.
        scores: (N, C, h, w), logits of each class's presence in each cell, absent classes included.
        truths: (N, H, W) uint8, ground truth.
    """

    dataset: PartsDataset
    scores: NDArray[np.float32]
    truths: NDArray[np.uint8]


@cache
def scored(
    scenes: Scenes, images: int = 40, side: int = 80, steps: int = 120, difficulty: Difficulty = "medium"
) -> Scored:
    """Train on a drawn split and score it; the same on every call."""
    values: dict[str, Any] = {"scenes": scenes, "images": images, "size": (side, side), "difficulty": difficulty}
    dataset = open_split(PartsSettings(**values), "train")
    pictures = [np.asarray(dataset.image(s), np.float32) / np.float32(255) for s in dataset.samples]
    cells = torch.from_numpy(np.stack([filtered(picture) for picture in pictures]))  # (N, cells, filters)
    cells = (cells - cells.mean((0, 1))) / cells.std((0, 1))
    tags = torch.zeros(images, len(dataset.classes))
    for row, sample in enumerate(dataset.samples):
        tags[row, list(sample.tags)] = 1
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(cells.shape[2], 16), nn.ReLU(), nn.Linear(16, tags.shape[1]))
    optimiser = torch.optim.AdamW(net.parameters(), lr=0.02, weight_decay=1.0)
    for _ in range(steps):
        optimiser.zero_grad()
        loss = F.binary_cross_entropy_with_logits(pooled(net(cells)), tags)
        torch.autograd.backward(loss)
        optimiser.step()
    with torch.no_grad():
        found = net(cells).movedim(2, 1).unflatten(2, (side // STRIDE, side // STRIDE)).numpy()
    return Scored(dataset, found, np.stack([dataset.truth(s) for s in dataset.samples]))


def pooled(scores: Tensor, share: float = SHARE) -> Tensor:
    """(N, cells, C) -> (N, C): the mean of each class's highest cells."""
    return scores.topk(max(1, round(share * scores.shape[1])), dim=1).values.mean(1)


def filtered(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """(H, W, 3) in 0..1 -> (cells, F): colours near and far, what stands out at three sizes, and how rough it is."""
    grey = picture.mean(axis=2)
    blurred = {sigma: ndimage.gaussian_filter(grey, sigma) for sigma in (1, 2, 4, 8)}
    planes = [ndimage.gaussian_filter(picture[..., i], 1) for i in range(3)]
    planes += [ndimage.gaussian_filter(picture[..., i], 5) for i in range(3)]
    planes += [blurred[1] - blurred[2], blurred[1] - blurred[4], blurred[2] - blurred[8]]
    planes += [np.sqrt(ndimage.gaussian_filter((grey - blurred[s]) ** 2, 2 * s)) for s in (1, 2)]
    stack = torch.from_numpy(np.stack(planes).astype(np.float32))[None]
    found: NDArray[np.float32] = F.avg_pool2d(stack, STRIDE)[0].flatten(1).T.contiguous().numpy()
    return found
