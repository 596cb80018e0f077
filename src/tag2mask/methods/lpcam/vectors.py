"""Feature vectors of one class on one side: all of them in a file, or a uniform sample in memory."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

import numpy as np
from numpy.typing import NDArray

from tag2mask.core.errors import StageError
from tag2mask.core.stopping import on_stop

LOG = logging.getLogger("tag2mask")
Half = NDArray[np.float16]
Origins = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class VectorSet:
    """Feature vectors of one class on one side (foreground or context).

    Attributes:
        vectors: (N, D) float16, a memory map or an array.
        origins: (N, 3) int32: image index, row and column of the feature grid that each vector comes from.
    """

    vectors: Half
    origins: Origins


class Sink(Protocol):
    """Takes rows and gives them back as a `VectorSet`."""

    def append(self, rows: Half, origins: Origins) -> None:
        """Take (n, D) rows and their (n, 3) origins."""
        ...

    def finish(self) -> VectorSet:
        """All that was taken, or the sample of it."""
        ...

    def close(self) -> None:
        """Let go of what is open."""
        ...


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
        """Take (n, D) rows and their (n, 3) origins.

        Raises:
            StageError: the disk is full.
        """
        try:
            self._stream.write(rows.tobytes())
        except OSError as error:
            raise self._full(error) from error
        self._origins.append(origins)

    def finish(self) -> VectorSet:
        """All rows, as a read-only memory map of the file.

        Raises:
            StageError: the disk is full.
        """
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

    def close(self) -> None:
        """Nothing to remove."""


@contextmanager
def temporary_folder(parent: Path | None) -> Iterator[Path]:
    """A new folder in ``parent`` (made where absent; None for the system's place), removed in the end.

    Raises:
        StageError: it cannot be made.
    """
    try:
        if parent is not None:
            parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(prefix=".vectors-", dir=parent, ignore_cleanup_errors=True)
    except OSError as error:
        raise StageError(f"cannot make a temporary folder in {parent}: {error.strerror or error}") from error
    with on_stop(folder.cleanup), folder:
        yield Path(folder.name)


def announce(name: str, size: int, folder: Path) -> None:
    """Say beforehand how many bytes the vectors of ``name`` will take in ``folder``.

    Raises:
        StageError: there is less free.
    """
    free = shutil.disk_usage(folder).free
    text = f"feature vectors of {name} take about {size / 1e6:.1f} MB of disk in {folder}"
    if size > free:
        raise StageError(
            f"{text}, but only {free / 1e6:.1f} MB are free. Make room, or set max_vectors for a sample in memory"
        )
    LOG.info("%s for now; they are removed after clustering", text)
