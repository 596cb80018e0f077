"""From the features of several scales, and of the mirror image, to one map per class in [0, 1]."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from tag2mask.core.errors import WeightsError
from tag2mask.core.resize import bilinear_part


class MapHead(Protocol):
    """Turns features of one image at one scale into maps: CAM and LPCAM are two of these."""

    def __call__(self, features: Tensor, classes: Tensor) -> Tensor:
        """Maps of some classes.

        Args:
            features: (B, D, h, w); B is 1, or 2 for the image and its mirror image (not yet flipped back).
            classes: (K,) int64 class columns.

        Returns:
            (K, h, w) float32, not normalised; non-negative, but for a head of raw scores.
        """
        ...


def pair_features(
    network: Callable[[Tensor], Tensor], images: Iterable[Tensor], *, mirror: bool = True, bfloat16: bool = False
) -> Iterator[Tensor]:
    """Features of one image at each of its sizes, and of its mirror image.

    The network should be in channels-last memory format already; the input is brought into it here.

    Args:
        network: (B, 3, H, W) -> (B, D, h, w).
        images: one (3, H, W) tensor for each scale, on the network's device.
        mirror: add the mirror image as second of the batch.
        bfloat16: compute under autocast to bfloat16.

    Yields:
        (B, D, h, w) for each scale, B = 2 with ``mirror``, else 1.
    """
    for image in images:
        views = [image, image.flip(-1)] if mirror else [image]
        # Both at once fill a GPU; a processor's caches hold one at a time better (measured in multiscale_cam.csv).
        batches = [view[None] for view in views] if image.device.type == "cpu" else [torch.stack(views)]
        with torch.no_grad(), torch.autocast(image.device.type, torch.bfloat16, enabled=bfloat16):
            features = [network(batch.contiguous(memory_format=torch.channels_last)) for batch in batches]
        yield torch.cat(features) if len(features) > 1 else features[0]


def merge_scales(
    features_per_scale: Iterable[Tensor],
    heads: Sequence[MapHead],
    classes: Tensor,
    size: tuple[int, int],
    part: tuple[float, float] = (1.0, 1.0),
) -> list[Tensor]:
    """Maps of every head from the same features: `mean_of_scales`, each map divided by its maximum.

    Returns:
        For each head (K, height, width) float32: each map's maximum is exactly 1, or the map is all zero.
    """
    return [normalise(mean) for mean in mean_of_scales(features_per_scale, heads, classes, size, part)]


def mean_of_scales(
    features_per_scale: Iterable[Tensor],
    heads: Sequence[MapHead],
    classes: Tensor,
    size: tuple[int, int],
    part: tuple[float, float] = (1.0, 1.0),
) -> list[Tensor]:
    """What every head makes of the same features: head, resize, mean over the scales.

    Args:
        features_per_scale: (B, D, h_s, w_s) for each scale; may be a generator, so that one scale is held at a time.
        heads: what makes maps of features; all share one forward pass.
        classes: (K,) int64 columns of the classes wanted; K may be 0.
        size: (height, width) of the maps.
        part: the shares of the features' rows and columns that become the maps, see `MapsSettings.part`.

    Returns:
        For each head (K, height, width) float32.
    """
    sums: list[Tensor] = []
    scales = 0
    for features in features_per_scale:
        maps = [bilinear_part(head(features, classes), *size, part) for head in heads]
        sums = [total + new for total, new in zip(sums, maps, strict=True)] if sums else maps
        scales += 1
    if not scales:
        raise ValueError("features_per_scale is empty: at least one scale is needed")
    return [total / scales for total in sums]


def normalise(maps: Tensor) -> Tensor:
    """Divide each non-negative map by its maximum (CAM eq. 1 and LPCAM eq. 6); an all-zero map stays zero.

    Args:
        maps: (K, h, w), non-negative.
    """
    peaks = maps.amax(dim=(1, 2), keepdim=True)
    if not torch.isfinite(peaks).all():
        raise WeightsError(
            "an activation map is NaN or infinite: the network's features or the classifier's weights are not finite. "
            "Train the classifier again with a smaller lr, or load other weights"
        )
    return torch.where(peaks > 0, maps / peaks.clamp_min(torch.finfo(maps.dtype).tiny), 0)


def add_mirror(maps: Tensor) -> Tensor:
    """Add what belongs to the mirror image, flipped back, to what belongs to the image.

    Args:
        maps: (B, ..., w) with B = 1 (nothing to add) or 2 (image, mirror image).

    Returns:
        (..., w).
    """
    return maps[0] + maps[1].flip(-1) if len(maps) == 2 else maps[0]


def activation(weights: Tensor, features: Tensor) -> Tensor:
    """``A_n = w_n . f(x)`` at every position, before the ReLU (eq. 1); no bias, as in the paper.

    Args:
        weights: (K, D).
        features: (B, D, h, w), of any floating type and memory format.

    Returns:
        (B, K, h, w) float32.
    """
    batch, channels, height, width = features.shape
    if weights.shape[1] != channels:
        raise WeightsError(
            f"weights or prototypes have {weights.shape[1]} channels, the features {channels}: they belong to another "
            "network; fit or train them with this one"
        )
    return (weights @ features.float().reshape(batch, channels, -1)).reshape(batch, -1, height, width)


@dataclass(frozen=True, slots=True)
class CAMHead:
    """Makes CAM's maps of one scale: ``ReLU(w f(x)) + unflip ReLU(w f(flip x))``.

    Attributes:
        weights: (C, D) float32, the classifier's, one row for each class.
    """

    weights: Tensor

    def __call__(self, features: Tensor, classes: Tensor) -> Tensor:
        """Maps (K, h, w) of the class columns ``classes``, as `MapHead` says."""
        rows = self.weights.to(features.device)[classes]
        return add_mirror(activation(rows, features).relu_())
