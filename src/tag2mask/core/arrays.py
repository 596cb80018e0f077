"""Arrays: in npz files, never by pickle; NaN-aware division, percent and mean; the one number format of tables."""

from __future__ import annotations

import io
import threading
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tag2mask.core.errors import DamagedError
from tag2mask.core.files import atomic_path, megabytes, need_regular, reason

_EPOCH = (1980, 1, 1, 0, 0, 0)
MOST_BYTES = 1 << 30
"""Bytes of arrays that are read from one npz: maps of 80 classes of a photo of 100 megapixels."""
PARSING = threading.Lock()
"""Held while an npz is read: numpy parses each header with ``ast``, which in Python 3.11 fails now and then where two
threads do so at once (SystemError: AST constructor recursion depth mismatch)."""


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]], *, settled: bool = True) -> None:
    """Write a compressed npz whose bytes depend on the arrays alone (numpy's own carries the time).

    Each array has a checksum of its own, as every member of a zip. ``settled`` as in `atomic_path`.
    """
    with atomic_path(path, settled=settled) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.asarray(array, order="C"), allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy", _EPOCH)
            archive.writestr(info, buffer.getvalue(), zipfile.ZIP_DEFLATED, compresslevel=1)


def read_arrays(path: Path, names: Collection[str] | None = None) -> dict[str, NDArray[Any]]:
    """Read the arrays of an npz (None: all), never by pickle, in at most `MOST_BYTES` whatever it claims to hold."""
    try:
        # numpy alone would take a single array and, as it opens any path, wait for a pipe
        with PARSING, need_regular(path).open("rb") as file, zipfile.ZipFile(file) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            claimed = sum(info.file_size for info in members.values())
            if claimed > MOST_BYTES:
                raise ValueError(f"it says that it holds {megabytes(claimed)}, more than {megabytes(MOST_BYTES)}")
            return {n: _array(archive, info) for n, info in members.items() if names is None or n in names}
    except Exception as error:  # zip, zlib, numpy and Python's parser each have kinds of their own for damaged bytes
        raise DamagedError(f"cannot read {path}: {reason(error)}. Remove it and run again") from error


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(info) as stream:
        array: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
        if stream.read(1):  # only at its end does zipfile look at the checksum
            raise ValueError(f"{info.filename} holds more than it says")
    if array.size > MOST_BYTES:  # of elements without bytes, such as empty strings
        raise ValueError(f"{info.filename} says that it has {array.size} elements")
    return array


def check_archive(path: Path) -> None:
    """Check that what torch has written as a zip, packing nothing, is whole: torch itself reads changed bytes."""
    with zipfile.ZipFile(path) as archive:
        claimed = sum(info.file_size for info in archive.infolist())
        if claimed > path.stat().st_size:
            raise ValueError(f"it says that it holds {claimed} bytes, more than it has")
        changed = archive.testzip()
    if changed is not None:
        raise ValueError(f"its part '{changed}' has changed since it was written")


Ratios = NDArray[np.float64]


def beside_another(values: NDArray[Any]) -> NDArray[np.bool_]:
    """(H, W) where the value to the right, left, above or below is another one."""
    found = np.zeros(values.shape, dtype=np.bool_)
    across, down = values[:, 1:] != values[:, :-1], values[1:] != values[:-1]
    found[:, 1:] |= across
    found[:, :-1] |= across
    found[1:] |= down
    found[:-1] |= down
    return found


DIGITS = 4
"""Decimals of every number that is written to a table."""


def rounded(value: float) -> float:
    """A number as it stands in tables, with `DIGITS` decimals."""
    return round(float(value), DIGITS)


def ratio(part: ArrayLike, whole: ArrayLike) -> Ratios:
    """``part / whole``, broadcast; NaN where ``whole`` is 0."""
    above, below = np.broadcast_arrays(part, whole)
    result: Ratios = np.full(above.shape, np.nan)
    np.divide(above, below, out=result, where=below > 0)
    return result


def percent(part: ArrayLike, whole: ArrayLike) -> Ratios:
    """100 times the `ratio`."""
    return ratio(100.0 * np.asarray(part), whole)


def nan_mean(values: ArrayLike, axis: int = -1) -> Ratios:
    """Mean along an axis over what is not NaN; NaN where all of it is."""
    given = np.asarray(values, dtype=np.float64)
    known = ~np.isnan(given)
    return ratio(np.where(known, given, 0.0).sum(axis=axis), known.sum(axis=axis))
