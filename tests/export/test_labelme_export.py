"""LabelMe's JSON: its schema, the way to the photo, names in any script."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np

from tag2mask.pipeline.export_run import export_masks
from tests.export.drawn_masks import holed, mask_folder, solid
from tests.helpers.draw import write

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["version", "flags", "shapes", "imagePath", "imageData", "imageHeight", "imageWidth"],
    "additionalProperties": False,
    "properties": {
        "version": {"type": "string", "pattern": r"^\d+\.\d+\.\d+$"},
        "flags": {"type": "object", "additionalProperties": {"type": "boolean"}},
        "imagePath": {"type": "string", "minLength": 1},
        "imageData": {"type": ["string", "null"]},
        "imageHeight": {"type": "integer", "minimum": 1},
        "imageWidth": {"type": "integer", "minimum": 1},
        "shapes": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["label", "points", "group_id", "shape_type", "flags"],
                "additionalProperties": False,
                "properties": {
                    "label": {"type": "string", "minLength": 1},
                    "points": {
                        "type": "array",
                        "minItems": 3,
                        "items": {
                            "type": "array",
                            "items": {"type": "number", "minimum": 0},
                            "minItems": 2,
                            "maxItems": 2,
                        },
                    },
                    "group_id": {"type": ["integer", "null"]},
                    "description": {"type": ["string", "null"]},
                    "shape_type": {"const": "polygon"},
                    "flags": {"type": "object", "additionalProperties": {"type": "boolean"}},
                    "mask": {"type": ["string", "null"]},
                },
            },
        },
    },
}
"""LabelMe's file as its loader takes it, with polygons for the only shape."""


def test_every_file_is_as_labelme_has_it(tmp_path: Path) -> None:
    masks = {**solid(), **holed()}
    root = mask_folder(tmp_path / "in", masks)
    export_masks(root, "labelme", tmp_path / "out", images=root / "photos")
    files = sorted((tmp_path / "out").iterdir())
    assert [p.name for p in files] == sorted(f"{name}.json" for name in masks)
    for path in files:
        content = json.loads(path.read_text(encoding="utf-8"))
        jsonschema.validate(content, SCHEMA)
        assert content["imageData"] is None
        assert (content["imageHeight"], content["imageWidth"]) == masks[path.stem].shape
        points = np.array([p for shape in content["shapes"] for p in shape["points"]]).reshape(-1, 2)
        assert (points <= np.array(masks[path.stem].shape[::-1])).all()


def test_the_photo_is_found_from_the_file_where_it_lies(tmp_path: Path) -> None:
    root = mask_folder(tmp_path / "in", {"a": np.ones((2, 3), np.uint8)})
    for copied, expected in ((False, os.path.join("..", "in", "photos", "a.jpg")), (True, "a.jpg")):
        out = tmp_path / f"out{copied}"
        export_masks(root, "labelme", out, images=root / "photos", copy_images=copied)
        path = json.loads((out / "a.json").read_text())["imagePath"]
        assert path == expected.replace(os.sep, "/")
        assert (out / path).read_bytes() == (root / "photos" / "a.jpg").read_bytes()


def test_names_of_any_script_stay_readable(tmp_path: Path) -> None:
    root = mask_folder(tmp_path / "in", {"日本": np.ones((2, 3), np.uint8)})
    write(root / "classes.txt", "traffic light & “ü”\n")
    export_masks(root, "labelme", tmp_path / "out")
    text = (tmp_path / "out" / "日本.json").read_text(encoding="utf-8")
    assert '"label": "traffic light & “ü”"' in text
    assert json.loads(text)["imagePath"] == "日本.png"
