"""The YOLO tools' layout for segmentation: ``labels/<id>.txt``, the photos beside it in ``images/``, ``data.yaml``."""

from __future__ import annotations

import yaml

from tag2mask.core.files import write_text
from tag2mask.export.formats import ExportFormat, Job, LabelledImage
from tag2mask.export.instances import INSET, outline

ABOUT = ExportFormat(polygons=True, run_lengths=False, photos="images", copies=True)


def write(job: Job) -> None:
    """Write a line for each instance, ``class x1 y1 x2 y2 …`` in parts of width and height; classes count from 0.

    An image without any instance has an empty file, which says that nothing is in it.
    """
    for image in job.images:
        write_text(job.out / "labels" / f"{image.id}.txt", "".join(_lines(image)))
    names = yaml.safe_dump({"names": dict(enumerate(job.classes))}, allow_unicode=True, sort_keys=False)
    known = job.name if job.name in ("train", "val") else "train"
    lines = [
        f"{split}: images" + ("" if split == known else "  # the same images: put others here before you train")
        for split in ("train", "val")
    ]
    write_text(job.out / "data.yaml", "\n".join([*lines, names]))  # without "path": its folder is where it lies


def _lines(image: LabelledImage) -> list[str]:
    height, width = image.labels.shape
    lines = []
    for instance in image.instances:
        points = outline(instance, INSET) / (width, height)
        lines.append(f"{instance.column} {' '.join(f'{v:.7f}' for v in points.reshape(-1).tolist())}\n")
    return lines
