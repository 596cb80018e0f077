"""Maps on disk: one npz an image, stride 4, only the classes present; raw scores where a stage keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tag2mask.core.arrays import read_arrays, write_arrays
from tag2mask.core.errors import DamagedError, DataError
from tag2mask.core.types import ActivationMaps
from tag2mask.evaluation.threshold_rules.evidence import ABSENT_BINS
from tag2mask.inference.raw_scores import packed, unpacked

if TYPE_CHECKING:
    from torch import Tensor

STRIDE = 4
_FORMS = {"maps": ("f", 3), "classes": ("iu", 1), "size": ("iu", 1), "key": ("U", 0)}
"""Kinds of numbers and axes of each array of a file."""
_RAW = {"raw": ("u", 1)}
"""Of the bytes that a file with raw scores holds beside these."""


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
    """Write maps (K, ceil(H/4), ceil(W/4)) in float16; 1 and 0 stay exact. Raw scores are packed, see `packed`."""
    arrays: dict[str, NDArray[Any]] = {
        "maps": maps.maps.cpu().numpy().astype(np.float16),
        "classes": np.asarray(maps.classes, dtype=np.int16),
        "size": np.asarray(size, dtype=np.int32),
        "key": np.asarray(key),
    }
    if maps.raw is not None:
        arrays["raw"] = packed(maps.raw, maps.raw.new_zeros(0, ABSENT_BINS) if maps.absent is None else maps.absent)
    write_arrays(path, arrays, settled=False)  # one of many


def read_maps(path: Path) -> MapsFile:
    """Read maps that `write_maps` wrote."""
    import torch

    arrays = _arrays(path)

    def values(name: str) -> Tensor:
        with np.errstate(over="ignore"):  # infinite then, which `check_maps` refuses
            return torch.from_numpy(arrays[name].astype(np.float32))

    classes = tuple(map(int, arrays["classes"]))
    if "raw" in arrays:
        maps = ActivationMaps(classes, values("maps"), *_raw(arrays, path))
    else:
        maps = ActivationMaps(classes, values("maps"))
    height, width = (int(v) for v in arrays["size"])
    return MapsFile(maps, (height, width), str(arrays["key"]))


def _raw(arrays: dict[str, NDArray[Any]], path: Path) -> tuple[Tensor, Tensor]:
    count, height, width = arrays["maps"].shape
    try:
        return unpacked(arrays["raw"], count, (height, width))
    except (ValueError, IndexError) as error:
        raise DamagedError(f"{path} holds no raw scores of its maps ({error}); remove it and run again") from error


def maps_key(path: Path) -> str | None:
    """The sample key of a file of maps, or None where the file is absent or, anywhere in it, damaged."""
    try:
        return str(_arrays(path)["key"])
    except DamagedError:  # absent, cut off or foreign: all mean "not made yet"
        return None


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    arrays = read_arrays(path)
    forms = _FORMS | _RAW if "raw" in arrays else _FORMS
    missing = set(forms) - set(arrays)
    if missing:
        raise DamagedError(f"{path} holds no maps (missing: {', '.join(sorted(missing))}); remove it and run again")
    for name, (kinds, ndim) in forms.items():
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
    raw, absent = maps.raw, maps.absent
    if raw is not None and (raw.shape != maps.maps.shape or not bool(((raw >= 0) & (raw <= 1)).all())):
        raise DataError(
            f"raw scores of {what} have shape {tuple(raw.shape)}, or hold NaN or values outside 0..1; expected shape "
            f"{tuple(maps.maps.shape)}; {again}"
        )
    if absent is not None and tuple(absent.shape) not in {(0, ABSENT_BINS), (n_classes, ABSENT_BINS)}:
        raise DataError(
            f"cells by raw score of {what} have shape {tuple(absent.shape)}; expected {(n_classes, ABSENT_BINS)}; "
            f"{again}"
        )
