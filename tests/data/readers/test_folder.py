"""The reader ``folder``: where tags can be, masks, splits."""

import hashlib
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tag2mask.core.errors import ConfigError, DataError
from tag2mask.core.palette import colour
from tag2mask.data.base import Dataset
from tag2mask.data.readers.folder import label_of_colour, validation_part
from tag2mask.data.registry import data_settings, load_dataset
from tests.helpers.draw import CLASSES, FOLDER_PATTERN, Scene, draw_folder, save_image, write
from tests.helpers.refused import refused


def folder(root: Path, split: str = "all", **settings: Any) -> Dataset:
    return load_dataset("folder", root, split, **settings)


def assert_same(dataset: Dataset, scenes: dict[str, Scene]) -> None:
    assert dataset.classes == CLASSES
    assert [s.id for s in dataset.samples] == sorted(scenes)
    for sample in dataset.samples:
        truth = dataset.truth(sample)
        assert truth is not None
        assert sample.tags == scenes[sample.id].tags
        assert np.array_equal(truth, scenes[sample.id].labels)


def test_the_three_layouts_are_found_by_themselves(tmp_path: Path) -> None:
    for layout, settings in (("csv", {}), ("subfolders", {}), ("pattern", {"pattern": FOLDER_PATTERN})):
        scenes = draw_folder(tmp_path / layout, layout=layout)
        assert_same(folder(tmp_path / layout, **settings), scenes)
        assert_same(folder(tmp_path / layout, layout=layout, **settings), scenes)


def test_the_table_may_have_any_name_and_the_images_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scenes = draw_folder(tmp_path / "data")
    (tmp_path / "data/images").rename(tmp_path / "data/photos")
    (tmp_path / "data/masks").rename(tmp_path / "data/drawn")
    (tmp_path / "data/tags.csv").rename(tmp_path / "beside.csv")
    other = {"images": "photos", "masks": "drawn"}
    assert_same(folder(tmp_path / "data", tags=tmp_path / "beside.csv", **other), scenes)
    monkeypatch.chdir(tmp_path)
    assert_same(folder(Path("data"), tags="beside.csv", **other), scenes)
    with pytest.raises(DataError, match=r"data\.tags = t\.csv: neither data/t\.csv nor /.*/t\.csv exists"):
        folder(Path("data"), tags="t.csv", **other)


def test_infer_is_everything_by_default() -> None:
    settings = data_settings("folder", {"root": "x"})
    assert (settings.train, settings.val, settings.infer) == ("train", "val", "all")


def test_class_names_keep_spaces_and_unicode_in_one_form(tmp_path: Path) -> None:
    for number in (1, 2):
        save_image(tmp_path / f"{number}.png", np.full((4, 4, 3), number, dtype=np.uint8))
    write(tmp_path / "tags.csv", "image,tags\n1,Zahnbu\u0308rste alt; 猫\n2,Zahnb\u00fcrste alt\n")
    dataset = folder(tmp_path)
    assert dataset.classes == ("Zahnb\u00fcrste alt", "猫")
    assert [s.tags for s in dataset.samples] == [(0, 1), (0,)]
    assert folder(tmp_path, classes=["猫", "Zahnbu\u0308rste alt"]).samples[1].tags == (1,)


def test_a_tag_outside_the_class_list_names_the_nearest(tmp_path: Path) -> None:
    draw_folder(tmp_path)
    with refused(DataError, "photo 00.png", "unknown class 'disc'", "did you mean 'discs'"):
        folder(tmp_path, all_classes=["discs", "square", "stripe"])
    write(tmp_path / "classes.txt", "disc\nsquares\nstripe\n")
    with pytest.raises(DataError, match=r"unknown class 'square'; did you mean 'squares'"):
        folder(tmp_path)


def test_a_subset_of_an_undeclared_list_says_what_it_leaves_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    draw_folder(tmp_path)
    with caplog.at_level(logging.WARNING, logger="tag2mask"):
        folder(tmp_path)
        assert caplog.text == ""
        folder(tmp_path, classes=["stripe"])
    assert "data.classes leaves out the tags disc, square" in caplog.text


def test_masks_are_optional_and_must_belong_to_an_image(tmp_path: Path) -> None:
    draw_folder(tmp_path)
    (tmp_path / "masks/photo 00.png").unlink()
    dataset = folder(tmp_path)
    assert dataset.has_truth
    assert dataset.truth(dataset.samples[0]) is None
    (tmp_path / "masks/photo 01.png").rename(tmp_path / "masks/photo 01_mask.png")
    with refused(DataError, "1 of 11 masks", "belong to no image", "photo 01_mask.png"):
        folder(tmp_path)
    with refused(DataError, "nothing does not exist", "data.masks"):
        folder(tmp_path, masks="nothing")
    assert not folder(draw_without_masks(tmp_path / "none")).has_truth


def draw_without_masks(root: Path) -> Path:
    draw_folder(root, masks=False)
    return root


def test_masks_in_colour_need_a_palette(tmp_path: Path) -> None:
    scenes = draw_folder(tmp_path)
    lookup = np.array([colour(i) for i in range(256)], dtype=np.uint8)
    for name, scene in scenes.items():
        Image.fromarray(lookup[scene.labels]).save(tmp_path / f"masks/{name}.png")
    palette = {c: colour(i + 1) for i, c in enumerate(CLASSES)}
    assert_same(folder(tmp_path, palette=palette), scenes)
    dataset = folder(tmp_path)
    with refused(DataError, "photo 00.png", "stored in colour", "set data.palette"):
        dataset.truth(dataset.samples[0])


def test_a_palette_gives_each_colour_one_label() -> None:
    assert label_of_colour({"a": (1, 2, 3), "void": (9, 9, 9)}, ("b", "a")) == {
        (0, 0, 0): 0,
        (9, 9, 9): 255,
        (1, 2, 3): 2,
    }
    with pytest.raises(DataError, match=r"data\.palette: unknown class 'aa'"):
        label_of_colour({"aa": (1, 2, 3)}, ("a", "b"))
    with pytest.raises(DataError, match=r"data\.palette: 'a' has \[0, 0, 256\], expected three numbers in 0\.\.255"):
        label_of_colour({"a": (0, 0, 256)}, ("a", "b"))
    with refused(DataError, "'b'", "[1, 1, 1]", "another name has already"):
        label_of_colour({"a": (1, 1, 1), "b": (1, 1, 1)}, ("a", "b"))
    with refused(DataError, "'a'", "[0, 0, 0]", "another name has already"):
        label_of_colour({"a": (0, 0, 0)}, ("a",))


def test_without_lists_a_fixed_tenth_is_held_out() -> None:
    ids = [f"photo {i}" for i in range(3000)]
    held = validation_part(ids, 0.1)
    assert held == {i for i in ids if int(hashlib.sha256(i.encode()).hexdigest()[:8], 16) / 2**32 < 0.1}
    assert 240 < len(held) < 360
    assert validation_part(ids[:1500], 0.1) == held & set(ids[:1500])
    assert held < validation_part(ids, 0.2)


def test_both_parts_hold_an_image_unless_there_is_one_only() -> None:
    for number in range(200):
        pair = [f"a{number}", f"b{number}"]
        assert len(validation_part(pair, 0.001)) == len(validation_part(pair, 0.999)) == 1
    assert validation_part(["a"], 0.999) == set()


def test_train_and_val_part_the_images(tmp_path: Path) -> None:
    scenes = draw_folder(tmp_path, n=30)
    train, val = ({s.id for s in folder(tmp_path, part, val_fraction=0.3).samples} for part in ("train", "val"))
    assert train | val == set(scenes)
    assert not train & val
    assert val == validation_part(scenes, 0.3)


def test_lists_in_splits_are_taken(tmp_path: Path) -> None:
    scenes = draw_folder(tmp_path)
    write(tmp_path / "splits/train.txt", "\ufeffphoto 03.png\r\nphoto 01\r\n")
    assert [s.id for s in folder(tmp_path, "train").samples] == ["photo 01", "photo 03"]
    assert len(folder(tmp_path, "all")) == len(scenes)
    with refused(DataError, "unknown split 'val'", "Known: all, train", "splits"):
        folder(tmp_path, "val")
    write(tmp_path / "splits/train.txt", "photo 01\nphoto 99\n")
    with refused(DataError, "train.txt, line 2", "no image 'photo 99'", "did you mean 'photo"):
        folder(tmp_path, "train")
    write(tmp_path / "splits/train.txt", "photo 01\nphoto 01.png\n")
    with pytest.raises(DataError, match=r"train\.txt, line 2: image 'photo 01' is listed twice"):
        folder(tmp_path, "train")


def test_an_unknown_split_without_lists_is_named(tmp_path: Path) -> None:
    draw_folder(tmp_path)
    with refused(DataError, "unknown split 'test'", "Known: all, train, val"):
        folder(tmp_path, "test")


def test_an_image_in_two_class_folders_is_an_error(tmp_path: Path) -> None:
    scenes = draw_folder(tmp_path, layout="subfolders")
    save_image(tmp_path / "square/photo 00.png", scenes["photo 00"].image)
    with refused(DataError, "photo 00.png", "two class folders", "disc", "square", "tags.csv"):
        folder(tmp_path)
    save_image(tmp_path / "square/photo 00.png", scenes["photo 01"].image)
    with refused(DataError, "two different images", "'photo 00'", "disc", "square", "Rename one"):
        folder(tmp_path)


def test_an_empty_class_folder_stays_a_class(tmp_path: Path) -> None:
    draw_folder(tmp_path, layout="subfolders", masks=False)
    (tmp_path / "empty").mkdir()
    (tmp_path / ".hidden").mkdir()
    assert folder(tmp_path).classes == ("disc", "empty", "square", "stripe")


def test_images_beside_class_folders_have_no_tag(tmp_path: Path) -> None:
    scenes = draw_folder(tmp_path, layout="subfolders")
    save_image(tmp_path / "loose.png", scenes["photo 00"].image)
    with refused(DataError, "1 images", "directly in", "loose.png", "no tag"):
        folder(tmp_path)


def test_the_pattern_must_match_whole_names(tmp_path: Path) -> None:
    draw_folder(tmp_path, layout="pattern")
    with refused(DataError, "disc+square_03.png", "does not match", "data.pattern = "):
        folder(tmp_path, pattern=r"(?P<tags>[a-z]+)_\d+")
    negative = folder(tmp_path, pattern=r"(?P<tags>square)?.*")
    assert {s.id: s.tags for s in negative.samples}["disc_00"] == ()
    with pytest.raises(DataError, match=r"data\.layout=pattern needs data\.pattern, such as"):
        folder(tmp_path, layout="pattern")
    with pytest.raises(ConfigError, match=r"'data\.pattern' = '\[a-z\]\+': expected a group \(\?P<tags>…\)"):
        folder(tmp_path, pattern="[a-z]+")
    with pytest.raises(ConfigError, match=r"'data\.pattern' = '\(': not a regular expression: missing \)"):
        folder(tmp_path, pattern="(")
    with refused(DataError, "data.tags", "data.pattern", "leave one out"):
        folder(tmp_path, pattern="(?P<tags>a)", tags="tags.csv")
