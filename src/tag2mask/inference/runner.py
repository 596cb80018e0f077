"""Maps of many images: one forward pass an image serves every method that reads the same network.

One image with its mirror is the unit of computing, so a file depends on its image alone: resuming, adding an image
or sharing the work over processes changes no byte. Decoding and resizing overlap the network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tag2mask.backbones.folded import for_inference
from tag2mask.core.prefetch import prefetch_known
from tag2mask.core.progress import Counter
from tag2mask.core.types import ActivationMaps, Sample
from tag2mask.data.base import Dataset
from tag2mask.data.transforms import scaled
from tag2mask.inference.maps_file import stride4
from tag2mask.inference.multiscale import MapHead, mean_of_scales, normalise, pair_features
from tag2mask.inference.raw_scores import RawScores
from tag2mask.inference.settings import MapsSettings

if TYPE_CHECKING:
    from tag2mask.backbones.tagnet import TagNet


@dataclass(frozen=True, slots=True)
class MapTask:
    """One method's share of a pass.

    Attributes:
        head: features of one scale -> maps.
        wants: whether this sample's file is still to be made.
        write: takes the sample, its maps at stride 4, and the image's (height, width).
        raw: gives raw scores to be kept beside the maps; None where none are.
    """

    head: MapHead
    wants: Callable[[Sample], bool]
    write: Callable[[Sample, ActivationMaps, tuple[int, int]], None]
    raw: RawScores | None = None


def image_tensor(image: Image.Image, size: Sequence[int], mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """A normalised (3, H, W) tensor of an RGB image, resized (bicubic) to ``size`` = (H, W) before normalising."""
    height, width = size
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    scale, shift = 1 / (255 * np.asarray(std, np.float32)), np.asarray(mean, np.float32) / np.asarray(std, np.float32)
    values = np.asarray(image, dtype=np.float32) * scale - shift
    return torch.from_numpy(values).permute(2, 0, 1)


@torch.inference_mode()
def make_maps(
    network: TagNet,
    tasks: Sequence[MapTask],
    dataset: Dataset,
    samples: Sequence[Sample],
    settings: MapsSettings,
    device: torch.device,
    counter: Counter,
    side: int | None = None,
    levels: bool = False,
) -> None:
    """Make the maps of ``samples`` that any task wants, and hand them over image by image.

    Args:
        network: gives features; put in evaluation mode, moved to the device and to channels-last.
        tasks: one for each method.
        dataset: opens the images.
        samples: in the order of work.
        settings: scales, mirror, precision and grid, the same for all tasks.
        device: where the network runs.
        counter: advanced by one for each sample, those already done included.
        side: longest side of whole images in the network's training; None where they kept their sizes.
        levels: the features are the network's levels, see `TagNet.levels_alone`.
    """
    network = for_inference(network, device)
    read: Callable[[Tensor], Tensor] = network.levels_alone if levels else network.features

    def prepare(sample: Sample) -> tuple[Sample, tuple[int, int], list[Tensor]] | None:
        if not any(task.wants(sample) for task in tasks):
            return None
        if not sample.tags and not any(task.raw for task in tasks if task.wants(sample)):
            return sample, dataset.image(sample).size[::-1], []
        image = dataset.image(sample)
        size = (image.height, image.width)
        sizes = [scaled(*settings.base(size, side), scale) for scale in settings.scales]
        return sample, size, [image_tensor(image, s, network.mean, network.std) for s in sizes]

    for sample, size, inputs in prefetch_known(prepare, samples, advance=counter.advance):
        maps = _sample_maps(read, network.stride, tasks, sample, size, inputs, settings, device, side)
        for task, made in zip(tasks, maps, strict=True):
            if task.wants(sample):
                task.write(sample, made, size)


def _sample_maps(
    read: Callable[[Tensor], Tensor],
    stride: int,
    tasks: Sequence[MapTask],
    sample: Sample,
    size: tuple[int, int],
    inputs: Sequence[Tensor],
    settings: MapsSettings,
    device: torch.device,
    side: int | None,
) -> list[ActivationMaps]:
    if not inputs:
        empty = torch.zeros(0, *stride4(*size))
        return [ActivationMaps((), empty) for _ in tasks]
    images = (tensor.to(device, non_blocking=True) for tensor in inputs)
    bfloat16 = settings.precision == "bfloat16"
    features = pair_features(read, images, mirror=settings.mirror, bfloat16=bfloat16)
    classes = torch.tensor(sample.tags, dtype=torch.int64, device=device)
    part = settings.part(settings.base(size, side), stride)
    heads: list[MapHead] = [task.head for task in tasks] + [_of_all(task.raw, device) for task in tasks if task.raw]
    made = mean_of_scales(features, heads, classes, stride4(*size), part)
    raw = iter(made[len(tasks) :])
    found = []
    for task, mean in zip(tasks, made, strict=False):
        kept = (None, None) if task.raw is None else task.raw.parted(next(raw), sample.tags)
        found.append(ActivationMaps(sample.tags, normalise(mean) if sample.tags else mean, *kept))
    return found


def _of_all(raw: RawScores, device: torch.device) -> MapHead:
    """Raw scores of every class, whichever are present."""
    return lambda features, _: raw.head(features, raw.every_class(device))
