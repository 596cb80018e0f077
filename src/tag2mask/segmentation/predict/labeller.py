"""How photos become labels: one set of choices for the command line, Python and the pipeline."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from math import inf
from numbers import Integral, Real
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tag2mask.core.errors import ConfigError, DataError, unknown
from tag2mask.core.progress import Counter
from tag2mask.data.split_views import shrunk_size
from tag2mask.data.transforms import scaled
from tag2mask.inference.runner import image_tensor
from tag2mask.refine.crf.presets import find_preset
from tag2mask.segmentation.predict.logits import (
    Network,
    Photo,
    Precision,
    device_of,
    most_probable,
    out_of_memory,
    predict_batch,
    refined,
    view_logits,
)
from tag2mask.segmentation.predict.tiles import Picture, Tiling, n_tiles, tiled_labels
from tag2mask.segmentation.predict.working_size import enlarged_labels, labels_of_views, shrunk_photo
from tag2mask.segmentation.training_data import fit_factor

WHOLE = 4_000_000
"""Pixels that the network sees at once unless tiles are asked for: some 2 GB with the light network."""


@dataclass(frozen=True, slots=True)
class LoadedNetwork:
    """A network with what it needs to be used.

    Attributes:
        net: (N, 3, H, W) normalised RGB -> logits (N, C + 1, h, w).
        mean: per channel of RGB in [0, 1].
        std: per channel.
        classes: C names; index ``c + 1`` of labels is ``classes[c]``.
        max_side: longest side that larger photos are shrunk to, as those that it was trained on; None for no bound.
    """

    net: Network
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    classes: tuple[str, ...]
    max_side: int | None = None


@dataclass(frozen=True, slots=True)
class Choices:
    """Everything that decides the labels of a photo beside the network.

    Attributes:
        scales: factors on the photo's sides.
        mirror: also the mirror image.
        fit: long and short side that photos are brought into first; the factor multiplies ``scales``. For networks
            that were trained so, as UPerNet was published with (2048, 512).
        crf: preset of a dense CRF; in a tiled photo it works within each tile, and what it gives is blended. Of a photo
            of more than `WHOLE` pixels that is not tiled it sees the largest view, and what it gives is enlarged.
        tile: side of a tile in pixels; None computes photos whole, and such of which the largest view has more than
            `WHOLE` pixels in tiles of `Tiling`'s own size.
        overlap: pixels that neighbouring tiles share at least; None for a sixth of the tile.
        precision: of the network's pass.

    Raises:
        ConfigError: a scale that is not above 0, an unknown preset or precision, tiles that do not go forward, or a
            value of another type.
    """

    scales: tuple[float, ...] = (1.0,)
    mirror: bool = False
    fit: tuple[int, int] | None = None
    crf: str | None = None
    tile: int | None = None
    overlap: int | None = None
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        """Check the choices before anything is computed."""
        scales = _numbers("scales", self.scales)
        if not scales or not all(0 < scale <= 8 for scale in scales):
            raise ConfigError(f"scales = {scales}: expected one or more numbers above 0, up to 8")
        fit = None if self.fit is None else _numbers("fit", self.fit)
        if fit is not None and (len(fit) != 2 or not inf > fit[0] >= fit[1] >= 1):
            raise ConfigError(f"fit = {fit}: expected the long and the short side, both at least 1")
        for name, pixels in (("tile", self.tile), ("overlap", self.overlap)):
            if pixels is not None and not isinstance(pixels, Integral):
                raise ConfigError(f"{name} = {pixels!r}: expected a whole number of pixels")
        if self.precision not in get_args(Precision):
            raise ConfigError(unknown("precision", str(self.precision), get_args(Precision)))
        if self.crf is not None:
            find_preset(self.crf)
        if self.tile is None and self.overlap is not None:
            raise ConfigError(f"overlap = {self.overlap} belongs to tiles: give tile too, such as tile = 768")
        self.tiling((1, 1))

    def tiling(self, size: tuple[int, int]) -> Tiling | None:
        """How a photo of ``size`` = (H, W) is cut; None for whole."""
        if self.tile is not None:
            return Tiling(self.tile, self.tile // 6 if self.overlap is None else self.overlap)
        return Tiling() if size[0] * size[1] * max(self.factors(size)) ** 2 > WHOLE else None

    def factors(self, size: tuple[int, int]) -> list[float]:
        """What the sides of a photo of ``size`` = (H, W) are multiplied by in each view."""
        factor = fit_factor(*size, self.fit)
        return [scale * factor for scale in self.scales]

    def text(self) -> dict[str, Any]:
        """As plain values, for a key or a manifest."""
        return {**asdict(self), "scales": list(self.scales), "fit": None if self.fit is None else list(self.fit)}


def _numbers(name: str, value: Any) -> list[float]:
    """The numbers of a choice that holds several."""
    found: list[Any] = list(value) if isinstance(value, Iterable) else [None]
    if not all(isinstance(number, Real) for number in found):
        raise ConfigError(f"{name} = {value!r}: expected numbers in brackets, such as {(1.0, 0.5)}")
    return found


class Labeller:
    """Makes labels of photos.

    Args:
        network: the network, on its device, in evaluation mode.
        choices: how.
        batch: photos of one size, or tiles, that are computed together.

    Raises:
        ConfigError: ``batch`` is below 1.
    """

    def __init__(self, network: LoadedNetwork, choices: Choices, batch: int = 1) -> None:
        if batch < 1:
            raise ConfigError(f"batch = {batch}: expected 1 or more photos")
        self.network, self.choices, self.batch = network, choices, batch

    def labels(self, photos: Sequence[Picture]) -> list[NDArray[np.uint8]]:
        """Labels (H, W) uint8 of photos that are all of one size.

        Raises:
            DataError: a photo cannot be read, or is too large for the memory.
            WeightsError: the network gives no numbers.
        """
        height, width = photos[0].size
        factors, tiling = self.choices.factors((height, width)), self.choices.tiling((height, width))
        try:
            small = self._small(height, width)
            if small is not None:
                return self._shrunk(photos, small, self.choices.scales)
            if tiling is not None:
                return [self._tiled(photo, partial(self._probabilities, factors), tiling) for photo in photos]
            if height * width > WHOLE:
                return [self._fitted(photo, factors) for photo in photos]
            whole = [photo.window(0, 0, height, width) for photo in photos]
            return [most_probable(one) for one in self._probabilities(factors, whole)]
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            raise DataError(
                f"{len(photos)} photos of {width} x {height} do not fit into memory with these choices: make tiles "
                "smaller (--tile 512) or the batch (--batch 1)"
            ) from error

    def _small(self, height: int, width: int) -> tuple[int, int] | None:
        """The size that a photo is shrunk to for a network trained so; None for its own, and where choices say more."""
        if self.network.max_side is None or self.choices.fit is not None or self.choices.tile is not None:
            return None
        size = shrunk_size(height, width, self.network.max_side)
        return None if size == (height, width) else size

    def _shrunk(
        self, photos: Sequence[Picture], size: tuple[int, int], scales: Sequence[float]
    ) -> list[NDArray[np.uint8]]:
        """Labels of photos of one size, a batch, from their probabilities, after the CRF, at a smaller size."""
        found = self._probabilities(scales, [shrunk_photo(photo, *size) for photo in photos])
        return [enlarged_labels(one, *photo.size) for one, photo in zip(found, photos, strict=True)]

    def _fitted(self, photo: Picture, factors: Sequence[float]) -> NDArray[np.uint8]:
        """Labels of one photo that is too large itself, but not as the network sees it.

        They are those of the photo as a whole; only a CRF has to work at the size of the largest view.
        """
        net, largest = self.network, max(factors)
        if self.choices.crf is not None:
            height, width = scaled(*photo.size, largest)
            return self._shrunk([photo], (height, width), [factor / largest for factor in factors])[0]
        views: list[Tensor] = []
        for factor in factors:
            height, width = scaled(*photo.size, factor)
            image = Image.fromarray(shrunk_photo(photo, height, width))
            batch = image_tensor(image, (height, width), net.mean, net.std)[None].to(device_of(net.net))
            views += [one[0] for one in view_logits(net.net, batch, self.choices.mirror, self.choices.precision)]
        self._check_labels(len(views[0]))
        return labels_of_views(views, *photo.size)

    def _tiled(
        self, photo: Picture, probabilities: Callable[[Sequence[Photo]], Tensor], tiling: Tiling
    ) -> NDArray[np.uint8]:
        """Labels of one photo in tiles; of one that takes long, the tiles are counted."""
        (height, width), total = photo.size, n_tiles(photo.size, tiling)
        long = self.choices.tile is None or height * width > WHOLE
        counter = Counter(f"tiles of {width} x {height}", total) if long else None
        return tiled_labels(photo, probabilities, tiling, self.batch, counter.advance if counter else None)

    def _probabilities(self, scales: Sequence[float], images: Sequence[Photo]) -> Tensor:
        """(N, C + 1, H, W), after the CRF."""
        net, choices = self.network, self.choices
        found = predict_batch(net.net, images, net.mean, net.std, scales, choices.mirror, choices.precision)
        self._check_labels(found.shape[1])
        crf = None if choices.crf is None else find_preset(choices.crf)
        if crf is None:
            return found
        return torch.stack([refined(one, image, crf) for one, image in zip(found, images, strict=True)])

    def _check_labels(self, found: int) -> None:
        n_classes = len(self.network.classes)
        if found != n_classes + 1:
            raise ConfigError(
                f"the network gives {found} labels, but has {n_classes} class names: expected {n_classes + 1} labels, "
                "background first"
            )
