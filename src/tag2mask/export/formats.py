"""The formats by name (a format is one module and one line here), and what a format's module is given to write."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, cast

from PIL import Image

from tag2mask.core.errors import ConfigError, unknown
from tag2mask.data.base import Labels
from tag2mask.export.instances import Instance

FORMATS: dict[str, str] = {
    "coco": "tag2mask.export.coco",
    "labelme": "tag2mask.export.labelme",
    "cvat": "tag2mask.export.cvat",
    "palette": "tag2mask.export.palette",
    "yolo": "tag2mask.export.yolo",
    "voc-server": "tag2mask.export.voc_server",
}
"""Format name -> module with ``ABOUT`` (an `ExportFormat`) and ``write(job)``."""


@dataclass(frozen=True, slots=True)
class ExportFormat:
    """What a format is like.

    Attributes:
        polygons: whether it holds outlines, so that holes need a cut.
        run_lengths: whether ``outline="rle"`` is a choice.
        photos: folder of the export for copies of the photos; ``{name}`` stands for the export's name.
        copies: whether its layout is whole only with the photos in it, so that they are copied by default.
        spaces: whether names may hold white space; where not, ``_`` stands for it.
    """

    polygons: bool
    run_lengths: bool
    photos: str
    copies: bool
    spaces: bool = True


class Writer(Protocol):
    """What a format's module offers."""

    ABOUT: ExportFormat

    def write(self, job: Job) -> None:
        """Write all of a job into its folder."""
        ...


def register_format(name: str, module: str) -> None:
    """Add a format: ``module`` offers ``ABOUT`` and ``write`` as `Writer` says."""
    if FORMATS.get(name, module) != module:
        raise ConfigError(f"export format '{name}' is {FORMATS[name]} already; choose another name")
    FORMATS[name] = module


def writer(name: str) -> Writer:
    """The format of that name."""
    if name not in FORMATS:
        raise ConfigError(unknown("format", name, [*FORMATS, "onnx"]))
    return cast(Writer, importlib.import_module(FORMATS[name]))


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
