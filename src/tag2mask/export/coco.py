"""MS COCO's JSON of instances: run lengths, or polygons along pixel edges; ``annotations/instances_<name>.json``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tag2mask.core.files import write_json
from tag2mask.export.formats import ExportFormat, Job, LabelledImage, Outline
from tag2mask.export.instances import Instance, outline

ABOUT = ExportFormat(polygons=True, run_lengths=True, photos="{name}", copies=False)


def write(job: Job) -> None:
    """Write the file. Images and annotations count from 1, and the category id of class column ``c`` is ``c + 1``."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, image in enumerate(job.images, start=1):
        height, width = image.labels.shape
        images.append({"id": number, "file_name": image.file, "height": height, "width": width})
        for instance in image.instances:
            annotations.append(_annotation(len(annotations) + 1, number, instance, image, job.outline))
    content = {
        "info": {"description": f"{job.name}: instances are connected components of each class"},
        "licenses": [],
        "categories": _categories(job.classes),
        "images": images,
        "annotations": annotations,
    }
    write_json(job.out / "annotations" / f"instances_{job.name}.json", content)


def run_lengths(instance: Instance, height: int, width: int) -> dict[str, Any]:
    """The pixels of an instance as COCO's compressed run lengths.

    Runs go down the columns of the image of ``height`` x ``width``; they are found in the instance's box alone.
    """
    from pycocotools import mask as coco_mask

    columns = np.pad(instance.mask.T, ((0, 0), (1, 1))).astype(np.int8)
    change = np.diff(columns, axis=1)
    ends = []
    for sign in (1, -1):
        column, row = np.nonzero(change == sign)
        ends.append((instance.left + column) * height + instance.top + row)
    begin, end = ends
    apart = begin[1:] != end[:-1]  # a run to the lower edge continues at the next column's upper edge
    bounds = np.stack([begin[np.r_[True, apart]], end[np.r_[apart, True]]], axis=1).reshape(-1)
    counts = np.diff(bounds, prepend=0, append=height * width).tolist()
    counts = counts if counts[-1] else counts[:-1]  # nothing comes behind the image's last pixel
    found: dict[str, Any] = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    return {"size": [height, width], "counts": found["counts"].decode("ascii")}


def _annotation(number: int, image_id: int, instance: Instance, image: LabelledImage, form: Outline) -> dict[str, Any]:
    left, top, right, bottom = instance.box
    if form == "rle":
        shape: Any = run_lengths(instance, *image.labels.shape)
    else:
        shape = [outline(instance).reshape(-1).tolist()]
    return {
        "id": number,
        "image_id": image_id,
        "category_id": instance.column + 1,
        "segmentation": shape,
        "area": instance.area,
        "bbox": [left, top, right - left, bottom - top],
        "iscrowd": 0,  # of run lengths too: each is one instance, and a crowd would not count in COCO's evaluation
    }


def _categories(classes: Sequence[str]) -> list[dict[str, Any]]:
    return [{"id": i, "name": name, "supercategory": ""} for i, name in enumerate(classes, start=1)]
