"""Make the pictures of the drawn kinds of data for the docs: four of each, with their ground truth below.

Run ``python docs/make_kinds.py`` from the repository's root: writes ``docs/figures/KIND.png``. Colours are few, so that
the files are small.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tag2mask.core.palette import voc_palette
from tag2mask.data.readers.parts import DRAWN, PartsSettings, Scenes, open_split

ROOT = Path(__file__).resolve().parent.parent
SHOWN: dict[Scenes, tuple[int, ...]] = {
    "lines": (0, 1, 2, 3),
    "defects": (0, 1, 2, 4),
    "patchwork": (1, 2, 3, 4),
    "blobs": (0, 1, 2, 3),
    "lookalikes": (0, 1, 3, 4),
}
"""Numbers of the pictures."""
SIZE = (120, 160)
GAP = 4
COLOURS = 64


def sheet(scenes: Scenes) -> Image.Image:
    """Pictures of one kind side by side on white, each above its ground truth in VOC's colours."""
    values: dict[str, Any] = {"scenes": scenes, "images": 1 + max(SHOWN[scenes]), "size": SIZE}
    dataset = open_split(PartsSettings(**values), "train")
    palette = np.array(voc_palette(), np.uint8).reshape(256, 3)
    height, width = SIZE
    page = np.full((2 * height + GAP, len(SHOWN[scenes]) * (width + GAP) - GAP, 3), 255, np.uint8)
    for place, number in enumerate(SHOWN[scenes]):
        sample, columns = dataset.samples[number], slice(place * (width + GAP), place * (width + GAP) + width)
        page[:height, columns] = np.asarray(dataset.image(sample))
        page[height + GAP :, columns] = palette[dataset.truth(sample)]
    return Image.fromarray(page)


if __name__ == "__main__":
    for kind in DRAWN:
        sheet(kind).quantize(COLOURS, dither=Image.Dither.NONE).save(
            ROOT / "docs" / "figures" / f"{kind}.png", optimize=True
        )
