"""``tag2mask export`` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tests.export.drawn_masks import mask_folder
from tests.helpers.tiny import tag2mask


def test_masks_of_a_folder_with_every_option(tmp_path: Path) -> None:
    labels = np.array([[1, 0, 2, 2], [0, 0, 2, 0]], np.uint8)
    root = mask_folder(tmp_path / "in", {"a": labels})
    words = [str(root), "--format", "coco", "--out", str(tmp_path / "out"), "--images", str(root / "photos")]
    words += ["--classes", str(root / "classes.txt"), "--name", "mine", "--min-area", "2", "--outline", "rle"]
    done = tag2mask("export", *words, "--copy-images")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"1 images, 1 instances: {tmp_path / 'out'}\n"
    assert "coco: 1 instances of fewer than 2 pixels became background" in done.stderr
    content = json.loads((tmp_path / "out/annotations/instances_mine.json").read_text())
    assert [a["category_id"] for a in content["annotations"]] == [2]
    assert isinstance(content["annotations"][0]["segmentation"], dict)
    assert (tmp_path / "out" / "mine" / "a.jpg").is_file()


def test_mistakes_are_one_line_each(tmp_path: Path) -> None:
    root = mask_folder(tmp_path / "in", {"a": np.ones((2, 2), np.uint8)})
    done = tag2mask("export", str(root), "--format", "coko", "--out", str(tmp_path / "out"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: unknown format 'coko'; did you mean 'coco'?")
    done = tag2mask("export", str(root), "--format", "onnx", "--out", str(tmp_path / "x.onnx"), "--min-area", "3")
    assert done.returncode == 2
    assert done.stderr == "error: --min-area is about masks, and --format onnx writes a network; leave it out\n"
    done = tag2mask("export", str(root), "--format", "onnx", "--out", str(tmp_path / "x.bin"))
    assert done.stderr == f"error: --out {tmp_path / 'x.bin'}: a network becomes one file that ends in .onnx\n"
