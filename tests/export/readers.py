"""Each format read back into label images, by the rule with which the format's own tools draw its shapes.

A new format needs its line in `READERS` here; the tests then take it through the registry.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset
from tag2mask.data.readers.voc import VOC_CLASSES
from tag2mask.data.registry import load_dataset

Labels = NDArray[np.uint8]
Sizes = dict[str, tuple[int, int]]


def read_coco(out: Path, classes: Sequence[str], sizes: Sizes) -> dict[str, Labels]:
    """By pycocotools."""
    (path,) = (out / "annotations").glob("instances_*.json")
    coco = COCO(str(path))
    found = {}
    for image in coco.loadImgs(coco.getImgIds()):
        labels = np.zeros((image["height"], image["width"]), np.uint8)
        for annotation in coco.loadAnns(coco.getAnnIds(imgIds=[image["id"]])):
            name = coco.cats[annotation["category_id"]]["name"]
            labels[coco.annToMask(annotation) == 1] = classes.index(name) + 1
        found[Path(image["file_name"]).stem] = labels
    return found


def read_labelme(out: Path, classes: Sequence[str], sizes: Sizes) -> dict[str, Labels]:
    """As LabelMe makes masks of shapes: Pillow's polygon, filled and outlined."""
    found = {}
    for path in out.glob("*.json"):
        content = json.loads(path.read_text(encoding="utf-8"))
        labels = np.zeros((content["imageHeight"], content["imageWidth"]), np.uint8)
        for shape in content["shapes"]:
            labels[outlined(shape["points"], labels.shape)] = classes.index(shape["label"]) + 1
        found[path.stem] = labels
    return found


def read_cvat(out: Path, classes: Sequence[str], sizes: Sizes) -> dict[str, Labels]:
    """As CVAT makes masks of polygons: by pycocotools."""
    found = {}
    for image in ElementTree.parse(out / "annotations.xml").getroot().iter("image"):
        labels = np.zeros((int(image.get("height", "")), int(image.get("width", ""))), np.uint8)
        for polygon in image.iter("polygon"):
            flat = [float(v) for pair in polygon.get("points", "").split(";") for v in pair.split(",")]
            runs = coco_mask.frPyObjects([flat], *labels.shape)
            labels[coco_mask.decode(runs)[..., 0] == 1] = classes.index(polygon.get("label", "")) + 1
        found[Path(image.get("name", "")).stem] = labels
    return found


def read_yolo(out: Path, classes: Sequence[str], sizes: Sizes) -> dict[str, Labels]:
    """As the YOLO tools make masks: float32, times the size, cut to integers, filled with the outline."""
    names = yaml.safe_load((out / "data.yaml").read_text(encoding="utf-8"))["names"]
    found = {}
    for path in (out / "labels").glob("*.txt"):
        height, width = sizes[path.stem]
        labels = np.zeros((height, width), np.uint8)
        for line in path.read_text(encoding="utf-8").splitlines():
            index, *values = line.split()
            points = np.array(values, dtype=np.float32).reshape(-1, 2)
            assert 0 <= points.min() <= points.max() <= 1
            cut = (points * np.array([width, height], np.float32)).astype(np.int32)
            labels[outlined(cut.tolist(), labels.shape)] = classes.index(names[int(index)]) + 1
        found[path.stem] = labels
    return found


def read_palette(out: Path, classes: Sequence[str], sizes: Sizes) -> dict[str, Labels]:
    """By our own reader of VOC's layout."""
    (split,) = (p.stem for p in (out / "ImageSets" / "Segmentation").glob("*.txt"))
    data = load_dataset("voc", out, split, allow_empty=True)
    assert data.classes == tuple(classes)
    found = {}
    for sample in data.samples:
        found[sample.id] = truth(data, sample)
    return found


def read_voc_server(out: Path, classes: Sequence[str], sizes: Sizes) -> dict[str, Labels]:
    """As the server does: the indices of the PNGs in the archive, in the order of VOC's classes."""
    assert tuple(classes) == VOC_CLASSES
    found = {}
    with zipfile.ZipFile(out / "results.zip") as archive:
        for name in archive.namelist():
            with Image.open(io.BytesIO(archive.read(name))) as image:
                found[Path(name).stem] = np.array(image)
    return found


def outlined(points: Sequence[Sequence[float]], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The pixels of a polygon that is filled and whose outline is drawn too; coordinates are cut to integers."""
    canvas = Image.new("L", (shape[1], shape[0]))
    ImageDraw.Draw(canvas).polygon([(x, y) for x, y in points], outline=1, fill=1)
    inside: NDArray[np.bool_] = np.asarray(canvas) == 1
    return inside


def truth(data: Dataset, sample: Sample) -> Labels:
    """The ground truth of a sample that has one."""
    labels = data.truth(sample)
    assert labels is not None
    return labels


READERS: dict[str, Callable[[Path, Sequence[str], Sizes], dict[str, Labels]]] = {
    "coco": read_coco,
    "labelme": read_labelme,
    "cvat": read_cvat,
    "yolo": read_yolo,
    "palette": read_palette,
    "voc-server": read_voc_server,
}
CERTAIN = {"voc-server"}
"""Formats that refuse masks with ignored pixels."""
