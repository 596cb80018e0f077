"""A trained classifier that is asked about parts of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tag2mask.backbones.folded import for_inference
from tag2mask.backbones.network import TagNet, load_network
from tag2mask.config.engine import Engine
from tag2mask.core.files import read_json
from tag2mask.data.transforms import scaled
from tag2mask.inference.runner import image_tensor
from tag2mask.methods.cam.classifier import METRICS, WEIGHTS
from tag2mask.training.device import resolve_device

_BATCH = 8


@dataclass(frozen=True, slots=True)
class AskedClassifier:
    """A classifier ready to be asked.

    Attributes:
        net: on the device, normalised images (N, 3, h, w) to logits (N, C).
        classes: C names.
        long_side: of the images it is shown, in pixels.
        device: where it computes.
    """

    net: TagNet
    classes: tuple[str, ...]
    long_side: int
    device: torch.device

    def size(self, image: Image.Image) -> list[int]:
        """Height and width at which it is shown an image."""
        return scaled(image.height, image.width, self.long_side / max(image.size))

    def tensor(self, image: Image.Image, size: Sequence[int]) -> Tensor:
        """An image (3, height, width) of this size, normalised; 0 is the mean colour of the training."""
        return image_tensor(image, size, self.net.mean, self.net.std)

    @torch.inference_mode()
    def probabilities(self, views: Sequence[Tensor]) -> NDArray[np.float64]:
        """(N, C) of N images (3, h, w) of one size, which lie on the device."""
        parts = (views[i : i + _BATCH] for i in range(0, len(views), _BATCH))
        answers = [self.net(torch.stack(list(part))).sigmoid().double().cpu() for part in parts]
        return torch.cat(answers).numpy()


def load_asked(folder: Path, engine: Engine) -> AskedClassifier:
    """The classifier that a training left in a folder.

    Raises:
        WeightsError: the weights are not whole.
    """
    net, classes = load_network(folder / WEIGHTS)
    device = resolve_device(engine)
    return AskedClassifier(for_inference(net, device), tuple(classes), read_json(folder / METRICS)["long_side"], device)
