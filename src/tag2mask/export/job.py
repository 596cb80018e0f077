"""What an export works on: label images with their photos' names, and the choices for the whole of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image

from tag2mask.data.base import Labels
from tag2mask.export.instances import Instance

Outline = Literal["polygons", "rle"]


@dataclass(frozen=True, slots=True)
class Masked:
    """One photo and its label image, not read yet.

    The labels are (H, W) uint8, 0 background, ``c + 1`` for class column ``c``, 255 ignored, of the photo's upright
    size; reading them raises `DataError` or `StageError` where they are not so.
    """

    id: str  # unique, a safe file name without ending
    photo: Path | None  # None where it is drawn or not known
    labels: Callable[[], Labels]
    draw: Callable[[], Image.Image] | None = None  # gives the photo where it has no file


@dataclass(frozen=True, slots=True)
class Masks:
    """All that is exported."""

    name: str  # of the split, or train where there is none; lists and files are named by it
    classes: tuple[str, ...]
    images: tuple[Masked, ...]  # sorted by id
    photos: Path | None  # folder that photos' file names are relative to


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """One image as a format's writer is given it.

    Attributes:
        id: unique, a safe file name without ending.
        file: name of the photo's file: its name in the export where photos are copied there, else relative to the
            folder that all photos share; ends in .png where there is none.
        photo: the file itself, or None.
        labels: (H, W) uint8, 0 background, ``c + 1`` for class column ``c``, 255 ignored.
        instances: of ``labels``.
    """

    id: str
    file: str
    photo: Path | None
    labels: Labels
    instances: tuple[Instance, ...]


@dataclass(frozen=True, slots=True)
class Job:
    """What a format's writer is to write.

    Attributes:
        out: folder to write into, moved to ``final`` when all is there.
        final: folder where it will lie.
        name: of lists and files.
        classes: C names.
        images: read one by one.
        outline: polygons or run lengths, for a format that has both.
        copied: whether photos are copied into the export.
    """

    out: Path
    final: Path
    name: str
    classes: tuple[str, ...]
    images: Iterable[LabelledImage]
    outline: Outline
    copied: bool
