"""Reads an image in any form that Python code holds it in (a file, Pillow's, an array, a tensor) by one rule.

Whole numbers of 8 bits mean 0..255, floating ones 0..1. Arrays have their channels last, as Pillow gives them; floating
tensors have them first, as torchvision gives them. Memory may be of any strides, and is never written to.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from tag2mask.core.errors import DataError
from tag2mask.core.files import expanded
from tag2mask.data.images import read_image, upright, upright_rgb

if TYPE_CHECKING:  # torch is slow to import, and whoever has a tensor has it already
    from torch import Tensor

Numbers: TypeAlias = "ArrayLike | Image.Image | Tensor"
"""Numbers in any form that Python code holds them in."""

ROUNDING = 1e-3
"""How far a number in [0, 1] may lie outside by rounding; half precision and resizing do so."""
_PHOTO = (
    "a path, an image of Pillow's, an array (H, W, 3) uint8 0..255 or floating in [0, 1], grey ones (H, W) or "
    "(H, W, 1), or a tensor (3, H, W) in [0, 1]"
)


def rgb_of(photo: object, name: str = "a photo") -> NDArray[np.uint8]:
    """A photo in any form as RGB: upright, transparency over white.

    Args:
        photo: a path; an image of Pillow's, whose EXIF orientation is applied as for a file; an array (H, W, 3), or
            grey (H, W) or (H, W, 1), uint8 or floating in [0, 1]; a floating tensor (3, H, W), (1, H, W) or (H, W) in
            [0, 1], or one (H, W, 3) of uint8.
        name: of the argument, for the error text.

    Returns:
        (H, W, 3) uint8, contiguous, its own memory.
    """
    if isinstance(photo, str | Path):
        return np.array(read_image(expanded(photo)))
    if isinstance(photo, Image.Image):
        return np.array(upright_rgb(photo, "the image"))
    if isinstance(photo, np.ndarray):
        return _bytes(photo, f"{name} has shape {photo.shape} and type {photo.dtype}", name)
    if _is_tensor(photo):
        return _from_tensor(photo, name)
    raise DataError(f"{name} is of type {type(photo).__name__}: expected {_PHOTO}")


def array_of(values: Numbers, name: str) -> NDArray[Any]:
    """Numbers in any form as an array, not changed: of a Pillow image its pixels, upright, such as palette indices.

    A tensor may be on any device; ``name`` is that of the argument, for the error text.
    """
    if isinstance(values, Image.Image):
        values = upright(values, f"{name} (an image of Pillow's)")
    elif _is_tensor(values):
        values = values.detach().cpu()
        values = (values.float() if str(values.dtype) == "torch.bfloat16" else values).numpy()
    try:
        array = np.asarray(values)
    except (ValueError, TypeError) as error:
        raise DataError(f"{name} is not an array: {error}") from error
    if array.dtype.kind not in "biuf":
        got = type(values).__name__ if array.ndim == 0 else f"an array of {array.dtype}"
        raise DataError(f"{name} is {got}: expected an array or tensor of numbers, or an image of Pillow's")
    return array


def tensor_of(values: Numbers, name: str) -> Tensor:
    """Numbers in any form as a tensor; a tensor is given back as it is, on its device.

    The other arguments and errors are those of `array_of`.
    """
    import torch

    if isinstance(values, torch.Tensor):
        return values
    array = array_of(values, name)
    if array.dtype.itemsize > np.dtype(np.float64).itemsize:  # long doubles
        array = array.astype(np.float64)
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    return torch.from_numpy(np.require(native, requirements=["C", "W"]))  # torch takes no others without a word


def _is_tensor(value: object) -> TypeGuard[Tensor]:
    """Whether it is a tensor, without importing torch."""
    return hasattr(value, "detach") and hasattr(value, "is_floating_point")


def _from_tensor(photo: Tensor, name: str) -> NDArray[np.uint8]:
    got = f"{name} is a tensor of shape {tuple(photo.shape)} and type {photo.dtype}"
    values = array_of(photo, name)
    if photo.is_floating_point():
        if photo.ndim == 3 and photo.shape[0] in (1, 3):
            return _bytes(values.transpose(1, 2, 0), got, name)
        if photo.ndim == 2:
            return _bytes(values, got, name)
    elif values.dtype == np.uint8 and photo.shape[-1:] == (3,):
        return _bytes(values, got, name)
    raise DataError(f"{got}: expected (3, H, W), floating, in [0, 1]; give several as a list")


def _bytes(values: NDArray[Any], got: str, name: str) -> NDArray[np.uint8]:
    """An array with its channels last, as (H, W, 3) uint8."""
    grey = values.ndim == 2 or (values.ndim == 3 and values.shape[2] == 1)
    if not values.size or not (grey or (values.ndim == 3 and values.shape[2] == 3)):
        raise DataError(
            f"{got}: expected (H, W, 3) uint8 or floating in [0, 1], RGB, with at least one pixel; or grey, (H, W) or "
            "(H, W, 1)"
        )
    if values.dtype.kind == "f":
        low, high = float(values.min()), float(values.max())
        if not (low >= -ROUNDING and high <= 1 + ROUNDING):  # false for NaN too
            raise DataError(
                f"{got}, with values {low:g}..{high:g}: expected [0, 1], not normalised; or (H, W, 3) uint8 0..255"
            )
        values = (values.clip(0, 1) * 255).round().astype(np.uint8)
    elif values.dtype != np.uint8:
        raise DataError(f"{got}: expected (H, W, 3) uint8 0..255, or floating in [0, 1]")
    plane = values.reshape(*values.shape[:2], -1)
    return np.array(np.broadcast_to(plane, (*plane.shape[:2], 3)), order="C")
