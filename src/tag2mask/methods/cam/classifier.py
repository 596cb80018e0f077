"""Runs a trained classifier: average precision on a held-out split, class probabilities of parts of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from tag2mask.backbones.files import METRICS_JSON, WEIGHTS, load_network
from tag2mask.backbones.folded import for_inference
from tag2mask.backbones.tagnet import TagNet
from tag2mask.config.engine import Engine
from tag2mask.core.errors import DataError
from tag2mask.core.files import read_json
from tag2mask.core.prefetch import prefetch
from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset
from tag2mask.data.transforms import normalise, scaled
from tag2mask.inference.runner import image_tensor
from tag2mask.training.device import resolve_device
from tag2mask.training.images import tag_vector

_BATCH = 8


def average_precision(folder: Path, dataset: Dataset, engine: Engine) -> dict[str, float | None]:
    """Average precision of a trained classifier on a held-out split, whole images one at a time.

    Computed by this process alone.

    Args:
        folder: as `train_classifier` left it.
        dataset: the held-out split, of the same classes.
        engine: device.

    Returns:
        Percent by class, None for a class that was not trained or has no image here.
    """
    about = read_json(folder / METRICS_JSON)
    if list(dataset.classes) != about["classes"]:
        raise DataError(
            f"split '{dataset.split}' has the classes {list(dataset.classes)}, the classifier in {folder} was trained "
            f"on {about['classes']}: give the classifier and the split the same data.classes"
        )
    net, _ = load_network(folder / WEIGHTS)
    device = resolve_device(engine)
    logits, tags = predict(net.to(device), dataset, dataset.samples, about["long_side"], device)
    return {
        name: _percent(logits[:, c], tags[:, c]) if trained and tags[:, c].any() else None
        for c, (name, trained) in enumerate(zip(about["classes"], about["trained"], strict=True))
    }


def mean_precision(scores: Mapping[str, float | None]) -> float | None:
    """Mean of the average precisions that there are, in percent; None where there is none."""
    counted = [v for v in scores.values() if v is not None]
    return sum(counted) / len(counted) if counted else None


def _percent(logits: Tensor, tags: Tensor) -> float:
    """Average precision of one class from its logits and tags, both (n,), at least one of them present."""
    return 100 * float(binary_average_precision(logits.double().sigmoid(), tags.long()))


def binary_average_precision(scores: Tensor, tags: Tensor) -> Tensor:
    """The sum over the ranks of precision times the gain in recall; equal scores are one rank.

    Args:
        scores: (n,), the higher the earlier.
        tags: (n,) int64 0 and 1, at least one of them 1.
    """
    order = scores.argsort(descending=True)
    ranks = F.pad(scores[order].diff().nonzero()[:, 0], (0, 1), value=len(scores) - 1)
    hits = tags[order].cumsum(0)[ranks]
    precision, recall = hits / (ranks + 1), hits / hits[-1]
    return -(F.pad(recall.flip(0), (0, 1)).diff() * precision.flip(0)).sum()


@torch.no_grad()
def predict(
    net: TagNet, dataset: Dataset, samples: Sequence[Sample], long_side: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Logits and tags of samples, both (n, C) on the CPU, whole images one at a time.

    The network is in evaluation mode afterwards.

    Args:
        net: on the device.
        dataset: opens the images.
        samples: which of them.
        long_side: in pixels, at which an image is shown.
        device: where the network is.
    """
    net = net.eval()
    to_tensor = normalise(net.mean, net.std)

    def prepare(sample: Sample) -> Tensor:
        image = dataset.image(sample)
        height, width = scaled(image.height, image.width, long_side / max(image.size))
        resized = image.resize((width, height), Image.Resampling.BICUBIC)  # as in training
        tensor: Tensor = to_tensor(resized).as_subclass(Tensor)
        return tensor[None]

    logits = [net(image.to(device)).cpu() for image in prefetch(prepare, samples)]
    return torch.cat(logits), torch.stack([tag_vector(s, len(dataset.classes)) for s in samples])


@dataclass(frozen=True, slots=True)
class LoadedClassifier:
    """A trained classifier on its device, in evaluation mode.

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


def load_classifier(folder: Path, engine: Engine, dataset: Dataset | None = None) -> LoadedClassifier:
    """The classifier that a training left in a folder.

    Raises:
        DataError: it is of other classes than ``dataset``, where one is given.
    """
    net, classes = load_network(folder / WEIGHTS)
    if dataset is not None and dataset.classes != classes:
        raise DataError(
            f"split '{dataset.split}' has the classes {list(dataset.classes)}, the classifier in {folder} was trained "
            f"on {list(classes)}: give both the same data.classes"
        )
    device = resolve_device(engine)
    return LoadedClassifier(
        for_inference(net, device), tuple(classes), read_json(folder / METRICS_JSON)["long_side"], device
    )
