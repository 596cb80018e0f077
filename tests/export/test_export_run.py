"""Masks of a run: which stage, the split's name, photos, and what is missing."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tag2mask.api import run
from tag2mask.core.errors import ConfigError, DataError, StageError
from tag2mask.core.palette import labels_key, read_labels, write_labels
from tag2mask.data.registry import load_dataset
from tag2mask.data.split_views import resized_labels
from tag2mask.pipeline.export_run import export_masks, masks_of_run
from tests.export.readers import truth
from tests.helpers.drawn_maps import few_masks_recipe, registered
from tests.helpers.refused import refused


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    tmp = tmp_path_factory.mktemp("run")
    with registered():
        run(str(few_masks_recipe(tmp, n=6)), out=tmp / "runs" / "x")
        yield tmp / "runs" / "x"


def test_the_last_stage_of_masks_is_meant_where_none_is_named(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "tag2mask"):
        counts = export_masks(folder, "palette", tmp_path / "out")
    assert "masks of stage 'masks', split 'all'" in caplog.messages
    assert "6 names have white space, for which '_' stands: the format's lists separate words by it" in caplog.messages
    assert counts.images == 6
    data = load_dataset("voc", tmp_path / "out", "all", allow_empty=True)
    assert data.classes == ("disc", "square", "stripe")
    for sample in data.samples:
        name = f"{sample.id.replace('_', ' ')}.png"
        assert np.array_equal(truth(data, sample), read_labels(folder / "masks" / "masks" / name))
        photo = folder.parents[1] / "data" / "images" / name
        assert sample.image is not None
        assert sample.image.read_bytes() == photo.read_bytes()


def test_another_stage_and_another_name(folder: Path, tmp_path: Path) -> None:
    export_masks(folder, "coco", tmp_path / "out", stage="refined", name="mine")
    content = json.loads((tmp_path / "out/annotations/instances_mine.json").read_text())
    assert [c["name"] for c in content["categories"]] == ["disc", "square", "stripe"]
    assert content["images"][0]["file_name"] == "photo 00.png"
    drawn = sum(a["area"] for a in content["annotations"])
    labels = [read_labels(p) for p in (folder / "refined" / "masks").iterdir()]
    assert any((found == 255).any() for found in labels)  # ignored pixels, which are of no instance
    assert drawn == sum(((found > 0) & (found < 255)).sum() for found in labels)


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ("maps", "'maps' makes maps … masks are needed … Stages of masks … crf, refined, masks"),
        ("mask", "'mask' … did you mean 'masks'"),
    ],
)
def test_a_stage_that_makes_no_masks(folder: Path, tmp_path: Path, stage: str, message: str) -> None:
    with refused(ConfigError, message):
        export_masks(folder, "coco", tmp_path / "out", stage=stage)


@pytest.mark.parametrize("option", ["classes", "images"])
def test_a_run_knows_its_classes_and_photos(folder: Path, tmp_path: Path, option: str) -> None:
    with refused(ConfigError, f"--{option}", "folder of masks", "x is a run"):
        export_masks(folder, "coco", tmp_path / "out", **{option: tmp_path})  # type: ignore[arg-type]


def test_a_recipe_without_masks(folder: Path, tmp_path: Path) -> None:
    recipe = (folder / "recipe.yaml").read_text()
    (tmp_path / "y").mkdir()
    (tmp_path / "y" / "recipe.yaml").write_text(recipe[: recipe.index("  few:")])
    with refused(ConfigError, "no stage that makes masks", "tag2mask ls recipes"):
        masks_of_run(tmp_path / "y")


def test_a_run_that_is_not_finished(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "y").mkdir()
    (tmp_path / "y" / "recipe.yaml").write_text((folder / "recipe.yaml").read_text())
    with refused(StageError, "'masks'", "y is not finished", "tag2mask run"):
        export_masks(tmp_path / "y", "coco", tmp_path / "out")


def test_a_mask_of_the_run_with_unknown_indices_or_gone(folder: Path, tmp_path: Path) -> None:
    path = sorted((folder / "crf" / "masks").iterdir())[0]
    key, before = labels_key(path), path.read_bytes()
    try:
        write_labels(path, np.full((48, 64), 9, np.uint8), key or "")
        with refused(DataError, f"'{path.stem}'", "'crf'", "holds index 9", "expected 0"):
            export_masks(folder, "coco", tmp_path / "out", stage="crf")
        path.unlink()
        with refused(StageError, "'crf' has no masks", f"image '{path.stem}'"):
            export_masks(folder, "coco", tmp_path / "out", stage="crf")
    finally:
        path.write_bytes(before)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("folder")
def test_masks_of_shrunk_photos_get_the_photos_size(tmp_path: Path) -> None:
    path = run(str(few_masks_recipe(tmp_path, n=6)), "data.max_side=32", out=tmp_path / "runs" / "x").path
    export_masks(path, "palette", tmp_path / "out")
    for made in sorted((path / "masks" / "masks").iterdir()):
        small = read_labels(made)
        found = read_labels(tmp_path / "out" / "SegmentationClass" / f"{made.stem.replace(' ', '_')}.png")
        with Image.open(tmp_path / "data" / "images" / made.name) as photo:
            assert (max(small.shape), found.shape) == (32, photo.size[::-1])
        assert np.array_equal(found, resized_labels(small, *found.shape))
