"""Sidecars: further files of an image by role, such as ``saliency`` or ``foreground``, one folder a role.

Readers know nothing of them: `registry.open_split` gives every sample those of its id. A kind of stage says which roles
it looks at, and only the keys of such stages hold the files' contents.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tag2mask.core.errors import DataError
from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset, Finding
from tag2mask.data.image_names import IMAGE_SUFFIXES, image_id
from tag2mask.data.images import SIDEWAYS, loaded, opened, stored_size, turned, upright_size
from tag2mask.data.layout import check_utf8, files_in
from tag2mask.data.mask_files import is_array, mapped_array

Grey = NDArray[np.float32]
_HIGHEST = {"u1": 255, "u2": 65535, "i4": 65535, "b1": 1}
"""What stands for 1 in whole numbers of that many bytes; Pillow holds 16 bits in 32."""


def with_sidecars(dataset: Dataset, folders: Mapping[str, Path], root: Path | None) -> Dataset:
    """The split with the sidecars of its samples.

    Args:
        dataset: as a reader opens it.
        folders: by role, in ``root``, else where the path leads from the working folder. A file belongs to the image
            of its name, but for the ending, and of its sub-folder if the image lies in one; of others nothing is said.
        root: folder of the data set.

    Raises:
        DataError: a folder is missing, or two files of one belong to an image.
    """
    if not folders:
        return dataset
    found = {role: _folder(role, path.expanduser(), root) for role, path in folders.items()}
    files = {role: _by_id(folder) for role, folder in found.items()}
    changed = copy.copy(dataset)
    changed.sidecar_folders = found
    changed.samples = tuple(
        replace(s, sidecars={role: own[s.id] for role, own in files.items() if s.id in own}) for s in dataset.samples
    )
    return changed


def _folder(role: str, path: Path, root: Path | None) -> Path:
    places = [path] if root is None else [root.expanduser() / path, path]
    folder = next((place for place in places if place.is_dir()), None)
    if folder is None:
        looked = " nor ".join(str(place.absolute()) for place in dict.fromkeys(places))
        raise DataError(f"data.sidecars.{role} = {path}: there is no folder {looked}")
    return folder


def _by_id(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in files_in(folder, below=True):
        check_utf8(path)
        other = found.setdefault(image_id(path.relative_to(folder).as_posix()), path)
        if other != path:
            raise DataError(f"{other} and {path} have the same name before the ending: rename or remove one")
    return found


def check_sidecars(dataset: Dataset, samples: Sequence[Sample], roles: Collection[str], stage: str) -> None:
    """See that every image has the sidecars that a stage looks at.

    Raises:
        DataError: the data names no folder of a role, or images have no file in it.
    """
    for role in roles:
        folder = dataset.sidecar_folders.get(role)
        if folder is None:
            raise DataError(
                f"stage '{stage}' needs a sidecar '{role}' of each image, but data.sidecars names none: set "
                f"data.sidecars.{role}=FOLDER"
            )
        missing = [s.id for s in samples if role not in s.sidecars]
        if missing:
            raise DataError(
                f"stage '{stage}' needs a sidecar '{role}' of each image, but {len(missing)} of {len(samples)} images "
                f"of split '{dataset.split}' have none in {folder}, first '{missing[0]}': add {missing[0]}.png there, "
                "or take these images out of the split"
            )


def sidecar_findings(dataset: Dataset, sample: Sample) -> list[Finding]:
    """What is wrong with the sizes of an image's sidecars, by headers alone; other formats are not looked at."""
    found = []
    for path in sample.sidecars.values():
        try:
            if is_array(path):
                _is_upright(dataset, sample, path, mapped_array(path, "sidecar", "buf").shape)
            elif path.suffix.lower() in IMAGE_SUFFIXES:
                _is_upright(dataset, sample, path, upright_size(path))
        except DataError as error:
            found.append(Finding("sidecar", "error", (sample.id,), str(error), "Make it again from the image as it is"))
    return found


def read_sidecar(dataset: Dataset, sample: Sample, role: str) -> Grey:
    """A sidecar as grey values, in the upright frame of its image and at the size that the image is brought to.

    Args:
        dataset: the split.
        sample: one of it.
        role: such as ``saliency``.

    Returns:
        (H, W) in [0, 1]: 0..255 of 8 bits, 0..65535 of 16, 0 or 1 of one bit; numbers of npy files that have a point
        as they are.

    Raises:
        DataError: there is none, it is damaged, in colour or of another size than its image, or its values are not in
            [0, 1].
    """
    path = sample.sidecars.get(role)
    if path is None:
        folder = dataset.sidecar_folders.get(role, f"data.sidecars.{role}, which is not set")
        raise DataError(f"image '{sample.id}' has no sidecar '{role}': expected {sample.id}.png in {folder}")
    values = _scaled(np.array(mapped_array(path, "sidecar", "buf")) if is_array(path) else _decoded(path), path)
    if not _is_upright(dataset, sample, path, values.shape):
        assert sample.image is not None
        values = np.asarray(turned(Image.fromarray(values), stored_size(sample.image)[1]))
    size = dataset.working_size(sample)
    if size is not None and size != values.shape:
        values = np.asarray(Image.fromarray(values).resize(size[::-1], Image.Resampling.BILINEAR))
    return np.ascontiguousarray(values)


def _decoded(path: Path) -> NDArray[Any]:
    with opened(path) as image:
        whole = turned(image, loaded(image))
        if image.mode not in ("1", "L", "I", "F") and not image.mode.startswith("I;16"):
            raise DataError(f"sidecar {path} has mode {image.mode}: expected grey of 1, 8 or 16 bits, or an npy file")
        return np.array(whole)


def _scaled(values: NDArray[Any], path: Path) -> Grey:
    highest = 1 if values.dtype.kind == "f" else _HIGHEST.get(values.dtype.str[1:], 255)
    found: Grey = (values / highest).astype(np.float32)
    if found.size and not (found.min() >= 0 and found.max() <= 1):  # false for NaN too
        raise DataError(
            f"sidecar {path} has values {values.min()}..{values.max()}: expected 0..{highest}. Divide by the maximum"
        )
    return found


def _is_upright(dataset: Dataset, sample: Sample, path: Path, size: tuple[int, ...]) -> bool:
    """Whether a sidecar has the upright size of its image; false for that of the stored pixels, which EXIF turns."""
    if sample.image is None:
        stored, orientation = dataset.image(sample).size[::-1], 1
    else:
        stored, orientation = stored_size(sample.image)
    upright = stored[::-1] if orientation >= SIDEWAYS else stored
    if size not in (upright, stored):
        raise DataError(
            f"sidecar {path} is {size[1]} x {size[0]} pixels, its image '{sample.id}' is {upright[1]} x {upright[0]}: "
            "a sidecar must have the size of its image"
        )
    return size == upright
