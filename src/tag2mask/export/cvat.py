"""CVAT's XML for images, version 1.1: ``annotations.xml`` with polygons along pixel edges."""

from __future__ import annotations

from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from tag2mask.core.files import atomic_path
from tag2mask.core.palette import colour
from tag2mask.export.formats import ExportFormat, Job
from tag2mask.export.instances import Instance, outline

ABOUT = ExportFormat(polygons=True, run_lengths=False, photos="images", copies=False)


def write(job: Job) -> None:
    """Write the file; the labels in it have the names and colours of the classes."""
    root = Element("annotations")
    SubElement(root, "version").text = "1.1"
    task = SubElement(SubElement(root, "meta"), "task")
    SubElement(task, "name").text = job.name
    labels = SubElement(task, "labels")
    for index, name in enumerate(job.classes, start=1):
        label = SubElement(labels, "label")
        SubElement(label, "name").text = name
        SubElement(label, "color").text = "#{:02x}{:02x}{:02x}".format(*colour(index))
        SubElement(label, "type").text = "polygon"
        SubElement(label, "attributes")
    for number, image in enumerate(job.images):
        height, width = image.labels.shape
        about = {"id": str(number), "name": image.file, "width": str(width), "height": str(height)}
        element = SubElement(root, "image", about)
        for instance in image.instances:
            _polygon(element, instance, job.classes[instance.column])
    ElementTree.indent(root)
    with atomic_path(job.out / "annotations.xml") as temporary:
        ElementTree.ElementTree(root).write(temporary, encoding="utf-8", xml_declaration=True)


def _polygon(image: Element, instance: Instance, label: str) -> None:
    text = ";".join(f"{x:.2f},{y:.2f}" for x, y in outline(instance).tolist())
    about = {"label": label, "source": "auto", "occluded": "0", "points": text, "z_order": "0"}
    SubElement(image, "polygon", about)
