"""COCO JSON: every field, beside pycocotools, and as data for our own reader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from tag2mask.data.registry import load_dataset
from tag2mask.export.coco import run_lengths
from tag2mask.export.formats import Outline
from tag2mask.export.instances import Instance, find_instances
from tag2mask.pipeline.export_run import export_masks
from tests.export.drawn_masks import holed, mask_folder, solid
from tests.export.readers import truth


def exported(tmp_path: Path, form: Outline = "polygons", **choices: Any) -> dict[str, Any]:
    masks = {"a": np.array([[1, 1, 0, 0], [1, 0, 0, 3], [0, 0, 0, 3]], np.uint8), "b": np.zeros((2, 5), np.uint8)}
    root = mask_folder(tmp_path / "in", masks)
    export_masks(root, "coco", tmp_path / "out", images=root / "photos", outline=form, **choices)
    content: dict[str, Any] = json.loads((tmp_path / "out/annotations/instances_train.json").read_text())
    return content


def test_every_field_by_hand(tmp_path: Path) -> None:
    content = exported(tmp_path)
    assert content["images"] == [
        {"id": 1, "file_name": "a.jpg", "height": 3, "width": 4},
        {"id": 2, "file_name": "b.jpg", "height": 2, "width": 5},
    ]
    assert content["annotations"] == [
        {
            "id": 1, "image_id": 1, "category_id": 1, "area": 3, "bbox": [0, 0, 2, 2], "iscrowd": 0,
            "segmentation": [[0, 0, 2, 0, 2, 1, 1, 1, 1, 2, 0, 2]],
        },
        {
            "id": 2, "image_id": 1, "category_id": 3, "area": 2, "bbox": [3, 1, 1, 2], "iscrowd": 0,
            "segmentation": [[3, 1, 4, 1, 4, 3, 3, 3]],
        },
    ]  # fmt: skip
    assert content["categories"][:2] == [
        {"id": 1, "name": "aeroplane", "supercategory": ""},
        {"id": 2, "name": "bicycle", "supercategory": ""},
    ]
    assert len(content["categories"]) == 20


def test_run_lengths_are_no_crowd(tmp_path: Path) -> None:
    first = exported(tmp_path, "rle")["annotations"][0]
    assert first["iscrowd"] == 0
    assert first["segmentation"]["size"] == [3, 4]
    mask = coco_mask.decode(first["segmentation"])
    assert mask.tolist() == [[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]


def test_run_lengths_areas_and_boxes_are_those_of_pycocotools() -> None:
    for labels in (*solid().values(), *holed().values()):
        for instance in find_instances(labels):
            left, top, right, bottom = instance.box
            full = np.zeros(labels.shape, np.uint8)
            full[top:bottom, left:right] = instance.mask
            theirs = coco_mask.encode(np.asfortranarray(full))
            mine = run_lengths(instance, *labels.shape)
            assert mine == {"size": list(labels.shape), "counts": theirs["counts"].decode()}
            assert coco_mask.area(mine) == instance.area
            assert coco_mask.toBbox(mine).tolist() == [left, top, right - left, bottom - top]


def test_runs_that_reach_the_lower_edge_go_on_in_the_next_column() -> None:
    instance = Instance(0, 1, 1, np.ones((2, 3), np.bool_), 6)
    counts = run_lengths(instance, 3, 5)["counts"]
    assert coco_mask.decode({"size": [3, 5], "counts": counts}).sum() == 6
    whole = Instance(0, 0, 1, np.ones((3, 2), np.bool_), 6)  # one run of 6 pixels over two columns
    assert (
        run_lengths(whole, 3, 5)["counts"]
        == coco_mask.encode(np.asfortranarray(np.array([[0, 1, 1, 0, 0]] * 3, np.uint8)))["counts"].decode()
    )


@pytest.mark.parametrize("form", ["polygons", "rle"])
def test_our_own_reader_opens_it_as_data(tmp_path: Path, form: Outline) -> None:
    masks = {**solid(), **holed()}
    root = mask_folder(tmp_path / "in", masks)
    export_masks(root, "coco", tmp_path / "out", images=root / "photos", outline=form, name="mine", copy_images=True)
    data = load_dataset("coco", tmp_path / "out", "mine")
    assert len(data) == len(masks)
    for sample in data.samples:
        expected = np.where(masks[sample.id] == 255, 0, masks[sample.id])
        assert np.array_equal(truth(data, sample), expected)
        assert sample.tags == tuple(int(i) - 1 for i in np.unique(expected) if i)


def test_files_are_named_from_the_folder_that_all_photos_share(tmp_path: Path) -> None:
    root = mask_folder(tmp_path / "in", {"a": np.ones((2, 3), np.uint8), "b": np.ones((2, 3), np.uint8)})
    (root / "photos" / "more").mkdir()
    (root / "photos" / "b.jpg").rename(root / "photos" / "more" / "b.jpg")
    export_masks(root, "coco", tmp_path / "out", images=root / "photos")
    content = json.loads((tmp_path / "out/annotations/instances_train.json").read_text())
    assert [i["file_name"] for i in content["images"]] == ["a.jpg", "more/b.jpg"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["annotations"]
