"""Splitting features into foreground and context vectors of one class (LPCAM eq. 2), on disk or as a sample."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tag2mask.core.errors import ConfigError, WeightsError
from tag2mask.methods.lpcam.vectors import FileSink, Half, SampleSink, Sink, VectorSet, announce, temporary_folder


class Collector(ExitStack):
    """Gathers the vectors of one class, image after image; a context manager whose files go when it closes.

    Vectors that `finish` gave must not be used after that.

    Args:
        tau: threshold on CAM: at ``tau`` or above is foreground, the rest is context (eq. 2).
        folder: where a temporary folder with the vectors is made; None for the system's place.
        name: what the vectors are of, for the log.
        images: how many images will come, to announce the size on disk beforehand; None if unknown.
        max_vectors: keep a uniform sample of so many on each side, in memory and without files.
        seed: of that sample.
        certain: only images without the class give context; what is below ``tau`` in the others is on neither side.
    """

    def __init__(
        self,
        tau: float,
        folder: Path | None = None,
        *,
        name: str = "class",
        images: int | None = None,
        max_vectors: int | None = None,
        seed: int = 0,
        certain: bool = False,
    ) -> None:
        if not 0 <= tau <= 1:
            raise ConfigError(f"tau = {tau} must lie in [0, 1]")
        if max_vectors is not None and max_vectors < 1:
            raise ConfigError(f"max_vectors = {max_vectors} must be 1 or more, or null for all")
        super().__init__()
        self._tau, self._parent, self._name, self._images = tau, folder, name, images
        self._max_vectors, self._seed, self._certain = max_vectors, seed, certain
        self._sides: tuple[Sink, Sink] | None = None
        self._logits: tuple[Sink, Sink] | None = None
        self._dim = 0

    def add(self, image: int, features: Tensor, cam: Tensor | None, logits: Tensor | None = None) -> None:
        """Take in one image of the class, or one without it.

        Args:
            image: index of the image, kept as origin.
            features: (D, h, w) of the single-scale, un-mirrored image.
            cam: (H, W) CAM of the class in [0, 1], of any size; sub-sampled to (h, w) by index floor(i H / h);
                None of an image without the class: all of it is context.
            logits: (C, h, w) of the classifier, where they do not follow from the features; of every image or none.
        """
        dim, height, width = features.shape
        sides = self._sides or self._open(dim, 0 if logits is None else len(logits), height * width)
        if dim != self._dim:
            raise WeightsError(f"image {image} has features of depth {dim}, those before had {self._dim}")
        rows = _rows(features)
        if not (np.isfinite(rows).all() and (cam is None or bool(torch.isfinite(cam).all()))):
            raise WeightsError(
                f"image {image}: features or CAM are NaN, infinite or above 65504 (the limit of float16); "
                "the network that made them is not usable"
            )
        inside = np.zeros(height * width, dtype=bool)
        if cam is not None:
            inside = (subsample(cam, height, width) >= self._tau).reshape(-1).cpu().numpy()
        outside = ~inside if cam is None or not self._certain else np.zeros_like(inside)
        grid = np.indices((height, width), dtype=np.int32).reshape(2, -1).T
        origins = np.concatenate([np.full((len(grid), 1), image, np.int32), grid], axis=1)
        for sink, mask in zip(sides, (inside, outside), strict=True):
            sink.append(rows[mask], origins[mask])
        if logits is not None and self._logits is not None:
            scores = _rows(logits)
            for sink, mask in zip(self._logits, (inside, outside), strict=True):
                sink.append(scores[mask], origins[mask])

    def finish(self) -> tuple[VectorSet, VectorSet]:
        """The foreground and the context vectors; valid until the collector closes."""
        if self._sides is None:
            empty = VectorSet(np.zeros((0, self._dim), np.float16), np.zeros((0, 3), np.int32))
            return empty, empty
        found = [side.finish() for side in self._sides]
        if self._logits is not None:
            beside = (side.finish().vectors for side in self._logits)
            found = [replace(side, logits=logits) for side, logits in zip(found, beside, strict=True)]
        return found[0], found[1]

    def _open(self, dim: int, n_logits: int, positions: int) -> tuple[Sink, Sink]:
        self._dim = dim
        folder = None
        if self._max_vectors is None:
            folder = self.enter_context(temporary_folder(self._parent))
            if self._images is not None:
                announce(self._name, self._images * positions * (dim + n_logits) * 2, folder)
        self._sides = self._sinks(folder, "", dim)
        if n_logits:
            self._logits = self._sinks(folder, "-logits", n_logits)
        return self._sides

    def _sinks(self, folder: Path | None, ending: str, dim: int) -> tuple[Sink, Sink]:
        """Of foreground and context; samples of one seed keep the same rows, whatever stands in them."""
        if folder is None:
            assert self._max_vectors is not None  # else there is a folder
            return SampleSink(dim, self._max_vectors, self._seed), SampleSink(dim, self._max_vectors, self._seed + 1)
        files = FileSink(folder / f"foreground{ending}", dim), FileSink(folder / f"context{ending}", dim)
        for file in files:
            self.callback(file.close)
        return files


def _rows(cells: Tensor) -> Half:
    """(D, h, w) as (h w, D) float16."""
    found: Half = cells.permute(1, 2, 0).reshape(-1, len(cells)).to("cpu", torch.float16).numpy()
    return found


@contextmanager
def collect(
    pairs: Iterable[tuple[Tensor, Tensor | None] | tuple[Tensor, Tensor | None, Tensor | None]],
    tau: float,
    folder: Path | None = None,
    *,
    name: str = "class",
    images: int | None = None,
    max_vectors: int | None = None,
    seed: int = 0,
    certain: bool = False,
) -> Iterator[tuple[VectorSet, VectorSet]]:
    """Foreground and context vectors of one class from (features (D, h, w), CAM (H, W)) of images.

    Logits (C, h, w) may stand behind them. The CAM of an image without the class is None. The other arguments and the
    errors are those of `Collector`; the files go when the context ends, or on an error.
    """
    with Collector(
        tau, folder, name=name, images=images, max_vectors=max_vectors, seed=seed, certain=certain
    ) as collector:
        for index, one in enumerate(pairs):
            collector.add(index, *one)
        yield collector.finish()


def subsample(maps: Tensor, height: int, width: int) -> Tensor:
    """Nearest sub-sampling of (H, W) to (height, width): index floor(i H / height), in whole numbers."""
    rows = torch.arange(height, device=maps.device) * maps.shape[0] // height
    columns = torch.arange(width, device=maps.device) * maps.shape[1] // width
    return maps[rows[:, None], columns]
