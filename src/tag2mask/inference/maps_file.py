"""Maps on disk: one npz an image, float16, stride 4, only the classes present."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tag2mask.core.errors import StageError
from tag2mask.core.files import read_arrays, write_arrays
from tag2mask.core.types import ActivationMaps

if TYPE_CHECKING:
    from torch import Tensor

STRIDE = 4


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
    """Write maps (K, ceil(H/4), ceil(W/4)) in float16; 1 and 0 stay exact."""
    write_arrays(
        path,
        {
            "maps": maps.maps.cpu().numpy().astype(np.float16),
            "classes": np.asarray(maps.classes, dtype=np.int16),
            "size": np.asarray(size, dtype=np.int32),
            "key": np.asarray(key),
        },
    )


def read_maps(path: Path) -> MapsFile:
    """Read maps that `write_maps` wrote.

    Raises:
        StageError: the file is damaged, or holds something else.
    """
    import torch

    arrays = read_arrays(path)
    missing = {"maps", "classes", "size", "key"} - set(arrays)
    if missing:
        raise StageError(f"{path} holds no maps (missing: {', '.join(sorted(missing))}); remove it and run again")
    values: Tensor = torch.from_numpy(arrays["maps"].astype(np.float32))
    height, width = (int(v) for v in arrays["size"])
    return MapsFile(ActivationMaps(tuple(map(int, arrays["classes"])), values), (height, width), str(arrays["key"]))


def maps_key(path: Path) -> str | None:
    """The sample key of a file of maps, or None where the file is absent or damaged."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return str(archive["key"])
    except Exception:  # absent, cut off or foreign: all mean "not made yet"
        return None
