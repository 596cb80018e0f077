"""CVAT's XML: structure and values."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from tag2mask.pipeline.export_run import export_masks
from tests.export.drawn_masks import CLASSES, holed, mask_folder, solid
from tests.helpers.draw import write

POLYGON = {"label", "source", "occluded", "points", "z_order"}


def test_the_file_is_as_cvat_has_it(tmp_path: Path) -> None:
    masks = {**solid(), **holed()}
    root = mask_folder(tmp_path / "in", masks)
    export_masks(root, "cvat", tmp_path / "out", images=root / "photos")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["annotations.xml"]
    tree = ElementTree.parse(tmp_path / "out" / "annotations.xml").getroot()
    assert tree.tag == "annotations"
    assert [child.tag for child in tree] == ["version", "meta", *["image"] * len(masks)]
    assert tree.findtext("version") == "1.1"
    assert [e.text for e in tree.findall("meta/task/labels/label/name")] == list(CLASSES)
    colours = [e.text or "" for e in tree.findall("meta/task/labels/label/color")]
    assert all(re.fullmatch("#[0-9a-f]{6}", c) for c in colours)
    assert len(set(colours)) == len(CLASSES)
    for number, (image, name) in enumerate(zip(tree.iter("image"), sorted(masks), strict=True)):
        height, width = masks[name].shape
        assert image.attrib == {"id": str(number), "name": f"{name}.jpg", "width": str(width), "height": str(height)}
        for polygon in image:
            assert polygon.tag == "polygon"
            assert set(polygon.attrib) == POLYGON
            assert polygon.get("label") in CLASSES
            assert re.fullmatch(r"\d+\.\d\d,\d+\.\d\d(;\d+\.\d\d,\d+\.\d\d){3,}", polygon.get("points", ""))


def test_a_polygon_by_hand_and_names_that_xml_must_escape(tmp_path: Path) -> None:
    root = mask_folder(tmp_path / "in", {"a&b": np.array([[0, 1], [0, 1]], np.uint8)})
    write(root / "classes.txt", 'a "<b>" & c\n')
    export_masks(root, "cvat", tmp_path / "out", copy_images=None)
    (image,) = ElementTree.parse(tmp_path / "out" / "annotations.xml").getroot().iter("image")
    assert image.get("name") == "a&b.png"
    (polygon,) = image
    assert polygon.attrib == {
        "label": 'a "<b>" & c', "source": "auto", "occluded": "0", "z_order": "0",
        "points": "1.00,0.00;2.00,0.00;2.00,2.00;1.00,2.00",
    }  # fmt: skip
