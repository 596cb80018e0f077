"""A trained AMN asked about images under any tags, not only their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from tag2mask.backbones.folded import for_inference
from tag2mask.config.engine import Engine
from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset
from tag2mask.data.transforms import scaled
from tag2mask.inference.maps_file import stride4
from tag2mask.inference.runner import image_tensor
from tag2mask.methods.amn.files import WEIGHTS, load_amn
from tag2mask.methods.amn.maps import image_logits
from tag2mask.methods.amn.settings import AmnMapsSettings
from tag2mask.methods.artefact import Artefact
from tag2mask.training.device import resolve_device


def told(maps: Artefact, dataset: Dataset, engine: Engine) -> Callable[[Sample, Sequence[int]], NDArray[np.float32]]:
    """The network behind a stage of kind ``amn-maps``, at its scales.

    Args:
        maps: the finished stage.
        dataset: the split that the images are of.
        engine: device.

    Returns:
        A function of a sample and class columns that gives the softmax (C + 1, h, w) at stride 4, background first, of
        the image that is tagged with these classes. It raises what reading an image raises.

    Raises:
        WeightsError: AMN's file is not whole.
    """
    settings: AmnMapsSettings = maps.settings
    net, classes = load_amn(maps.reads["amn"].path / WEIGHTS)
    device = resolve_device(engine)
    net = for_inference(net, device)

    @torch.inference_mode()
    def probabilities(sample: Sample, columns: Sequence[int]) -> NDArray[np.float32]:
        image = dataset.image(sample)
        full = image.height, image.width
        tags = torch.zeros(len(classes), device=device)
        tags[list(columns)] = 1
        images = (image_tensor(image, scaled(*full, s), net.mean, net.std).to(device) for s in settings.scales)
        bfloat16 = settings.precision == "bfloat16"
        logits = image_logits(net, images, tags, stride4(*full), mirror=settings.mirror, bfloat16=bfloat16)
        return logits.softmax(0).cpu().numpy()

    return probabilities
