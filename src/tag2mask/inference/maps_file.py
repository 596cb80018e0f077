"""Maps on disk: one npz an image, float16, stride 4, only the classes present; raw scores where a method keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tag2mask.core.arrays import read_arrays, write_arrays
from tag2mask.core.errors import DamagedError, DataError
from tag2mask.core.types import ActivationMaps

if TYPE_CHECKING:
    from torch import Tensor

STRIDE = 4
_FORMS = {"maps": ("f", 3), "classes": ("iu", 1), "size": ("iu", 1), "key": ("U", 0)}
"""Kinds of numbers and axes of each array of a file."""
_RAW = {"raw": ("f", 3)}
"""Of the array that a file may hold beside these."""


def stride4(height: int, width: int) -> tuple[int, int]:
    """Size of the stored maps of a (height, width) image: ceil(height / 4), ceil(width / 4)."""
    return -(-height // STRIDE), -(-width // STRIDE)


@dataclass(frozen=True, slots=True)
class MapsFile:
    """The content of one file of maps.

    Attributes:
        maps: float32 in memory.
        size: (height, width) of the image.
        key: the sample key that they were made under.
    """

    maps: ActivationMaps
    size: tuple[int, int]
    key: str


def write_maps(path: Path, maps: ActivationMaps, size: tuple[int, int], key: str) -> None:
    """Write maps (K, ceil(H/4), ceil(W/4)) in float16; 1 and 0 stay exact.

    Raw scores are written in float16 too where its range holds them, else in float32.
    """
    arrays: dict[str, NDArray[Any]] = {
        "maps": maps.maps.cpu().numpy().astype(np.float16),
        "classes": np.asarray(maps.classes, dtype=np.int16),
        "size": np.asarray(size, dtype=np.int32),
        "key": np.asarray(key),
    }
    if maps.raw is not None:
        raw = maps.raw.cpu().numpy()
        fits = np.abs(raw).max(initial=0) <= np.finfo(np.float16).max
        arrays["raw"] = raw.astype(np.float16 if fits else np.float32)
    write_arrays(path, arrays, settled=False)  # one of many


def read_maps(path: Path) -> MapsFile:
    """Read maps that `write_maps` wrote."""
    import torch

    arrays = _arrays(path)

    def values(name: str) -> Tensor:
        with np.errstate(over="ignore"):  # infinite then, which `check_maps` refuses
            return torch.from_numpy(arrays[name].astype(np.float32))

    maps = ActivationMaps(
        tuple(map(int, arrays["classes"])), values("maps"), values("raw") if "raw" in arrays else None
    )
    height, width = (int(v) for v in arrays["size"])
    return MapsFile(maps, (height, width), str(arrays["key"]))


def maps_key(path: Path) -> str | None:
    """The sample key of a file of maps, or None where the file is absent or, anywhere in it, damaged."""
    try:
        return str(_arrays(path)["key"])
    except DamagedError:  # absent, cut off or foreign: all mean "not made yet"
        return None


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    arrays = read_arrays(path)
    missing = set(_FORMS) - set(arrays)
    if missing:
        raise DamagedError(f"{path} holds no maps (missing: {', '.join(sorted(missing))}); remove it and run again")
    for name, (kinds, ndim) in (_FORMS | _RAW if "raw" in arrays else _FORMS).items():
        array = arrays[name]
        if array.dtype.kind not in kinds or array.ndim != ndim or (name == "size" and array.shape != (2,)):
            raise DamagedError(
                f"{path} holds no maps ('{name}' has type {array.dtype} and shape {array.shape}); remove it and run "
                "again"
            )
    return arrays


def check_maps(maps: ActivationMaps, size: tuple[int, int], n_classes: int, what: str) -> None:
    """Refuse maps that do not belong to an image.

    Args:
        maps: as stored, at stride 4.
        size: (height, width) of the image.
        n_classes: of the data set.
        what: image and stage, for the error text.
    """
    again = "remove the file and rerun"
    if tuple(maps.maps.shape) != (len(maps.classes), *stride4(*size)):
        raise DataError(
            f"maps of {what} have shape {tuple(maps.maps.shape)}; {len(maps.classes)} classes of an image of "
            f"{size[0]} x {size[1]} pixels need {(len(maps.classes), *stride4(*size))}; {again}"
        )
    if list(maps.classes) != sorted({*maps.classes}) or any(not 0 <= c < n_classes for c in maps.classes):
        raise DataError(
            f"maps of {what} are of class columns {list(maps.classes)}; expected ascending columns from 0 to "
            f"{n_classes - 1}, the classes of the data; {again}"
        )
    if not bool(((maps.maps >= 0) & (maps.maps <= 1)).all()):  # false for NaN too
        raise DataError(f"maps of {what} hold NaN or values outside 0..1; {again}")
    if maps.raw is not None and (maps.raw.shape != maps.maps.shape or not bool(maps.raw.isfinite().all())):
        shape = tuple(maps.raw.shape)
        raise DataError(
            f"raw scores of {what} have shape {shape}, or hold NaN or infinite values; expected finite ones of shape "
            f"{tuple(maps.maps.shape)}; {again}"
        )
