"""VOC's layout, read again by the reader ``voc``."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from tag2mask.core.palette import voc_palette
from tag2mask.data.registry import load_dataset
from tag2mask.pipeline.export_run import export_masks
from tests.export.drawn_masks import CLASSES, mask_folder, solid
from tests.export.readers import truth


def test_the_reader_voc_opens_it_with_photos_tags_and_truth(tmp_path: Path) -> None:
    masks = solid()
    root = mask_folder(tmp_path / "in", masks)
    export_masks(root, "palette", tmp_path / "out", images=root / "photos", name="mine")
    data = load_dataset("voc", tmp_path / "out", "mine", allow_empty=True)
    assert data.classes == CLASSES
    assert [s.id for s in data.samples] == sorted(masks)
    for sample in data.samples:
        labels = masks[sample.id]
        assert np.array_equal(truth(data, sample), labels)  # 255 as it was
        assert data.image(sample).size == labels.shape[::-1]
        assert sample.tags == tuple(int(i) - 1 for i in np.unique(labels) if 0 < i < 255)


def test_layout_and_palette(tmp_path: Path) -> None:
    root = mask_folder(tmp_path / "in", {"b": np.ones((2, 3), np.uint8), "a": np.zeros((2, 3), np.uint8)})
    export_masks(root, "palette", tmp_path / "out", images=root / "photos")
    out = tmp_path / "out"
    assert (out / "ImageSets/Segmentation/train.txt").read_text() == "a\nb\n"
    assert (out / "classes.txt").read_text().splitlines() == list(CLASSES)
    with Image.open(out / "SegmentationClass/b.png") as image:
        assert image.mode == "P"
        assert tuple(image.getpalette() or ()) == voc_palette()


def test_boxes_count_from_1_and_include_the_last_pixel(tmp_path: Path) -> None:
    labels = np.zeros((5, 8), np.uint8)
    labels[1:3, 2:7] = 2
    root = mask_folder(tmp_path / "in", {"a": labels})
    export_masks(root, "palette", tmp_path / "out", images=root / "photos")
    tree = ElementTree.parse(tmp_path / "out/Annotations/a.xml").getroot()
    assert tree.findtext("filename") == "a.jpg"
    assert [tree.findtext(f"size/{n}") for n in ("width", "height", "depth")] == ["8", "5", "3"]
    assert tree.findtext("object/name") == "bicycle"
    assert [tree.findtext(f"object/bndbox/{n}") for n in ("xmin", "ymin", "xmax", "ymax")] == ["3", "2", "7", "3"]
