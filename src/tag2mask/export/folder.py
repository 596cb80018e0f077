"""Label images of a folder, whoever made them, with the names of their classes and, if known, their photos."""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from tag2mask.core.errors import DataError
from tag2mask.core.palette import open_image, own_bound
from tag2mask.core.types import IGNORE
from tag2mask.data.base import Labels
from tag2mask.data.image_names import IMAGE_SUFFIXES, check_ids
from tag2mask.data.layout import CLASSES_FILE, check_classes, normal, read_lines
from tag2mask.data.mask_files import align_labels, read_labels
from tag2mask.export.formats import Masked, Masks

_INNER = ("masks", "SegmentationClass")
"""Folders of masks within the folder of a stage, of predictions, or of data in VOC's layout."""
_MODES = ("P", "L", "1")
_PNG = (".png",)


def masks_of_folder(
    folder: Path, classes: Path | None = None, photos: Path | None = None, name: str = "train"
) -> Masks:
    """The label images of a folder and all folders below it; masks are named as their photos but for the ending.

    Where the folder of palette PNGs has a folder ``masks`` or ``SegmentationClass``, that one is meant. Without a text
    file of ``classes``, one name a line, there is a ``classes.txt`` in the folder, the one around it, or the one around
    the ``masks`` or ``SegmentationClass`` that the folder lies in. ``photos`` is searched with all below it.
    """
    if not folder.is_dir():
        state = "is a file" if folder.exists() else "does not exist"
        raise DataError(f"{folder} {state}: expected the folder of a run, or a folder of palette PNG masks")
    base = next((folder / inner for inner in _INNER if (folder / inner).is_dir()), folder)
    masks = _by_name(base, _PNG)
    if not masks:
        raise DataError(f"folder {base} holds no PNG, nor do those below it: expected palette PNG masks")
    check_ids(masks)
    inner = next((p for p in base.absolute().parents if p.name in _INNER), base)  # a folder of photos in it is given
    names = _classes(classes, [folder, base, base.parent, inner.parent])
    found = {} if photos is None else _photos(photos, masks)
    images = [Masked(i, found.get(i), partial(_labels, path, names, found.get(i))) for i, path in sorted(masks.items())]
    return Masks(name, names, tuple(images), shared_folder(found.values()))


def shared_folder(photos: Iterable[Path]) -> Path | None:
    """The innermost folder that holds all photos; None without any."""
    parents = {str(path.absolute().parent) for path in photos}
    return Path(os.path.commonpath(parents)) if parents else None


def check_labels(labels: Labels, n_classes: int, what: str) -> Labels:
    """(H, W) uint8 labels as they are, if each is of one of C classes; ``what`` names the mask in the error."""
    present = np.flatnonzero(np.bincount(labels.reshape(-1), minlength=256))
    strange = [int(i) for i in present if n_classes < i != IGNORE]
    if strange:
        raise DataError(
            f"{what} holds {'index' if len(strange) == 1 else 'indices'} {', '.join(map(str, strange))}: expected 0 "
            f"(background), 1..{n_classes} (classes in their order) or 255 (ignored). Are the class names those of "
            f"these masks?"
        )
    return labels


@own_bound()  # the photo was as large when the mask was made
def _labels(path: Path, classes: Sequence[str], photo: Path | None) -> Labels:
    """Read a mask, in the upright frame of its photo."""
    try:
        with open_image(path) as image:
            mode = image.mode
    except Exception:  # whatever a damaged file brings about; reading it says in words what is wrong
        mode = _MODES[0]
    if mode not in _MODES:
        raise DataError(
            f"mask {path} has mode {mode}: expected a palette PNG or 8-bit grey whose values are class indices. Is it "
            f"a photo, or a mask in colours or with 16 bits? Name the folder of the masks alone, or store indices"
        )
    labels = check_labels(read_labels(path), len(classes), f"mask {path}")
    return labels if photo is None else align_labels(labels, photo, f"mask {path}")


def _by_name(folder: Path, endings: Sequence[str], wanted: Container[str] | None = None) -> dict[str, Path]:
    """Files in and below a folder by name without ending; hidden ones and, if ``wanted`` is given, others left out."""
    found: dict[str, Path] = {}
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(n for n in folders if not n.startswith("."))
        for path in (Path(parent, n) for n in sorted(files) if not n.startswith(".")):
            name = normal(path.stem)
            if path.suffix.lower() not in endings or (wanted is not None and name not in wanted):
                continue
            other = found.setdefault(name, path)
            if other != path:
                raise DataError(
                    f"{other} and {path} have the same name before the ending, and an export has one folder for all: "
                    f"rename one, or export the folders one by one"
                )
    return found


def _classes(given: Path | None, places: Sequence[Path]) -> tuple[str, ...]:
    path = given or next((p / CLASSES_FILE for p in places if (p / CLASSES_FILE).is_file()), None)
    if path is None:
        raise DataError(
            f"{places[0]} has no {CLASSES_FILE}: write the class names there, one a line in the order of the indices "
            f"1, 2, …, or name such a file with --classes FILE"
        )
    return check_classes((line for _, line in read_lines(path)), str(path))


def _photos(folder: Path, masks: dict[str, Path]) -> dict[str, Path]:
    if not folder.is_dir():
        raise DataError(f"--images {folder}: there is no such folder")
    found = _by_name(folder, IMAGE_SUFFIXES, masks)
    lost = [path for i, path in masks.items() if i not in found]
    if lost:
        raise DataError(
            f"{len(lost)} of {len(masks)} masks have no photo in {folder}, first {lost[0]}: a mask has the name of its "
            f"photo, but for the ending"
        )
    return found
