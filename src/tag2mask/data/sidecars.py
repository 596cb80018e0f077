"""Sidecars: further files of an image by role, such as ``saliency`` or ``foreground``, one folder a role.

Readers know nothing of them: `registry.open_split` gives every sample those of its id. A kind of stage says which roles
it looks at, and only the keys of such stages hold the files' contents.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tag2mask.core.errors import DataError
from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset, Finding
from tag2mask.data.image_names import IMAGE_SUFFIXES, image_id
from tag2mask.data.images import loaded, opened, turned, upright_size
from tag2mask.data.layout import files_in
from tag2mask.data.mask_files import align_labels, check_size, is_array, mapped_array

Grey = NDArray[np.float32]


def with_sidecars(dataset: Dataset, folders: Mapping[str, Path], root: Path | None) -> Dataset:
    """The split with the sidecars of its samples, in folders by role.

    A folder lies in ``root``, else where its path leads from the working folder. A file belongs to the image of its
    name, but for the ending, and of its sub-folder if the image lies in one; files of no image are left alone.
    """
    if not folders:
        return dataset
    found = {role: _folder(role, path.expanduser(), root) for role, path in folders.items()}
    ids = {sample.id for sample in dataset.samples}
    files = {role: _by_id(folder, ids) for role, folder in found.items()}
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


def _by_id(folder: Path, ids: Collection[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in files_in(folder, below=True):
        name = image_id(path.relative_to(folder).as_posix())
        if name in ids and (other := found.setdefault(name, path)) != path:
            raise DataError(f"{other} and {path} have the same name before the ending: rename or remove one")
    return found


def check_sidecars(dataset: Dataset, samples: Sequence[Sample], roles: Collection[str], stage: str) -> None:
    """See that every image has the sidecars that a stage looks at."""
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
            if is_array(path) and sample.image is not None:
                check_size(mapped_array(path, "sidecar", "buf").shape, sample.image, f"sidecar {path}")
            elif path.suffix.lower() in IMAGE_SUFFIXES and sample.image is not None:
                check_size(upright_size(path), sample.image, f"sidecar {path}")
        except DataError as error:
            found.append(Finding("sidecar", "error", (sample.id,), str(error), "Make it again from the image as it is"))
    return found


def read_sidecar(dataset: Dataset, sample: Sample, role: str) -> Grey:
    """A sidecar as grey values, in the upright frame of its image and at the size that the image is brought to.

    Returns:
        (H, W) in [0, 1]: 0..255 of 8 bits, 0..65535 of 16, 0 or 1 of one bit; floating numbers of npy and TIFF files as
        they are.

    Raises:
        DataError: there is none, it is damaged, in colour or of another size than its image, or its values are not in
            [0, 1].
    """
    path = sample.sidecars.get(role)
    if path is None:
        folder = dataset.sidecar_folders.get(role, f"data.sidecars.{role}, which is not set")
        raise DataError(f"image '{sample.id}' has no sidecar '{role}': expected {sample.id}.png in {folder}")
    values = _grey(path)
    if sample.image is not None:
        values = align_labels(values, sample.image, f"sidecar {path}")
    elif (drawn := dataset.photo(sample).size[::-1]) != values.shape:
        raise DataError(f"sidecar {path} has shape {values.shape}, its image {drawn}: expected the size of its image")
    size = dataset.working_size(sample)
    if size is not None and size != values.shape:
        values = np.asarray(Image.fromarray(values).resize(size[::-1], Image.Resampling.BILINEAR))
    return np.ascontiguousarray(values)


def _grey(path: Path) -> Grey:
    """The values as they are stored, in [0, 1]."""
    if is_array(path):
        values = np.array(mapped_array(path, "sidecar", "buf"))
    else:
        with opened(path) as image:
            whole = turned(image, loaded(image))
            if image.mode not in ("1", "L", "I", "F") and not image.mode.startswith("I;16"):
                raise DataError(
                    f"sidecar {path} has mode {image.mode}: expected grey of 1, 8 or 16 bits, or an npy file"
                )
            values = np.array(whole)
    highest = 1 if values.dtype.kind in "fb" else 255 if values.dtype.itemsize == 1 else 65535
    found: Grey = (values / highest).astype(np.float32)
    if found.size and not (found.min() >= 0 and found.max() <= 1):  # false for NaN too
        raise DataError(
            f"sidecar {path} has values {values.min()}..{values.max()}: expected 0..{highest}. Divide by the maximum"
        )
    return found
