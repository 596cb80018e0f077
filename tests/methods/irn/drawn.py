"""Drawn images with their seeds for the boundary network, and its training for torchrun."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tag2mask.config.settings import validate
from tag2mask.core.types import Sample
from tag2mask.data.base import Labels
from tag2mask.methods.irn.settings import IrnSettings
from tag2mask.methods.irn.training import train_boundary
from tests.training.toy import Drawn, engine

SIZE = (64, 80)
TAGS: list[tuple[int, ...]] = [(0,), (1,), (2,), (0, 1), (1, 2), (0, 2), (0, 1, 2), ()]


def data(tags: list[tuple[int, ...]] | None = None) -> Drawn:
    """Images of noise in which each class brightens its own quarter."""
    return Drawn(TAGS if tags is None else tags, size=SIZE)


def seeds(sample: Sample) -> Labels:
    """The quarters of the classes, background elsewhere, unsure at the left edge."""
    height, width = SIZE
    labels = np.zeros(SIZE, dtype=np.uint8)
    for c in sample.tags:
        rows, columns = (c // 3 % 2) * height // 2, (c % 2) * width // 2
        labels[rows : rows + height // 2, columns : columns + width // 2] = c + 1
    labels[:, :4] = 255
    return labels


def settings(radius: int = 4, **train: Any) -> IrnSettings:
    """A tiny network with random weights, two short epochs."""
    schedule = {"epochs": 2, "batch_size": 4, "accumulate": 2, "crop": 64, "rescale": (0.8, 1.2), **train}
    backbone = {"name": "test_efficientnet", "weights": "none"}
    return validate(IrnSettings, {"backbone": backbone, "train": schedule, "radius": radius}, "irn")


def main(out: Path) -> None:
    """Train two epochs, with batches in two parts and in four."""
    torch.set_num_threads(1)
    for parts in (2, 4):
        train_boundary(data(), seeds, settings(accumulate=parts), out=out / str(parts), seed=0, engine=engine())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
