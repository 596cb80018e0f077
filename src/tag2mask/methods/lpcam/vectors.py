"""Feature vectors of one class on one side: all of them in a file, or a uniform sample in memory."""

from __future__ import annotations

import mmap
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from tag2mask.core.errors import ConfigError, StageError, WeightsError
from tag2mask.core.progress import LOG
from tag2mask.core.stopping import on_stop

Half = NDArray[np.float16]
Origins = NDArray[np.int32]
CHUNK_NUMBERS = 1 << 20
"""Numbers in a chunk: 4 MB of float32, so that the passes over a chunk find it in the cache."""


@dataclass(frozen=True, slots=True)
class VectorSet:
    """Feature vectors of one class on one side (foreground or context).

    Attributes:
        vectors: (N, D) float16, a memory map or an array.
        origins: (N, 3) int32: image index, row and column of the feature grid that each vector comes from.
        logits: (N, C) float16, those of the classifier at these places; None where they follow from the vectors.
    """

    vectors: Half
    origins: Origins
    logits: Half | None = None


class FileSink:
    """Every row, in a file.

    Args:
        path: the file, made anew.
        dim: D.
    """

    def __init__(self, path: Path, dim: int) -> None:
        self._path, self._dim = path, dim
        self._stream: IO[bytes] = path.open("wb")
        self._origins: list[Origins] = []

    def append(self, rows: Half, origins: Origins) -> None:
        """Take (n, D) rows and their (n, 3) origins."""
        try:
            self._stream.write(rows.tobytes())
        except OSError as error:
            raise self._full(error) from error
        self._origins.append(origins)

    def finish(self) -> VectorSet:
        """All rows, as a read-only memory map of the file."""
        try:
            self._stream.flush()
        except OSError as error:
            raise self._full(error) from error
        origins = np.concatenate([np.zeros((0, 3), np.int32), *self._origins])
        if not len(origins):  # an empty file cannot be mapped
            return VectorSet(np.zeros((0, self._dim), np.float16), origins)
        return VectorSet(np.memmap(self._path, np.float16, "r", shape=(len(origins), self._dim)), origins)

    def close(self) -> None:
        """Close the file; its folder is the collector's to remove."""
        # Dropping a buffer that the disk has no room for is what closing after an error means.
        try:
            self._stream.close()
        except OSError:
            LOG.debug("closing %s after an error", self._path)

    def _full(self, error: OSError) -> StageError:
        return StageError(
            f"cannot write feature vectors to {self._path.parent}: {error.strerror or error}. "
            "Make room, or set max_vectors for a sample that needs no disk"
        )


class SampleSink:
    """A uniform sample: each row draws a random key, the rows with the smallest keys stay.

    Args:
        dim: D.
        size: rows that stay, at most.
        seed: of the keys.
    """

    def __init__(self, dim: int, size: int, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._rows, self._origins = np.empty((size, dim), np.float16), np.empty((size, 3), np.int32)
        self._keys = np.full(size, np.inf)  # infinite where nothing is yet, so that everything may come in
        self._arrival = np.full(size, -1)
        self._seen = 0

    def append(self, rows: Half, origins: Origins) -> None:
        """Take (n, D) rows and their (n, 3) origins; some stay."""
        size = len(self._keys)
        keys = np.concatenate([self._keys, self._random.random(len(rows))])
        staying = np.zeros(len(keys), dtype=bool)
        staying[np.argsort(keys, kind="stable")[:size]] = True
        entering, places = np.flatnonzero(staying[size:]), np.flatnonzero(~staying[:size])
        self._keys[places], self._arrival[places] = keys[size + entering], self._seen + entering
        self._rows[places], self._origins[places] = rows[entering], origins[entering]
        self._seen += len(rows)

    def finish(self) -> VectorSet:
        """The sample, in order of arrival."""
        order = np.argsort(self._arrival, kind="stable")
        order = order[self._arrival[order] >= 0]
        return VectorSet(self._rows[order], self._origins[order])


Sink = FileSink | SampleSink
"""Takes rows and gives them back as a `VectorSet`."""


@contextmanager
def temporary_folder(parent: Path | None) -> Iterator[Path]:
    """A new folder in ``parent`` (made where absent; None for the system's place), removed in the end."""
    try:
        if parent is not None:
            parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(prefix=".vectors-", dir=parent, ignore_cleanup_errors=True)
    except OSError as error:
        raise StageError(f"cannot make a temporary folder in {parent}: {error.strerror or error}") from error
    with on_stop(folder.cleanup), folder:
        yield Path(folder.name)


def announce(name: str, size: int, folder: Path) -> None:
    """Say beforehand how many bytes the vectors of ``name`` will take in ``folder``."""
    free = shutil.disk_usage(folder).free
    text = f"feature vectors of {name} take about {size / 1e6:.1f} MB of disk in {folder}"
    if size > free:
        raise StageError(
            f"{text}, but only {free / 1e6:.1f} MB are free. Make room, or set max_vectors for a sample in memory"
        )
    LOG.info("%s for now; they are removed after clustering", text)


class Rows:
    """(N, D) vectors as float32 chunks; converted once where that fits the memory, else at every pass.

    What is computed from the chunks is the same, bit for bit, whatever the memory.

    Args:
        vectors: a floating tensor, or a numpy array or memory map (of which only chunks are ever resident).
        memory_mb: most megabytes that a float32 copy of all of them may take.

    Attributes:
        count: N.
        dim: D.
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
        """(N,) float32, 1 / length of each row, 0 for a zero row."""
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
