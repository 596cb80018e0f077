"""CAM for any classifier with a linear layer after its pooling: the public class `CAM`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tag2mask.core.errors import ConfigError, DataError
from tag2mask.core.types import ActivationMaps
from tag2mask.inference.multiscale import MapHead, merge_scales
from tag2mask.methods.cam.hooks import Anatomy, examine, resolve_layer, run_to
from tag2mask.methods.cam.maps import CAMHead

LOG = logging.getLogger("tag2mask")


class CAM:
    """Class activation maps (LPCAM paper, eq. 1) of a trained classifier.

    Between calls nothing is left on the model: hooks are removed and training modes restored after every call, even
    a failed one. ``with`` is allowed, in the grammar of the CAM libraries.

    Args:
        model: any network whose last feature map is averaged and read by one linear layer or 1 x 1 convolution.
        layer: the module whose output is the feature map, or its dotted name; None finds the last one before the
            pooling at the first call, and logs it.
        weights: (C, D) classifier weights; None finds them in the model and checks them against its output.
        scales: factors on the images' sides; the maps are averaged over them.
        mirror: add the maps of the mirrored images.

    Raises:
        ConfigError: an unknown layer, or scales that are not positive.

    Example:
        >>> maps = CAM(model, scales=(1.0, 0.5, 1.5, 2.0), mirror=True)(images, tags)  # doctest: +SKIP
    """

    def __init__(
        self,
        model: nn.Module,
        layer: nn.Module | str | None = None,
        *,
        weights: Tensor | None = None,
        scales: Sequence[float] = (1.0,),
        mirror: bool = False,
    ) -> None:
        if not scales or any(not s > 0 for s in scales):
            raise ConfigError(
                f"scales = {tuple(scales)} must be one or more numbers above 0, such as (1.0, 0.5, 1.5, 2.0)"
            )
        self.model = model
        self.scales = tuple(float(s) for s in scales)
        self.mirror = mirror
        self._layer = None if layer is None else resolve_layer(model, layer)
        self._weights = weights
        self._anatomy: Anatomy | None = None

    def __enter__(self) -> Self:
        """The object itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to undo: no call leaves anything on the model."""

    def __call__(self, images: Tensor, tags: Tensor) -> list[ActivationMaps]:
        """Maps of the classes that each image is tagged with.

        Args:
            images: (N, 3, H, W), normalised as the model expects, on its device.
            tags: (N, C) multi-hot.

        Returns:
            For each image its maps (K, h, w) on the feature grid of scale 1 (of the first scale where 1 is not
            among them), K = 0 where it has no tags.

        Raises:
            DataError: images or tags of a wrong shape, NaN or infinite images.
            ConfigError: no layer of the model can be used.
            WeightsError: no weights of the model can be used.
        """
        anatomy = self._prepare(images, tags)
        head = self._head(anatomy)
        pyramid = [self._features(anatomy, images, scale) for scale in self.scales]
        grid = pyramid[self.scales.index(1.0) if 1.0 in self.scales else 0]
        size = (grid.shape[2], grid.shape[3])
        found = []
        for i, row in enumerate(tags.bool()):
            classes = row.nonzero()[:, 0].to(images.device)
            # The mirror image of image i lies len(images) further on.
            (maps,) = merge_scales((f[i :: len(images)] for f in pyramid), [head], classes, size)
            found.append(ActivationMaps(tuple(classes.tolist()), maps))
        return found

    def _head(self, anatomy: Anatomy) -> MapHead:
        return CAMHead(anatomy.weights)

    def _prepare(self, images: Tensor, tags: Tensor) -> Anatomy:
        """Check the input, and find layer and weights if that has not been done."""
        check_images(images)
        if self._anatomy is None:
            self._anatomy = examine(self.model, images, self._layer, self._weights)
        check_tags(tags, len(images), len(self._anatomy.weights))
        return self._anatomy

    def _features(self, anatomy: Anatomy, images: Tensor, scale: float) -> Tensor:
        return run_to(self.model, anatomy.layer, self._views(images, scale))

    def _views(self, images: Tensor, scale: float) -> Tensor:
        """Images at one scale; with ``mirror`` followed by their mirror images."""
        if scale != 1:
            size = [max(1, round(side * scale)) for side in images.shape[-2:]]
            images = F.interpolate(images, size, mode="bicubic", antialias=True)
        return torch.cat([images, images.flip(-1)]) if self.mirror else images


def check_images(images: Tensor) -> None:
    """Refuse what is not a batch of finite images.

    Raises:
        DataError: it says what is wrong and what was expected.
    """
    if not isinstance(images, Tensor) or images.dim() != 4 or not images.is_floating_point() or not images.numel():
        got = f"{tuple(images.shape)} {images.dtype}" if isinstance(images, Tensor) else type(images).__name__
        raise DataError(f"images must be a floating tensor (N, 3, H, W) with N of 1 or more, got {got}")
    bad = (~torch.isfinite(images).flatten(1).all(1)).nonzero()[:, 0].tolist()
    if bad:
        raise DataError(f"images {bad} of the batch hold NaN or infinite values; look at how they are loaded")


def check_tags(tags: Tensor, n_images: int, n_classes: int) -> None:
    """Refuse what is not a multi-hot row of every class for every image.

    Raises:
        DataError: it says what is wrong and what was expected.
    """
    if not isinstance(tags, Tensor) or tuple(tags.shape) != (n_images, n_classes):
        got = tuple(tags.shape) if isinstance(tags, Tensor) else type(tags).__name__
        raise DataError(f"tags must be a tensor (images, classes) = ({n_images}, {n_classes}), got {got}")
    if not ((tags == 0) | (tags == 1)).all():
        raise DataError("tags must be 0 or 1 everywhere: 1 in the columns of the classes present")
