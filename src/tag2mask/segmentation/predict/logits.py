"""From a segmentation network and photos to probabilities and labels: scales, mirror image, dense CRF.

Every view of a photo (one for each scale, and its mirror image) goes through the network by itself. Its logits are
brought to the photo's size (bilinear, corners not aligned), then softmax; the mean of these **probabilities** over the
views is the result. The published networks add nothing of this: DeepLabV2's own three scales and their maximum are
inside the network, and UperNet is tested on the photo alone, so ``scales=(1.0,)`` without mirror is what papers report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from tag2mask.core.errors import ConfigError, DataError, Tag2MaskError, WeightsError
from tag2mask.core.files import reason
from tag2mask.core.resize import bilinear
from tag2mask.data.transforms import scaled
from tag2mask.inference.runner import image_tensor
from tag2mask.refine.crf.api import DenseCRF
from tag2mask.refine.crf.presets import CRFPreset
from tag2mask.segmentation.networks.base import Segmenter

Network = Callable[[Tensor], Tensor]
"""(N, 3, H, W) normalised RGB -> logits (N, C + 1, h, w), background first."""
Precision = Literal["float32", "bfloat16"]
Photo = NDArray[np.uint8]
"""(H, W, 3) RGB."""


def predict_probabilities(
    net: Network,
    image: Photo,
    mean: Sequence[float],
    std: Sequence[float],
    scales: Sequence[float] = (1.0,),
    mirror: bool = False,
    precision: Precision = "float32",
) -> Tensor:
    """Probability of each label at each pixel of one photo: the mean of the views' softmax, see the module.

    Args:
        net: the network; a module in evaluation mode.
        image: (H, W, 3) uint8 RGB, of any size from 1 x 1.
        mean: per channel of RGB in [0, 1], subtracted.
        std: per channel, divided by.
        scales: factors on the photo's sides (bicubic), each above 0.
        mirror: also take the mirror image at each scale.
        precision: ``bfloat16`` runs the network under autocast; logits are float32 again afterwards.

    Returns:
        (C + 1, H, W) float32 on the network's device, summing to 1 over the labels.

    Raises:
        ConfigError: no scale, or one that is not above 0.
        DataError: the photo has another shape or type.
        WeightsError: a logit is NaN or infinite.
    """
    return predict_batch(net, [image], mean, std, scales, mirror, precision)[0]


@torch.no_grad()
def predict_batch(
    net: Network,
    images: Sequence[Photo],
    mean: Sequence[float],
    std: Sequence[float],
    scales: Sequence[float] = (1.0,),
    mirror: bool = False,
    precision: Precision = "float32",
) -> Tensor:
    """`predict_probabilities` of several photos of one size at once, which fills a GPU.

    Returns:
        (N, C + 1, H, W) float32 on the network's device.

    Raises:
        As `predict_probabilities`; DataError also for photos of different sizes, or none.
    """
    height, width = _check(images, scales)
    photos, device = [Image.fromarray(image) for image in images], device_of(net)
    total: Tensor | None = None
    for scale in scales:
        size = scaled(height, width, scale)
        batch = torch.stack([image_tensor(photo, size, mean, std) for photo in photos]).to(device)
        for logits in view_logits(net, batch, mirror, precision):
            found = bilinear(logits, height, width).softmax(dim=1)
            total = found if total is None else total.add_(found)
    assert total is not None  # there is a scale
    return total.div_(len(scales) * (2 if mirror else 1))


def predict_labels(
    net: Network,
    image: Photo,
    mean: Sequence[float],
    std: Sequence[float],
    scales: Sequence[float] = (1.0,),
    mirror: bool = False,
    precision: Precision = "float32",
    crf: CRFPreset | None = None,
) -> NDArray[np.uint8]:
    """Label of each pixel of one photo: the most probable one, after a dense CRF where one is given.

    Args:
        net: the network; a module in evaluation mode.
        image: (H, W, 3) uint8 RGB.
        mean: per channel of RGB in [0, 1].
        std: per channel.
        scales: factors on the photo's sides.
        mirror: also take the mirror image.
        precision: of the network's pass.
        crf: parameters of a dense CRF on the photo; the published code of DeepLabV2 gives it a wrongly wrapped,
            mean-subtracted copy instead, which is not imitated here.

    Returns:
        (H, W) uint8, 0 background, ``c + 1`` for class ``c``; the lowest of equally probable labels.

    Raises:
        As `predict_probabilities`.
    """
    found = predict_probabilities(net, image, mean, std, scales, mirror, precision)
    return most_probable(refined(found, image, crf))


@torch.no_grad()
def refined(probabilities: Tensor, image: Photo, crf: CRFPreset | None) -> Tensor:
    """Marginals of a dense CRF on the photo, (C + 1, H, W) as the probabilities; those themselves without a CRF."""
    if crf is None:
        return probabilities
    return DenseCRF(image, crf, device=probabilities.device).refine(probabilities)


def most_probable(probabilities: Tensor) -> NDArray[np.uint8]:
    """(C + 1, H, W) to (H, W) uint8, the lowest of equally probable labels."""
    return probabilities.argmax(dim=0).to(torch.uint8).cpu().numpy()


def out_of_memory(error: Exception) -> bool:
    """Whether there was too little memory, for which torch has a class of its own on a GPU only."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)


def device_of(net: Network) -> torch.device:
    """The device of a module's weights; the CPU for what has none, such as a network in ONNX."""
    parameter = next(net.parameters(), None) if isinstance(net, nn.Module) else None
    return torch.device("cpu") if parameter is None else parameter.device


@torch.no_grad()
def view_logits(net: Network, batch: Tensor, mirror: bool, precision: Precision) -> Iterator[Tensor]:
    """Logits (N, C + 1, h, w) float32 of normalised photos at one scale, then of their mirror images, mirrored back.

    Raises:
        DataError: the network does not take images of this size.
        WeightsError: a logit is NaN or infinite.
    """
    yield _logits(net, batch, precision)
    if mirror:
        yield _logits(net, batch.flip(-1), precision).flip(-1)


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


def _check(images: Sequence[Photo], scales: Sequence[float]) -> tuple[int, int]:
    """(H, W) of all photos."""
    if not scales or not all(0 < scale < float("inf") for scale in scales):
        raise ConfigError(f"scales = {list(scales)}: expected one or more numbers above 0, such as 0.75 1.0 1.25")
    sizes = {check_photo(image).shape[:2] for image in images}
    if len(sizes) != 1:
        raise DataError(f"a batch holds photos of {len(sizes)} sizes {sorted(sizes)}: expected photos of one size")
    height, width = sizes.pop()
    return height, width


def check_photo(image: NDArray[Any]) -> Photo:
    """The image, which must be (H, W, 3) uint8.

    Raises:
        DataError: it is not.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise DataError(
            f"a photo has shape {image.shape} and type {image.dtype}: expected (H, W, 3) uint8, RGB, with at least one "
            "pixel"
        )
    return image
