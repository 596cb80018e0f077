"""YOLO's text files and data.yaml."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from tag2mask.pipeline.export_run import export_masks
from tests.export.drawn_masks import mask_folder
from tests.helpers.draw import write


def test_lines_by_hand(tmp_path: Path) -> None:
    masks = {"a": np.array([[0, 0, 0, 2], [1, 0, 0, 0]], np.uint8), "none": np.zeros((3, 3), np.uint8)}
    root = mask_folder(tmp_path / "in", masks)
    export_masks(root, "yolo", tmp_path / "out", images=root / "photos")
    assert (tmp_path / "out/labels/none.txt").read_bytes() == b""
    lines = [line.split() for line in (tmp_path / "out/labels/a.txt").read_text().splitlines()]
    assert [line[0] for line in lines] == ["1", "0"]
    values = np.array([line[1:] for line in lines], dtype=float).reshape(2, 4, 2) * (4, 2)
    assert values[0] == pytest.approx(np.array([[3.1, 0.1], [3.9, 0.1], [3.9, 0.9], [3.1, 0.9]]), abs=1e-5)
    assert values[1] == pytest.approx(np.array([[0.1, 1.1], [0.9, 1.1], [0.9, 1.9], [0.1, 1.9]]), abs=1e-5)


def test_every_photo_lies_beside_its_labels_under_the_same_name(tmp_path: Path) -> None:
    root = mask_folder(tmp_path / "in", {"a": np.ones((2, 3), np.uint8), "b": np.ones((2, 3), np.uint8)})
    export_masks(root, "yolo", tmp_path / "out", images=root / "photos")
    assert sorted(p.name for p in (tmp_path / "out" / "images").iterdir()) == ["a.jpg", "b.jpg"]
    assert sorted(p.name for p in (tmp_path / "out" / "labels").iterdir()) == ["a.txt", "b.txt"]
    assert (tmp_path / "out/images/a.jpg").read_bytes() == (root / "photos/a.jpg").read_bytes()


@pytest.mark.parametrize(("name", "other"), [("train", "val"), ("val", "train"), ("train_aug", "val")])
def test_data_yaml_names_classes_from_0_and_says_which_split_is_a_stand_in(
    tmp_path: Path, name: str, other: str
) -> None:
    root = mask_folder(tmp_path / "in", {"a": np.ones((2, 3), np.uint8)})
    write(root / "classes.txt", "no\n'quoted': x\nüçe\n")
    export_masks(root, "yolo", tmp_path / "out", images=root / "photos", name=name)
    text = (tmp_path / "out" / "data.yaml").read_text(encoding="utf-8")
    content = yaml.safe_load(text)
    assert content == {"train": "images", "val": "images", "names": {0: "no", 1: "'quoted': x", 2: "üçe"}}
    (line,) = (line for line in text.splitlines() if "#" in line)
    assert line == f"{other}: images  # the same images: put others here before you train"


def test_polygons_of_a_wide_image_keep_their_pixels(tmp_path: Path) -> None:
    labels = np.zeros((3, 20_000), np.uint8)
    labels[1, 19_998] = 1
    root = mask_folder(tmp_path / "in", {"wide": labels}, photos=False)
    export_masks(root, "yolo", tmp_path / "out")
    _, *values = (tmp_path / "out/labels/wide.txt").read_text().split()
    points = np.array(values, np.float32).reshape(-1, 2) * np.array([20_000, 3], np.float32)
    assert {tuple(p) for p in points.astype(np.int32).tolist()} == {(19_998, 1)}
