"""``tag2mask export`` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tag2mask.core.palette import read_labels
from tag2mask.export.formats import FORMATS
from tag2mask.segmentation.networks.factory import save_segmenter
from tests.export.drawn_masks import mask_folder
from tests.helpers.draw import save_image
from tests.helpers.refused import lacking
from tests.helpers.tiny import tag2mask
from tests.segmentation.saved_net import CLASSES, tiny


def test_masks_of_a_folder_with_every_option(tmp_path: Path) -> None:
    labels = np.array([[1, 0, 2, 2], [0, 0, 2, 0]], np.uint8)
    root = mask_folder(tmp_path / "in", {"a": labels})
    words = [str(root), "--format", "coco", "--out", str(tmp_path / "out"), "--images", str(root / "photos")]
    words += ["--classes", str(root / "classes.txt"), "--name", "mine", "--min-area", "2", "--outline", "rle"]
    done = tag2mask("export", *words, "--copy-images")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"1 images, 1 instances: {tmp_path / 'out'}\n"
    assert not lacking(done.stderr, "coco: 1 instances … fewer than 2 pixels … background")
    content = json.loads((tmp_path / "out/annotations/instances_mine.json").read_text())
    assert [a["category_id"] for a in content["annotations"]] == [2]
    assert content["annotations"][0]["segmentation"]["size"] == [2, 4], "a run-length code, no polygons"
    assert (tmp_path / "out" / "mine" / "a.jpg").is_file()


def test_the_help_names_every_format_and_the_stage_of_pseudo_masks() -> None:
    words = " ".join(tag2mask("export", "--help").stdout.split())
    for name in (*FORMATS, "onnx", "--stage amn-lpcam-masks --format coco"):
        assert name in words


def test_mistakes_are_one_line_each(tmp_path: Path) -> None:
    root = mask_folder(tmp_path / "in", {"a": np.ones((2, 2), np.uint8)})
    done = tag2mask("export", str(root), "--format", "coko", "--out", str(tmp_path / "out"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: unknown format 'coko'; did you mean 'coco'?")
    done = tag2mask("export", str(root), "--format", "onnx", "--out", str(tmp_path / "x.onnx"), "--min-area", "3")
    assert done.returncode == 2
    assert not lacking(done.stderr, "error: --min-area … --format onnx … leave it out")


@pytest.mark.slow
def test_a_network_as_onnx_gives_the_masks_of_its_weights(tmp_path: Path) -> None:
    for library in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(library, reason="needs the extra onnx")
    save_segmenter(tiny(), tmp_path / "net.safetensors", CLASSES)
    save_image(tmp_path / "photos" / "a.png", np.random.default_rng(0).integers(0, 256, (40, 70, 3), dtype=np.uint8))
    words = [str(tmp_path / "net.safetensors"), "--format", "onnx", "--out", str(tmp_path / "net.onnx")]
    done = tag2mask("export", *words, timeout=1800)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"background, {', '.join(CLASSES)}: {tmp_path / 'net.onnx'}\n"
    for name in ("net.safetensors", "net.onnx"):
        made = tag2mask(
            "predict", str(tmp_path / name), str(tmp_path / "photos"), "--out", str(tmp_path / f"{name}-masks")
        )
        assert made.returncode == 0, made.stderr
    masks = [read_labels(tmp_path / f"{name}-masks" / "masks" / "a.png") for name in ("net.safetensors", "net.onnx")]
    assert (masks[0] == masks[1]).mean() > 0.999
