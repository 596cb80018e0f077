"""Many feature vectors, read as float32 chunks that fit a core's cache, with bounded memory."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from tag2mask.core.errors import ConfigError, WeightsError

CHUNK_NUMBERS = 1 << 20
"""Numbers in a chunk: 4 MB of float32, so that the passes over a chunk find it in the cache."""


class Rows:
    """(N, D) vectors as float32 chunks; converted once where that fits the memory, else at every pass.

    What is computed from the chunks is the same, bit for bit, whatever the memory.

    Args:
        vectors: a floating tensor, or a numpy array or memory map (of which only chunks are ever resident).
        memory_mb: most megabytes that a float32 copy of all of them may take.

    Attributes:
        count: N.
        dim: D.

    Raises:
        ConfigError: ``vectors`` is not a matrix.
    """

    def __init__(self, vectors: Tensor | NDArray[Any], memory_mb: int) -> None:
        if len(vectors.shape) != 2:
            raise ConfigError(f"vectors must be a matrix (N, D), got shape {tuple(vectors.shape)}")
        self.count, self.dim = int(vectors.shape[0]), int(vectors.shape[1])
        self._step = max(1, CHUNK_NUMBERS // max(self.dim, 1))
        self._vectors = vectors
        ready = isinstance(vectors, Tensor) and vectors.dtype == torch.float32
        if not ready and self.count * self.dim * 4 <= memory_mb << 20:
            whole = torch.empty(self.count, self.dim, device=vectors.device if isinstance(vectors, Tensor) else "cpu")
            for start, chunk in self.chunks():
                whole[start : start + len(chunk)] = chunk
            self._vectors = whole

    def chunks(self) -> Iterator[tuple[int, Tensor]]:
        """The index of the first row, and the rows (n, D) float32, chunk after chunk; do not write into them."""
        for start in range(0, self.count, self._step):
            yield start, self._read(start, min(start + self._step, self.count))

    def row(self, index: int) -> Tensor:
        """One row, (D,) float32."""
        return self._read(index, index + 1)[0]

    def inverse_lengths(self) -> Tensor:
        """(N,) float32, 1 / length of each row, 0 for a zero row.

        Raises:
            WeightsError: a vector is NaN or infinite.
        """
        parts = [torch.linalg.vector_norm(chunk, dim=1) for _, chunk in self.chunks()]
        lengths = torch.cat(parts) if parts else torch.zeros(0)
        if not torch.isfinite(lengths).all():
            worst = int((~torch.isfinite(lengths)).nonzero()[0])
            raise WeightsError(f"feature vector {worst} is NaN or infinite; the network that made it is not usable")
        return torch.where(lengths > 0, 1 / lengths, 0)

    def _read(self, start: int, stop: int) -> Tensor:
        vectors = self._vectors
        if isinstance(vectors, Tensor):
            return vectors[start:stop].float()
        if isinstance(vectors, np.memmap) and isinstance(vectors.base, mmap.mmap) and vectors.filename is not None:
            # Reading the file instead of the map keeps pages that were read out of this process's memory.
            offset = vectors.offset + start * self.dim * vectors.itemsize
            flat = np.fromfile(vectors.filename, vectors.dtype, (stop - start) * self.dim, offset=offset)
            return torch.from_numpy(flat.reshape(stop - start, self.dim).astype(np.float32, copy=False))
        return torch.from_numpy(np.array(vectors[start:stop], dtype=np.float32))


def nearest_rows(
    vectors: Tensor | NDArray[Any], centres: Tensor, top: int = 8, memory_mb: int = 1024
) -> tuple[Tensor, Tensor]:
    """The rows most like each centre, for the gallery of prototypes.

    Args:
        vectors: (N, D) as for `Rows`.
        centres: (K, D).
        top: rows wanted for each centre; there are fewer if fewer are not zero.
        memory_mb: as for `Rows`.

    Returns:
        Row indices (K, top) int64, and cosine similarities (K, top) float32, falling.
    """
    rows = Rows(vectors, memory_mb)
    inverse = rows.inverse_lengths()
    units = F.normalize(centres.to(inverse.device, torch.float32), dim=1)
    similar = inverse.new_empty(len(units), rows.count)
    for first, chunk in rows.chunks():
        last = first + len(chunk)
        similar[:, first:last] = (chunk @ units.T).T * inverse[first:last]
    similar[:, inverse == 0] = -torch.inf
    values, indices = similar.topk(min(top, int((inverse > 0).sum())), dim=1)
    return indices, values
