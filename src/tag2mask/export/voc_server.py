"""The archive that the PASCAL VOC evaluation server takes: ``results.zip`` with one palette PNG for each test image.

The server counts labels of all of VOC's 20 classes and of background. Networks of tag2mask begin with weights that have
seen other images, so the competition is ``comp6`` (any training data) and not ``comp5`` (VOC's own only).
"""

from __future__ import annotations

import io
import zipfile

from tag2mask.core.errors import DataError
from tag2mask.core.files import atomic_path
from tag2mask.core.palette import palette_image
from tag2mask.core.progress import LOG
from tag2mask.core.types import IGNORE
from tag2mask.data.base import Labels
from tag2mask.data.readers.voc import VOC_CLASSES
from tag2mask.export.formats import ExportFormat, Job

ABOUT = ExportFormat(polygons=False, run_lengths=False, photos="JPEGImages", copies=False)
ARCHIVE = "results.zip"
INSIDE = "results/VOC2012/Segmentation/comp6_test_cls"
"""Folder of the masks in the archive."""
N_TEST = 1456
"""Images of VOC 2012's test list for segmentation."""
_EPOCH = (1980, 1, 1, 0, 0, 0)


def write(job: Job) -> None:
    """Write ``results.zip``."""
    if job.classes != VOC_CLASSES:
        raise DataError(
            f"the masks are of the {len(job.classes)} classes {', '.join(job.classes[:3])}, …: the VOC server takes "
            f"VOC's {len(VOC_CLASSES)} in their own order, {', '.join(VOC_CLASSES[:3])}, …"
        )
    count = 0
    with atomic_path(job.out / ARCHIVE) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for image in job.images:
            archive.writestr(zipfile.ZipInfo(f"{INSIDE}/{image.id}.png", _EPOCH), _png(image.labels, image.id))
            count += 1
    if count != N_TEST:
        LOG.warning("voc-server: %d masks, but VOC 2012's test list has %d: the server wants all", count, N_TEST)


def _png(labels: Labels, name: str) -> bytes:
    if bool((labels == IGNORE).any()):
        raise DataError(f"the mask of '{name}' has ignored pixels (255): the VOC server wants a label for each pixel")
    stream = io.BytesIO()
    palette_image(labels).save(stream, format="PNG")
    return stream.getvalue()
