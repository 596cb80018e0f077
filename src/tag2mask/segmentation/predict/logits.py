"""From a network and photos of one size to probabilities: scales, mirror image, dense CRF.

Every view of a photo (one for each scale, and its mirror image) goes through the network by itself. Its logits are
brought to the photo's size (bilinear, corners not aligned), then softmax; the mean of these **probabilities** over the
views is the result. The published networks add nothing of this: DeepLabV2's own three scales and their maximum are
inside the network, and UperNet is tested on the photo alone, so ``scales=(1.0,)`` without mirror is what papers report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from tag2mask.core.errors import DataError, Tag2MaskError, WeightsError
from tag2mask.core.files import reason
from tag2mask.core.resize import bilinear
from tag2mask.data.transforms import scaled
from tag2mask.inference.runner import image_tensor
from tag2mask.refine.crf.api import DenseCRF
from tag2mask.refine.crf.presets import CRFPreset
from tag2mask.segmentation.networks.base import Segmenter
from tag2mask.segmentation.predict.options import Precision

if TYPE_CHECKING:
    from tag2mask.segmentation.onnx.runtime import OnnxSegmenter

Network = Callable[[Tensor], Tensor]
"""(N, 3, H, W) normalised RGB -> logits (N, C + 1, h, w), background first."""
Pixels = NDArray[np.uint8]
"""(H, W, 3) RGB."""


@dataclass(frozen=True, slots=True)
class LoadedNetwork:
    """A network with what it needs to be used."""

    net: Network  # in evaluation mode
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    classes: tuple[str, ...]  # index c + 1 of labels is classes[c]
    max_side: int | None = None  # longest side that larger photos are shrunk to, as those of the training
    min_side: int | None = None  # longest side that smaller photos are enlarged to
    background: bool = True  # else it scores the classes alone, C where C + 1 are written below, and no label is 0

    @classmethod
    def of(cls, net: Segmenter | OnnxSegmenter, classes: Sequence[str]) -> LoadedNetwork:
        """A network of ours for these classes."""
        return cls(net, net.mean, net.std, tuple(classes), net.max_side, net.min_side, net.background)

    @property
    def device(self) -> torch.device:
        """The device of the network's weights; the CPU for one without, such as a network in ONNX."""
        parameter = next(self.net.parameters(), None) if isinstance(self.net, nn.Module) else None
        return torch.device("cpu") if parameter is None else parameter.device


@torch.no_grad()
def predict_batch(
    network: LoadedNetwork,
    images: Sequence[Pixels],
    scales: Sequence[float] = (1.0,),
    mirror: bool = False,
    precision: Precision = "float32",
) -> Tensor:
    """Probability of each label at each pixel of photos of one size: the mean of the views' softmax, see the module.

    Photos are (H, W, 3) uint8 RGB, ``scales`` factors on their sides (bicubic). ``bfloat16`` runs the network under
    autocast; logits are float32 again afterwards. Gives (N, C + 1, H, W) float32 on the network's device.
    """
    height, width = _size(images)
    photos = [Image.fromarray(image) for image in images]
    total: Tensor | None = None
    for scale in scales:
        size = scaled(height, width, scale)
        batch = torch.stack([image_tensor(photo, size, network.mean, network.std) for photo in photos])
        for logits in view_logits(network, batch, mirror, precision):
            found = bilinear(logits, height, width).softmax(dim=1)
            total = found if total is None else total.add_(found)
    assert total is not None  # there is a scale
    return total.div_(len(scales) * (2 if mirror else 1))


@torch.no_grad()
def refined(probabilities: Tensor, image: Pixels, crf: CRFPreset) -> Tensor:
    """Marginals of a dense CRF on the photo, (C + 1, H, W) as the probabilities.

    The published code of DeepLabV2 gives the CRF a wrongly wrapped, mean-subtracted copy of the photo instead, which is
    not imitated here.
    """
    return DenseCRF(image, crf, device=probabilities.device).refine(probabilities)


def most_probable(probabilities: Tensor) -> NDArray[np.uint8]:
    """(C + 1, H, W) to (H, W) uint8, the place of the largest score, the lowest of equal ones."""
    return probabilities.argmax(dim=0).to(torch.uint8).cpu().numpy()


def out_of_memory(error: Exception) -> bool:
    """Whether there was too little memory, for which torch has a class of its own on a GPU only."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)


@torch.no_grad()
def view_logits(network: LoadedNetwork, batch: Tensor, mirror: bool, precision: Precision) -> Iterator[Tensor]:
    """Logits (N, C + 1, h, w) float32 of normalised photos at one scale, then of their mirror images, mirrored back."""
    batch = batch.to(network.device)
    yield _logits(network.net, batch, precision)
    if mirror:
        yield _logits(network.net, batch.flip(-1), precision).flip(-1)


def _logits(net: Network, images: Tensor, precision: Precision) -> Tensor:
    try:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            logits = net(images).float()
    except Exception as error:  # what the libraries run into with settings or sizes that do not go together
        if not isinstance(net, Segmenter) or isinstance(error, Tag2MaskError) or out_of_memory(error):
            raise
        raise DataError(
            f"the network cannot compute images of {images.shape[3]} x {images.shape[2]} pixels: {reason(error)}. Give "
            "larger ones, or use another network"
        ) from error
    if not bool(torch.isfinite(logits).all()):
        raise WeightsError(
            "the network's output is NaN or infinite: its weights are damaged, or its training diverged. Train it "
            "again with a smaller lr, or load other weights"
        )
    return logits


def _size(images: Sequence[Pixels]) -> tuple[int, int]:
    """(H, W) of all photos."""
    for image in images:
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise DataError(
                f"a photo has shape {image.shape} and type {image.dtype}: expected (H, W, 3) uint8, RGB, with at least "
                "one pixel"
            )
    sizes = {image.shape[:2] for image in images}
    if len(sizes) != 1:
        raise DataError(f"a batch holds photos of {len(sizes)} sizes {sorted(sizes)}: expected photos of one size")
    height, width = sizes.pop()
    return height, width
