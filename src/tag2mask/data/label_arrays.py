"""Masks as numpy's .npy files: whole numbers, height by width."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tag2mask.core.arrays import PARSING
from tag2mask.core.errors import DataError
from tag2mask.data.base import Labels
from tag2mask.data.mask_files import label_indices

ARRAY_SUFFIX = ".npy"


def is_array(path: Path) -> bool:
    """Whether a mask is one of numpy's files, by its name."""
    return path.suffix.lower() == ARRAY_SUFFIX


def read_array(path: Path, values: Mapping[int, int] | None = None) -> Labels:
    """Read a mask of whole numbers or booleans, (H, W), as (H, W) uint8.

    Args:
        path: of the mask.
        values: label index of those values that are not the index themselves, such as {255: 1}.

    Raises:
        DataError: the file is missing, damaged or holds Python objects, other numbers, another shape, or an index
            outside 0..255.
    """
    return label_indices(np.array(_mapped(path), dtype=np.int64), path, values)


def array_size(path: Path) -> tuple[int, int]:
    """(H, W) of a mask, from its header alone.

    Raises:
        DataError: as `read_array`, but for the values.
    """
    height, width = _mapped(path).shape
    return height, width


def _mapped(path: Path) -> NDArray[Any]:
    """The array as it lies in the file: a header that promises more than the file holds is an error, not memory."""
    try:
        with PARSING:
            values = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # numpy's parser of headers raises what Python's does
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"cannot read mask {path}: {reason}. Write it anew with numpy.save, or take it out of the folder"
        ) from error
    if len(values.shape) != len(("height", "width")) or values.dtype.kind not in "bui":
        raise DataError(
            f"mask {path} holds {values.dtype} of shape {values.shape}: expected whole numbers of shape (height, "
            "width). Write it anew: numpy.save(path, labels.astype('uint8'))"
        )
    return values
