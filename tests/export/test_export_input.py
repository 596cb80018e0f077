"""Folders of masks that cannot be exported, and what is said; choices that do not fit."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tag2mask.core.errors import ConfigError, DataError, Tag2MaskError
from tag2mask.core.palette import labels_key, read_labels, write_labels
from tag2mask.export.folder import masks_of_folder
from tag2mask.pipeline.export_run import export_masks
from tests.export.drawn_masks import mask_folder
from tests.helpers.draw import save_image, write
from tests.helpers.refused import refused

ONES = np.ones((4, 6), np.uint8)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return mask_folder(tmp_path / "in", {"a": ONES, "b": ONES})


def export_refused(root: Path, message: str, kind: type[Tag2MaskError] = DataError, **choices: Any) -> None:
    """Export and expect an error, and nothing written."""
    out = root.parent / "out"
    with refused(kind, message):
        export_masks(root, choices.pop("format", "coco"), out, **choices)
    assert not out.exists()


def test_a_folder_that_is_not_there_or_empty(tmp_path: Path, root: Path) -> None:
    export_refused(tmp_path / "none", "none does not exist … folder of a run … palette PNG masks")
    export_refused(root / "classes.txt", "classes.txt is a file … folder of a run")
    (tmp_path / "empty").mkdir()
    export_refused(tmp_path / "empty", "empty holds no PNG … palette PNG masks")


def test_no_class_names(root: Path) -> None:
    (root / "classes.txt").unlink()
    export_refused(root, "in has no classes.txt … one a line … --classes")
    names = write(root.parent / "names.txt", "cat\n")
    assert masks_of_folder(root, names).classes == ("cat",)
    write(names, "background\ncat\n")
    export_refused(root, "names.txt lists 'background' … label 0 … take it out", classes=names)
    export_refused(root, "cannot read … absent.txt: No such file", classes=root / "absent.txt")


def test_class_names_are_found_beside_the_masks_and_around_them(tmp_path: Path) -> None:
    write_labels(tmp_path / "x" / "SegmentationClass" / "a.png", ONES)
    write(tmp_path / "x" / "classes.txt", "cat\n")
    for folder in (tmp_path / "x", tmp_path / "x" / "SegmentationClass"):
        assert masks_of_folder(folder).classes == ("cat",)
        assert [i.id for i in masks_of_folder(folder).images] == ["a"]


def test_unknown_indices(root: Path) -> None:
    labels = ONES.copy()
    labels[0, :3] = 21, 77, 255
    write_labels(root / "masks" / "b.png", labels)
    export_refused(root, "b.png holds indices 21, 77 … 0 (background) … 1..20 … 255")


@pytest.mark.parametrize(
    ("pixels", "mode"),
    [
        (np.zeros((4, 6, 3), np.uint8), "RGB"),
        (np.zeros((4, 6, 4), np.uint8), "RGBA"),
        (np.zeros((4, 6), np.uint16), "I;16"),
    ],
)
def test_masks_in_colour_or_of_16_bits(root: Path, pixels: Any, mode: str) -> None:
    Image.fromarray(pixels).save(root / "masks" / "b.png")
    export_refused(root, f"b.png has mode {mode} … palette PNG or 8-bit grey … with 16 bits?")


def test_a_grey_mask_of_8_bits_is_one(root: Path) -> None:
    Image.fromarray(ONES * 2).save(root / "masks" / "b.png")
    assert (masks_of_folder(root).images[1].labels() == 2).all()


def test_masks_and_photos_above_pillows_own_bound(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)  # of 24 pixels
    counts = export_masks(root, "coco", root.parent / "out", images=root / "photos")
    assert (counts.images, Image.MAX_IMAGE_PIXELS) == (2, 5)
    path = root / "masks" / "a.png"
    write_labels(path, ONES, "key")
    assert (labels_key(path), read_labels(path).shape) == ("key", (4, 6))  # as those of a run are read


def test_a_broken_mask(root: Path) -> None:
    path = root / "masks" / "b.png"
    path.write_bytes(path.read_bytes()[:60])
    export_refused(root, "cannot read … b.png")
    path.write_bytes(b"")
    export_refused(root, "b.png is empty (0 bytes)")


def test_a_mask_of_another_size_than_its_photo(root: Path) -> None:
    save_image(root / "photos" / "b.jpg", np.zeros((5, 6, 3), np.uint8))
    export_refused(
        root, "b.png is 6 x 4 pixels … b.jpg is 6 x 5 … size of its image",
        images=root / "photos",
    )  # fmt: skip


def test_two_masks_or_photos_of_one_name_in_different_folders(root: Path) -> None:
    save_image(root / "photos" / "more" / "b.png", np.zeros((4, 6, 3), np.uint8))
    export_refused(root, "photos/b.jpg … photos/more/b.png … the same name", images=root / "photos")
    (root / "photos" / "b.jpg").unlink()
    assert masks_of_folder(root, photos=root / "photos").images[1].photo == root / "photos" / "more" / "b.png"
    write_labels(root / "masks" / "more" / "b.png", ONES)
    export_refused(root, "masks/b.png … masks/more/b.png … the same name … rename one … one by one")


def test_folders_of_masks_with_equal_names_are_exported_one_by_one(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("one", "two/deep"):  # as predict makes them of photos in folders
        write_labels(root / "masks" / folder / "c.png", ONES)
    export_refused(root, "one by one")
    for folder in ("one", "two", "two/deep"):
        assert export_masks(root / "masks" / folder, "coco", tmp_path / "out" / folder.replace("/", "-")).images == 1
    monkeypatch.chdir(root / "masks" / "two" / "deep")
    assert [i.id for i in masks_of_folder(Path()).images] == ["c"]
    (root / "classes.txt").rename(root.parent / "classes.txt")  # of who knows what
    monkeypatch.chdir(root.parent)
    export_refused(root / "masks" / "two", "two has no classes.txt")


def test_names_that_differ_in_case_alone(root: Path) -> None:
    write_labels(root / "masks" / "B.png", ONES)
    export_refused(root, "'b' and 'B' … upper and lower case")


@pytest.mark.parametrize("format", ["coco", "labelme", "cvat", "palette", "yolo", "voc-server"])
def test_names_that_are_not_utf8(root: Path, format: str) -> None:
    photo = root / "photos" / os.fsdecode(b"caf\xe9") / "b.jpg"
    photo.parent.mkdir()
    (root / "photos" / "b.jpg").rename(photo)
    choices: dict[str, Any] = {"format": format, "images": root / "photos", "copy_images": False}
    export_refused(root, r"'caf\xe9/b.jpg' is not UTF-8 … rename", **choices)
    write_labels(root / "masks" / os.fsdecode(b"\xff.png"), ONES)
    export_refused(root, r"'\xff … is not UTF-8", format=format)


def test_a_photo_in_a_folder_that_is_not_utf8_is_copied(root: Path) -> None:
    (root / "photos").rename(root / os.fsdecode(b"caf\xe9"))
    assert export_masks(root, "palette", root.parent / "out", images=root / os.fsdecode(b"caf\xe9")).images == 2


def test_class_names_with_control_characters(root: Path) -> None:
    write(root / "classes.txt", "cat\nd\x01og\n")
    export_refused(root, r"classes.txt … 'd\x01og' … control character … take it out", format="cvat")


def test_names_that_agree_but_for_white_space_in_a_format_without(root: Path) -> None:
    for name in ("x y", "x_y"):
        write_labels(root / "masks" / f"{name}.png", ONES)
    export_refused(root, "'x_y' occurs twice … rename one", format="palette")


def test_masks_without_photo(root: Path) -> None:
    (root / "photos" / "b.jpg").unlink()
    export_refused(root, "1 of 2 masks have no photo … photos … b.png", images=root / "photos")
    export_refused(root, "--images … nowhere … no such folder", images=root / "nowhere")


def test_a_turned_photo_has_an_upright_mask(root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(root / "photos" / "a.jpg", exif=exif)
    upright = np.zeros((6, 4), np.uint8)
    upright[0] = 1
    write_labels(root / "masks" / "a.png", upright)
    assert np.array_equal(masks_of_folder(root, photos=root / "photos").images[0].labels(), upright)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"format": "xml"}, "unknown format 'xml'"),
        ({"outline": "rles"}, "unknown outline 'rles' … did you mean 'rle'"),
        (
            {"format": "cvat", "outline": "rle"},
            "--outline rle … 'cvat' … leave it out, or take --fo",
        ),
        ({"min_area": -1}, "--min-area -1 … number of pixels … 0 or more"),
        ({"stage": "masks"}, "--stage masks belongs to a run … in is … recipe.yaml"),
        (
            {"copy_images": True},
            "--copy-images … not known … name their folder with --images",
        ),
    ],
)
def test_choices_that_do_not_fit(root: Path, choices: dict[str, Any], message: str) -> None:
    export_refused(root, message, ConfigError, **choices)


def test_a_name_that_is_no_file_name(root: Path) -> None:
    export_refused(root, "'../x' is not a safe file name", name="../x")


def test_small_instances_are_dropped_on_request_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    labels = np.array([[1, 0, 2, 2], [0, 0, 2, 0], [255, 0, 0, 1]], np.uint8)
    root = mask_folder(tmp_path / "in", {"a": labels})
    kept = export_masks(root, "palette", tmp_path / "all")
    assert (kept.instances, kept.dropped) == (3, 0)
    logger = logging.getLogger("tag2mask")
    with caplog.at_level(logging.INFO, logger.name):
        counts = export_masks(root, "palette", tmp_path / "out", min_area=2)
    assert (counts.images, counts.instances, counts.dropped) == (1, 1, 2)
    assert "palette: 2 instances of fewer than 2 pixels became background" in caplog.messages
    with Image.open(tmp_path / "out/SegmentationClass/a.png") as image:
        assert np.asarray(image).tolist() == [[0, 0, 2, 2], [0, 0, 2, 0], [255, 0, 0, 0]]


def test_holes_are_said_where_a_format_has_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ring = np.ones((3, 3), np.uint8)
    ring[1, 1] = 0
    root = mask_folder(tmp_path / "in", {"a": ring, "b": np.pad(ring, ((0, 0), (0, 4)), mode="edge")})
    with caplog.at_level(logging.INFO, "tag2mask"):
        assert export_masks(root, "coco", tmp_path / "polygons").with_holes == 2
        assert export_masks(root, "coco", tmp_path / "rle", outline="rle").with_holes == 0
    said = [m for m in caplog.messages if "holes" in m]
    assert said == [
        "coco: 2 of 2 instances have holes, which polygons do not have: each hole is joined to the outline by a cut "
        "that encloses nothing"
    ]


def test_unknown_photos_are_said(root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "tag2mask"):
        export_masks(root, "palette", tmp_path / "out")
    assert (
        "palette: the photos are not known, so there is no JPEGImages/; name their folder with --images" in caplog.text
    )
    assert "palette: entries are named after the masks, NAME.png" in caplog.messages
    assert not (tmp_path / "out" / "JPEGImages").exists()
