"""Photos on disk, and what `tag2mask predict` makes of them with a known network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tag2mask.segmentation.predict.batch import Outcome, predict_photos
from tag2mask.segmentation.predict.find_photos import find_sources
from tag2mask.segmentation.predict.labeller import Labeller
from tag2mask.segmentation.predict.logits import LoadedNetwork
from tag2mask.segmentation.predict.mask_folder import MasksFolder
from tag2mask.segmentation.predict.options import PredictOptions
from tag2mask.segmentation.predict.photo_readers import MAX_PIXELS
from tests.segmentation.toy_net import CLASSES, MEAN, STD, Colours


def noise(height: int, width: int, channels: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, (height, width, channels), dtype=np.uint8)


def save(path: Path, image: NDArray[np.uint8] | None = None, **words: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(6, 8) if image is None else image).save(path, **words)
    return path


def predict(
    photos: Path | str,
    out: Path,
    *,
    net: Colours | None = None,
    network: str = "aa",
    options: PredictOptions | None = None,
    overlay: bool = False,
    batch: int = 1,
    max_pixels: int = MAX_PIXELS,
) -> Outcome:
    """What the command does."""
    chosen = options or PredictOptions()
    folder = MasksFolder(out, network, CLASSES, chosen, overlay)
    folder.prepare()
    made = Labeller(LoadedNetwork(net or Colours(), MEAN, STD, CLASSES), chosen, batch)
    return predict_photos(find_sources([photos], out), made, folder, max_pixels)


def reasons(outcome: Outcome) -> dict[str, str]:
    return {failure.path.name: failure.reason for failure in outcome.failed}
