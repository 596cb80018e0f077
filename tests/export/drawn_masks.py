"""Masks that are hard to carry: single pixels, lines, corners that touch, rings in rings; and folders of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tag2mask.core.palette import write_labels
from tag2mask.data.readers.voc import VOC_CLASSES
from tests.helpers.draw import save_image, write

Labels = NDArray[np.uint8]
CLASSES = VOC_CLASSES  # of which the masks hold the first three


def solid() -> dict[str, Labels]:
    """Label images whose instances have no holes; of odd sizes, none square."""
    rng = np.random.default_rng(0)
    small = np.zeros((9, 13), np.uint8)
    small[0, 0], small[8, 12], small[4, 6] = 1, 2, 3  # single pixels, two of them in corners of the image
    lines = np.zeros((21, 17), np.uint8)
    lines[2], lines[:, 16] = 1, 2
    lines[np.arange(5, 15), np.arange(3, 13)] = 3  # one pixel wide, touching at corners only
    blobs = np.zeros((40, 57), np.uint8)
    for label, (y, x, radius) in enumerate([(12, 13, 11), (25, 40, 14), (33, 9, 6)], start=1):
        rows, columns = np.mgrid[:40, :57]
        blobs[(rows - y) ** 2 + (columns - x) ** 2 <= radius**2] = label
    specks = (rng.random((15, 22)) < 0.2).astype(np.uint8) * rng.integers(1, 4, (15, 22), dtype=np.uint8)
    whole = np.full((5, 7), 2, np.uint8)
    nothing = np.zeros((6, 4), np.uint8)
    unsure = blobs.copy()
    unsure[:, 20:30] = 255
    return {
        "small": small, "lines": lines, "blobs": blobs, "specks": specks, "whole": whole, "nothing": nothing,
        "unsure": unsure, "one": np.ones((1, 1), np.uint8),
    }  # fmt: skip


def holed() -> dict[str, Labels]:
    """Label images with holes: a ring with another class in it, holes beside holes, noise."""
    ring = np.zeros((20, 30), np.uint8)
    ring[2:18, 3:27], ring[5:15, 8:20], ring[7:12, 10:15], ring[9, 12] = 1, 0, 2, 1
    grid = np.ones((11, 15), np.uint8)
    grid[1::2, 1::2] = 0
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 3, (31, 23), dtype=np.uint8)
    return {"ring": ring, "grid": grid, "noise": noise}


def mask_folder(root: Path, masks: dict[str, Labels], photos: bool = True) -> Path:
    """Write ``root/masks``, ``root/classes.txt`` and, where asked for, ``root/photos``; returns ``root``."""
    for name, labels in masks.items():
        write_labels(root / "masks" / f"{name}.png", labels)
        if photos:
            pixels = np.repeat(labels[..., None] % 5 * 50, 3, axis=2)
            save_image(root / "photos" / f"{name}.jpg", pixels)
    write(root / "classes.txt", "".join(f"{name}\n" for name in CLASSES))
    return root
