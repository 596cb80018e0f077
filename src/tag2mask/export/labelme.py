"""LabelMe's JSON, one file an image, its shapes polygons that LabelMe's own tools turn into the same pixels."""

from __future__ import annotations

import os
from pathlib import PurePath
from typing import Any

from tag2mask.core.files import write_json
from tag2mask.export.formats import ExportFormat, Job, LabelledImage
from tag2mask.export.instances import INSET, outline

ABOUT = ExportFormat(polygons=True, run_lengths=False, photos=".", copies=False)
VERSION = "5.5.0"
"""Version of LabelMe whose keys these are."""


def write(job: Job) -> None:
    """Write ``<id>.json`` for each image, also for one without any instance; it finds the photo where that lies."""
    for image in job.images:
        height, width = image.labels.shape
        content = {
            "version": VERSION,
            "flags": {},
            "shapes": _shapes(image, job.classes),
            "imagePath": _path(image, job),
            "imageData": None,
            "imageHeight": height,
            "imageWidth": width,
        }
        write_json(job.out / f"{image.id}.json", content)


def _shapes(image: LabelledImage, classes: tuple[str, ...]) -> list[dict[str, Any]]:
    return [
        {
            "label": classes[instance.column],
            "points": outline(instance, INSET).round(1).tolist(),
            "group_id": None,
            "description": "",
            "shape_type": "polygon",
            "flags": {},
            "mask": None,
        }
        for instance in image.instances
    ]


def _path(image: LabelledImage, job: Job) -> str:
    """From the JSON's folder to the photo, with slashes."""
    if job.copied or image.photo is None:
        return image.file
    try:
        return PurePath(os.path.relpath(image.photo, job.final)).as_posix()
    except ValueError:  # another drive of Windows: no relative path leads there
        return image.photo.absolute().as_posix()
