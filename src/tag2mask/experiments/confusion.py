"""Which classes a classifier takes for which, and what the weights of a confusing class see (LPCAM, Figure 1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tag2mask.backbones.folded import for_inference
from tag2mask.backbones.network import TagNet
from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset
from tag2mask.data.transforms import scaled
from tag2mask.inference.maps_file import stride4
from tag2mask.inference.multiscale import merge_scales, pair_features
from tag2mask.inference.runner import image_tensor
from tag2mask.inference.settings import MapsSettings
from tag2mask.methods.cam.maps import CAMHead


@dataclass(frozen=True, slots=True)
class ImageConfusion:
    """One image under the weights of its own classes and of the one that it is taken for.

    Attributes:
        sample: the image.
        confusing: column of the absent class with the highest score.
        scores: (C,) probabilities of the classes, each by itself, 0..1.
        maps: (K + 1, h, w) CAMs in [0, 1] at stride 4, of the image's tags in order and of the confusing class.
    """

    sample: Sample
    confusing: int
    scores: NDArray[np.float32]
    maps: Tensor


@dataclass(slots=True)
class ObjectRecall:
    """Pixels of the objects that maps cover, over all images.

    Attributes:
        pixels: of the objects.
        own: of these above the threshold in the map of their class.
        confusing: in the map of the confusing class.
        either: in one of the two.
    """

    pixels: int = 0
    own: int = 0
    confusing: int = 0
    either: int = 0

    def count(self, found: ImageConfusion, truth: NDArray[np.uint8], threshold: float) -> None:
        """Add one image; ``truth`` is (H, W) labels."""
        height, width = truth.shape
        above = _resized(found.maps, height, width) > np.float32(threshold)
        for column, own in zip(found.sample.tags, above[:-1], strict=True):
            inside = truth == column + 1
            self.pixels += int(inside.sum())
            self.own += int((inside & own).sum())
            self.confusing += int((inside & above[-1]).sum())
            self.either += int((inside & (own | above[-1])).sum())


def look(
    network: TagNet, dataset: Dataset, samples: Sequence[Sample], settings: MapsSettings, device: torch.device,
    advance: Callable[[], None],
) -> list[ImageConfusion]:  # fmt: skip
    """Scores and maps of every image that has some of the trained classes and lacks others.

    Args:
        network: the classifier.
        dataset: the split.
        samples: of the split.
        settings: scales, mirror, precision and grid of the maps.
        device: where the network runs.
        advance: called after each image.

    Raises:
        DataError: an image cannot be read.
    """
    network = for_inference(network, device)
    found = []
    for sample in samples:
        absent = [c for c, trained in enumerate(network.trained) if trained and c not in sample.tags]
        if sample.tags and absent:
            found.append(_one(network, dataset, sample, absent, settings, device))
        advance()
    return found


@torch.inference_mode()
def _one(
    network: TagNet, dataset: Dataset, sample: Sample, absent: Sequence[int], settings: MapsSettings,
    device: torch.device,
) -> ImageConfusion:  # fmt: skip
    image = dataset.image(sample)
    full = image.height, image.width
    whole = image_tensor(image, full, network.mean, network.std).to(device)
    scores = network(whole[None])[0].float().sigmoid().cpu()
    confusing = max(absent, key=lambda c: float(scores[c]))
    images = (image_tensor(image, scaled(*full, s), network.mean, network.std).to(device) for s in settings.scales)
    bfloat16 = settings.precision == "bfloat16"
    features = pair_features(network.features, images, mirror=settings.mirror, bfloat16=bfloat16)
    classes = torch.tensor([*sample.tags, confusing], device=device)
    part = settings.part(full, network.stride)
    (maps,) = merge_scales(features, [CAMHead(network.class_weights())], classes, stride4(*full), part)
    return ImageConfusion(sample, confusing, scores.numpy(), maps.cpu())


def _resized(maps: Tensor, height: int, width: int) -> NDArray[np.float32]:
    from tag2mask.core.resize import bilinear

    return np.asarray(bilinear(maps, height, width).numpy(), dtype=np.float32)
