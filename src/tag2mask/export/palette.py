"""The layout of PASCAL VOC: palette PNGs, a list, the photos, and an annotation of the objects for each.

Its lists separate words by white space, so names have none.
"""

from __future__ import annotations

from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from tag2mask.core.files import write_text
from tag2mask.core.palette import write_labels
from tag2mask.data.layout import CLASSES_FILE
from tag2mask.export.formats import ExportFormat, Job, LabelledImage

ABOUT = ExportFormat(polygons=False, run_lengths=False, photos="JPEGImages", copies=True, spaces=False)


def write(job: Job) -> None:
    """Write masks, list, classes and annotations; with the photos the reader ``voc`` opens the folder as data."""
    ids = []
    for image in job.images:
        ids.append(image.id)
        write_labels(job.out / "SegmentationClass" / f"{image.id}.png", image.labels)
        write_text(job.out / "Annotations" / f"{image.id}.xml", _annotation(image, job.classes))
    write_text(job.out / "ImageSets" / "Segmentation" / f"{job.name}.txt", "".join(f"{i}\n" for i in ids))
    write_text(job.out / CLASSES_FILE, "".join(f"{name}\n" for name in job.classes))


def _annotation(image: LabelledImage, classes: tuple[str, ...]) -> str:
    """The objects of an image: boxes in VOC's pixels, which count from 1 and include the last."""
    height, width = image.labels.shape
    root = Element("annotation")
    SubElement(root, "folder").text = ABOUT.photos
    SubElement(root, "filename").text = image.file
    size = SubElement(root, "size")
    for name, value in (("width", width), ("height", height), ("depth", 3)):
        SubElement(size, name).text = str(value)
    SubElement(root, "segmented").text = "1"
    for instance in image.instances:
        element = SubElement(root, "object")
        SubElement(element, "name").text = classes[instance.column]
        SubElement(element, "difficult").text = "0"
        box = SubElement(element, "bndbox")
        left, top, right, bottom = instance.box
        for name, value in (("xmin", left + 1), ("ymin", top + 1), ("xmax", right), ("ymax", bottom)):
            SubElement(box, name).text = str(value)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"
