"""The formats by name: a format is one module and one line here."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Protocol, cast

from tag2mask.core.errors import ConfigError, unknown
from tag2mask.export.job import Job

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
