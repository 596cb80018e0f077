"""Photos to labels, the one way of `tag2mask predict`, `tag2mask.load` and the stage of predictions.

A photo of which every view has at most `WHOLE` pixels goes through the network as a whole, a larger one in tiles. A
network that was trained on shrunk photos sees larger ones at that size; its probabilities are then interpolated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from tag2mask.core.errors import ConfigError, DataError
from tag2mask.core.progress import Counter
from tag2mask.data.split_views import fitted_size
from tag2mask.data.transforms import scaled
from tag2mask.inference.runner import image_tensor
from tag2mask.refine.crf.presets import find_preset
from tag2mask.segmentation.predict.logits import (
    LoadedNetwork,
    Pixels,
    most_probable,
    out_of_memory,
    predict_batch,
    refined,
    view_logits,
)
from tag2mask.segmentation.predict.options import PredictOptions, Tiling
from tag2mask.segmentation.predict.tiles import Picture, n_tiles, tiled_labels
from tag2mask.segmentation.training_data import fit_factor

Size = tuple[int, int]
"""(H, W)."""
WHOLE = 4_000_000
"""Pixels that the network sees at once unless tiles are requested: some 2 GB with the light network."""
_BAND = 4_000_000
"""Pixels of a photo, or values of its probabilities for each label, that are held at a time."""
_SUPPORT = 2
"""Pixels of the small image that the bicubic filter reaches to each side."""


def at_once(size: Size) -> bool:
    """Whether a photo is small enough to be decoded ahead, and computed as a whole."""
    return size[0] * size[1] <= WHOLE


class Labeller:
    """Makes labels of photos by a network on its device, in evaluation mode; ``batch`` photos or tiles at a time."""

    def __init__(self, network: LoadedNetwork, options: PredictOptions, batch: int = 1) -> None:
        if batch < 1:
            raise ConfigError(f"batch = {batch}: expected 1 or more photos")
        self.network, self.options, self.batch = network, options, batch
        self._crf = None if options.crf is None else find_preset(options.crf)

    def labels(self, photos: Sequence[Picture]) -> list[NDArray[np.uint8]]:
        """Labels (H, W) uint8 of photos that are all of one size.

        In a tiled photo a CRF works within each tile, and what it gives is blended. Of a photo of more than `WHOLE`
        pixels whose views are smaller it sees the largest view, and what it gives is enlarged.
        """
        places = self._places(photos)
        return places if self.network.background else [np.add(one, 1, dtype=np.uint8) for one in places]

    def _places(self, photos: Sequence[Picture]) -> list[NDArray[np.uint8]]:
        """Which of the network's scores is the largest at each pixel."""
        size = photos[0].size
        factors, tiling = self.factors(size), self.tiling(size)
        try:
            working = self._working(size)
            if working is not None:
                return self._resized(photos, working, self.options.scales)
            if tiling is not None:
                return [self._tiled(photo, partial(self._probabilities, factors), tiling) for photo in photos]
            if not at_once(size):
                return [self._fitted(photo, factors) for photo in photos]
            whole = [photo.window(0, 0, *size) for photo in photos]
            return [most_probable(one) for one in self._probabilities(factors, whole)]
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            raise DataError(
                f"{len(photos)} photos of {size[1]} x {size[0]} do not fit into memory: choose smaller scales, or with "
                "tag2mask predict smaller tiles (--tile 512) or a smaller batch (--batch 1)"
            ) from error

    def factors(self, size: Size) -> list[float]:
        """What the sides of a photo of ``size`` are multiplied by in each view."""
        factor = fit_factor(*size, self.options.fit)
        return [scale * factor for scale in self.options.scales]

    def tiling(self, size: Size) -> Tiling | None:
        """How a photo of ``size`` is cut: as requested, and where its largest view has more than `WHOLE` pixels."""
        largest = size[0] * size[1] * max(self.factors(size)) ** 2
        return self.options.tiling() or (Tiling() if largest > WHOLE else None)

    def _working(self, size: Size) -> Size | None:
        """The size that a network trained on resized photos sees this one at; None where that is its own.

        A side to fit into, or tiles, are meant for the photo itself.
        """
        if self.options.fit is not None or self.options.tile is not None:
            return None
        working = fitted_size(*size, self.network.max_side, self.network.min_side)
        return None if working == size else working

    def _resized(self, photos: Sequence[Picture], size: Size, scales: Sequence[float]) -> list[NDArray[np.uint8]]:
        """Labels of photos of one size, a batch, from their probabilities, after the CRF, at another size."""
        found = self._probabilities(scales, [shrunk_photo(photo, *size) for photo in photos])
        return [enlarged_labels(one, *photo.size) for one, photo in zip(found, photos, strict=True)]

    def _fitted(self, photo: Picture, factors: Sequence[float]) -> NDArray[np.uint8]:
        """Labels of one photo that is too large itself, but not as the network sees it.

        They are those of the photo as a whole; only a CRF has to work at the size of the largest view.
        """
        net, largest = self.network, max(factors)
        if self._crf is not None:
            height, width = scaled(*photo.size, largest)
            return self._resized([photo], (height, width), [factor / largest for factor in factors])[0]
        views: list[Tensor] = []
        for factor in factors:
            height, width = scaled(*photo.size, factor)
            image = Image.fromarray(shrunk_photo(photo, height, width))
            batch = image_tensor(image, (height, width), net.mean, net.std)[None]
            views += [one[0] for one in view_logits(net, batch, self.options.mirror, self.options.precision)]
        self._check_labels(len(views[0]))
        height, width = photo.size

        def summed(rows: range) -> Tensor:
            """The sum of the views' softmax, as in `predict_batch`."""
            return torch.stack([_enlarged(view, rows, height, width).softmax(dim=0) for view in views]).sum(dim=0)

        return _in_bands(height, width, summed)

    def _tiled(
        self, photo: Picture, probabilities: Callable[[Sequence[Pixels]], Tensor], tiling: Tiling
    ) -> NDArray[np.uint8]:
        """Labels of one photo in tiles; of one that takes long, the tiles are counted."""
        (height, width), total = photo.size, n_tiles(photo.size, tiling)
        long = self.options.tile is None or not at_once(photo.size)
        counter = Counter(f"tiles of {width} x {height}", total) if long else None
        return tiled_labels(photo, probabilities, tiling, self.batch, counter.advance if counter else None)

    def _probabilities(self, scales: Sequence[float], images: Sequence[Pixels]) -> Tensor:
        """(N, C + 1, H, W), after the CRF."""
        found = predict_batch(self.network, images, scales, self.options.mirror, self.options.precision)
        self._check_labels(found.shape[1])
        if self._crf is None:
            return found
        return torch.stack([refined(one, image, self._crf) for one, image in zip(found, images, strict=True)])

    def _check_labels(self, found: int) -> None:
        n_classes, background = len(self.network.classes), self.network.background
        if found != n_classes + background:
            raise ConfigError(
                f"the network gives {found} labels, but has {n_classes} class names: expected "
                f"{n_classes + background} labels, {'background first' if background else 'without background'}"
            )


def shrunk_photo(picture: Picture, height: int, width: int) -> NDArray[np.uint8]:
    """A photo shrunk to (height, width, 3), as ``Image.resize`` (bicubic) gives it of the whole, from bands of rows."""
    rows, columns = picture.size
    scale = rows / height
    step = max(1, int(_BAND / (columns * scale)))
    margin = math.ceil(_SUPPORT * max(scale, 1.0)) + 1
    bands = []
    for first in range(0, height, step):
        last = min(first + step, height)
        top, bottom = max(0, math.floor(first * scale) - margin), min(rows, math.ceil(last * scale) + margin)
        band = Image.fromarray(picture.window(top, 0, bottom, columns))
        box = (0.0, first * scale - top, float(columns), min(last * scale - top, float(bottom - top)))
        bands.append(np.asarray(band.resize((width, last - first), Image.Resampling.BICUBIC, box)))
    return np.concatenate(bands)


def enlarged_labels(probabilities: Tensor, height: int, width: int) -> NDArray[np.uint8]:
    """The most probable label (lowest of equals) of each pixel of a larger image, (C + 1, h, w) bilinear between."""
    return _in_bands(height, width, lambda rows: _enlarged(probabilities, rows, height, width))


def _in_bands(height: int, width: int, scores: Callable[[range], Tensor]) -> NDArray[np.uint8]:
    """Labels (H, W) of scores (C + 1, rows, W), of which one band is held at a time."""
    labels = np.empty((height, width), dtype=np.uint8)
    step = max(1, _BAND // width)
    for first in range(0, height, step):
        rows = range(first, min(first + step, height))
        labels[first : rows.stop] = most_probable(scores(rows))
    return labels


def _enlarged(maps: Tensor, rows: range, height: int, width: int) -> Tensor:
    """Some rows of ``maps`` (C + 1, h, w) brought bilinearly to (C + 1, height, width)."""
    small = maps.shape[1]
    places = torch.arange(rows.start, rows.stop, dtype=torch.float64)
    place = ((places + 0.5) * (small / height) - 0.5).clamp(0, small - 1)
    above = place.floor().long()
    share = (place - above).to(maps)[:, None]
    below = (above + 1).clamp(max=small - 1)
    above, below = above.to(maps.device), below.to(maps.device)
    return F.interpolate(torch.lerp(maps[:, above], maps[:, below], share), width, mode="linear", align_corners=False)
