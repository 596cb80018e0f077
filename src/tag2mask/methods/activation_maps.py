"""CAM for any classifier with a linear layer after its pooling: the public class `CAM`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tag2mask.backbones.feature_layer import Anatomy, examine
from tag2mask.backbones.hooks import check_cells, resolve_layer, unwrapped
from tag2mask.core.errors import ConfigError, DataError, WeightsError
from tag2mask.core.types import ActivationMaps
from tag2mask.inference.multiscale import CAMHead, MapHead, merge_scales


class CAM:
    """Class activation maps (LPCAM paper, eq. 1) of a trained classifier.

    Between calls nothing is left on the model: hooks are removed and training modes restored after every call, even
    a failed one. ``with`` is allowed, in the grammar of the CAM libraries.

    Layer and weights are read in the model at each call, by their names: a model that has been trained further, moved
    or given another classifier since the last call gives the maps of what it is now. What was found is checked in each
    pass (the classifier reads the mean of the layer), and looked for anew where it no longer holds.

    Args:
        model: any network whose last feature map is averaged and read by one linear layer or 1 x 1 convolution. Of
            ``DataParallel`` and ``torch.compile`` the network inside is taken; torch.jit is refused.
        layer: the module whose output is the feature map, or its dotted name; None finds the last one before the
            pooling at the first call, and logs it.
        weights: (C, D) classifier weights, taken as they are; None finds them in the model and checks them against its
            output.
        scales: factors on the images' sides; the maps are averaged over them.
        mirror: add the maps of the mirrored images.

    Raises:
        ConfigError: an unknown layer, scales that are not positive, or a model that cannot be inspected.
        WeightsError: weights of the model that are on the device ``meta`` or not made yet.

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
        given = tuple(scales) if isinstance(scales, Iterable) else scales
        if not isinstance(given, tuple) or not given or not all(_is_scale(scale) for scale in given):
            raise ConfigError(f"scales = {given!r} must be one or more numbers above 0, such as (1.0, 0.5, 1.5, 2.0)")
        if weights is not None and not isinstance(weights, Tensor):
            raise WeightsError(f"weights are of type {type(weights).__name__}, expected a tensor (classes, channels)")
        self.model = unwrapped(model)
        self.scales = tuple(float(scale) for scale in given)
        self.mirror = mirror
        self._layer = None if layer is None else resolve_layer(self.model, layer)
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
            images: (N, 3, H, W), normalised as the model expects, on its device and of its type.
            tags: (N, C) multi-hot.

        Returns:
            For each image its maps (K, h, w) float32 on the feature grid of scale 1 (of the first scale where 1 is not
            among them), K = 0 where it has no tags.

        Raises:
            DataError: images or tags of a wrong shape or type, NaN or infinite images, or images too small to leave
                more than one cell.
            ConfigError: no layer of the model can be used, or it does not take images of one of the scales.
            WeightsError: no weights of the model can be used.
        """
        anatomy, pyramid = self._read(images, tags, self.scales, self.mirror)
        grid = pyramid[self.scales.index(1.0) if 1.0 in self.scales else 0]
        check_cells(grid, images, anatomy.name)
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            return self._merged(self._head(anatomy), pyramid, images, tags, (grid.shape[2], grid.shape[3]))

    def _merged(
        self, head: MapHead, pyramid: Sequence[Tensor], images: Tensor, tags: Tensor, size: tuple[int, int]
    ) -> list[ActivationMaps]:
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
        """Check the input, and find layer and weights as the model has them by now."""
        check_images(images)
        anatomy = self._anatomy and self._anatomy.now(self.model)
        if anatomy is None:
            anatomy = examine(self.model, images, self._layer, self._weights)
        self._anatomy = anatomy
        check_tags(tags, len(images), len(anatomy.weights))
        return anatomy

    def _read(
        self, images: Tensor, tags: Tensor, scales: Sequence[float], mirror: bool
    ) -> tuple[Anatomy, list[Tensor]]:
        """Layer and weights, and the features at each scale; a model that has changed is looked at anew."""
        for _ in range(2):
            anatomy = self._prepare(images, tags)
            pyramid: list[Tensor] = []
            for scale in scales:
                features = self._features(anatomy, views_of(images, scale, mirror), scale)
                if features is None:
                    break
                pyramid.append(features)
            if len(pyramid) == len(scales):
                return anatomy, pyramid
            self._anatomy = None
        raise WeightsError(
            f"the classifier of the model does not read the mean of layer '{anatomy.name}' in each pass: something in "
            "it is random, or changes its weights, in evaluation mode too. Leave that out of the model"
        )

    def _features(self, anatomy: Anatomy, views: Tensor, scale: float) -> Tensor | None:
        try:
            return anatomy.features(self.model, views)
        except (ConfigError, WeightsError):
            raise
        except Exception as error:
            if scale == 1:
                raise
            raise ConfigError(
                f"the model does not take images at scale {scale:g}, of {views.shape[2]} x {views.shape[3]} pixels: "
                f"{error}. Give scales=(1.0,), or a model of any image size"
            ) from error


def _is_scale(scale: object) -> bool:
    return isinstance(scale, int | float) and 0 < scale < math.inf


def views_of(images: Tensor, scale: float, mirror: bool) -> Tensor:
    """Images at one scale, of their own type; with ``mirror`` followed by their mirror images."""
    images = images.detach()
    if scale != 1:
        size = [max(1, round(side * scale)) for side in images.shape[-2:]]
        exact = images.to(torch.promote_types(images.dtype, torch.float32))  # torch resizes nothing of half precision
        images = F.interpolate(exact, size, mode="bicubic", antialias=True).to(images.dtype)
    return torch.cat([images, images.flip(-1)]) if mirror else images


def check_images(images: Tensor) -> None:
    """Refuse what is not a batch of finite images.

    Raises:
        DataError: it says what is wrong and what was expected.
    """
    if not isinstance(images, Tensor) or images.dim() != 4 or not images.is_floating_point() or not images.numel():
        got = f"{tuple(images.shape)} {images.dtype}" if isinstance(images, Tensor) else type(images).__name__
        whole = isinstance(images, Tensor) and not images.is_floating_point()
        hint = ": images.float() / 255, then normalised as the model expects" if whole else ""
        raise DataError(f"images must be a floating tensor (N, 3, H, W) with N of 1 or more, got {got}{hint}")
    if images.is_meta:
        raise DataError("images are on the device meta, which holds no numbers: make them on the model's device")
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
    wrong = tags[(tags != 0) & (tags != 1)]
    if len(wrong):
        raise DataError(
            f"tags must be 0 or 1 everywhere: 1 in the columns of the classes present; they hold {wrong[0].item():g}"
        )
