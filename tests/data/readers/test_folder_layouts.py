"""The reader ``folder``: sub-folders of images and masks, folders of ours, ImageFolder's layout, odd names."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tag2mask.core.errors import DataError
from tag2mask.data.base import Dataset, Finding
from tag2mask.data.doctor import checks as doctor
from tag2mask.data.image_names import list_images
from tag2mask.data.mask_files import array_size
from tag2mask.data.registry import data_settings, load_dataset
from tests.helpers.draw import draw_folder, save_image, write
from tests.helpers.refused import refused

PIXELS = np.full((6, 4, 3), 90, dtype=np.uint8)


def place(root: Path, *paths: str) -> Path:
    for number, path in enumerate(paths):
        save_image(root / path, PIXELS + np.uint8(number))
    return root


def folder(root: Path, split: str = "all", **settings: Any) -> Dataset:
    return load_dataset("folder", root, split, **settings)


def tags(dataset: Dataset) -> dict[str, tuple[str, ...]]:
    return {s.id: tuple(dataset.classes[c] for c in s.tags) for s in dataset.samples}


def findings(root: Path, kind: str, **settings: Any) -> list[Finding]:
    report = doctor.examine("folder", data_settings("folder", {"root": root, **settings}), ["all"], quiet=True)
    return [f for f in report.findings if f.kind == kind]


def test_photos_in_sub_folders_are_read_and_named_by_path_or_by_a_name_of_their_own(tmp_path: Path) -> None:
    place(tmp_path / "images", "top.png", "a/1.png", "b/1.png", "b/deep/2.png", ".hidden/3.png")
    save_image(tmp_path / "masks/b/1.png", np.ones((6, 4), dtype=np.uint8))
    write(tmp_path / "tags.csv", "image,tags\ntop.png,cat\na/1.png,dog\nimages\\b\\1.png,\n2.png,cat;dog\n")
    write(tmp_path / "splits/train.txt", "a/1.png\n2\n")
    dataset = folder(tmp_path)
    assert tags(dataset) == {"a__1": ("dog",), "b__1": (), "b__deep__2": ("cat", "dog"), "top": ("cat",)}
    assert {s.id for s in dataset.samples if s.truth} == {"b__1"}
    assert [s.id for s in folder(tmp_path, "train").samples] == ["a__1", "b__deep__2"]
    write(tmp_path / "tags.csv", "image,tags\ntop,\n1.png,dog\n")
    with pytest.raises(DataError, match=r"line 3: 2 images are called '1': .*a/1\.png, .*b/1\.png\. Write folder/name"):
        folder(tmp_path)
    write(tmp_path / "tags.csv", "image,tags\ntop,\na/1,\nb/1,\n")
    with refused(DataError, "no row for 1 images", "'b__deep__2'"):
        folder(tmp_path)


def test_two_photos_that_would_get_one_id_are_named(tmp_path: Path) -> None:
    place(tmp_path / "images", "a__1.png", "a/1.png")
    with refused(DataError, "a__1.png", "a/1.png", "the same name"):
        folder(tmp_path, layout="pattern", pattern="(?P<tags>a).*")


def test_a_link_to_a_folder_above_does_not_go_round_for_ever(tmp_path: Path) -> None:
    place(tmp_path / "images", "a/1.png")
    (tmp_path / "images/a/up").symlink_to(tmp_path / "images")
    write(tmp_path / "tags.csv", "image,tags\n1,cat\n")
    assert list(tags(folder(tmp_path))) == ["a__1"]


def test_sub_folders_of_a_root_without_images_are_not_read_in_silence(tmp_path: Path) -> None:
    place(tmp_path, "1.png", "more/2.png", "runs/x/masks/1.png")
    write(tmp_path / "runs/x/recipe.yaml", "")
    write(tmp_path / "tags.csv", "image,tags\n1.png,cat\n")
    (finding,) = findings(tmp_path, "file")
    assert "1 images in sub-folders of" in finding.text
    assert "more/2.png" in finding.text
    assert "data.images=." in finding.remedy
    write(tmp_path / "tags.csv", "image,tags\n1.png,cat\nmore/2.png,\n")
    assert tags(folder(tmp_path, images=".")) == {"1": ("cat",), "more__2": ()}
    (tmp_path / "1.png").unlink()
    with refused(DataError, "1 images in sub-folders", "more/2.png", "data.images=."):
        folder(tmp_path)


def test_photos_deeper_in_a_class_folder_are_read(tmp_path: Path) -> None:
    place(tmp_path, "cat/1.png", "cat/spring/1.png", "dog/2.png")
    assert tags(folder(tmp_path)) == {"1": ("cat",), "2": ("dog",), "spring__1": ("cat",)}


@pytest.mark.parametrize("out", ["runs/first", "first", "work/2024/may/first"])
def test_the_run_s_own_folder_is_no_class(tmp_path: Path, out: str) -> None:
    place(tmp_path, "cat/1.png", "dog/2.png")
    write(tmp_path / out / "lock", "")  # as a run that begins leaves it
    assert folder(tmp_path).classes == ("cat", "dog")
    write(tmp_path / out / "recipe.yaml", "")
    place(tmp_path / out, "classifier/1.png")
    place((tmp_path / out).parent, ".store/cam-1/1.png")
    assert tags(folder(tmp_path)) == {"1": ("cat",), "2": ("dog",)}
    assert findings(tmp_path, "class") == []


def test_a_class_folder_with_a_run_in_it_and_an_empty_one_are_classes(tmp_path: Path) -> None:
    place(tmp_path, "cat/deep/1.png", "dog/2.png", "cat/runs/first/maps/3.png")
    write(tmp_path / "cat/runs/first/recipe.yaml", "")
    (tmp_path / "fox/to/come").mkdir(parents=True)
    (tmp_path / "fox/to/again").symlink_to(tmp_path / "fox")
    dataset = folder(tmp_path)
    assert dataset.classes == ("cat", "dog", "fox")
    assert tags(dataset) == {"2": ("dog",), "deep__1": ("cat",)}


def test_predictions_beside_the_class_folders_are_no_class(tmp_path: Path) -> None:
    place(tmp_path, "cat/1.png", "dog/2.png", "out/masks/1.png")
    write(tmp_path / "out/predictions.json", "{}")
    assert folder(tmp_path).classes == ("cat", "dog")


def test_a_folder_named_background_holds_negatives(tmp_path: Path) -> None:
    place(tmp_path, "cat/1.png", "background/2.png", "background/deep/3.png")
    dataset = folder(tmp_path)
    assert (dataset.classes, tags(dataset)) == (("cat",), {"1": ("cat",), "2": (), "deep__3": ()})


def test_the_layout_of_imagefolder_gives_splits_and_classes(tmp_path: Path) -> None:
    place(tmp_path, "train/cat/1.png", "train/dog/1.png", "train/background/2.png", "valid/cat/1.png", "test/cow/1.png")
    assert tags(folder(tmp_path, "train")) == {
        "train__background__2": (), "train__cat__1": ("cat",), "train__dog__1": ("dog",),
    }  # fmt: skip
    assert list(tags(folder(tmp_path, "val"))) == ["valid__cat__1"]
    assert folder(tmp_path, "val").classes == ("cat", "cow", "dog")
    assert len(folder(tmp_path)) == 5
    with pytest.raises(DataError, match="unknown split 'tset'; did you mean 'test'"):
        folder(tmp_path, "tset")
    save_image(tmp_path / "train/loose.png", PIXELS)
    with refused(DataError, "1 images", "directly in", "train", "loose.png"):
        folder(tmp_path)


def test_a_class_called_train_is_no_split(tmp_path: Path) -> None:
    place(tmp_path, "train/1.png", "boat/2.png")
    assert folder(tmp_path).classes == ("boat", "train")
    place(tmp_path / "mixed", "train/cat/1.png", "val/cat/2.png", "other/3.png")
    (finding,) = [f for f in findings(tmp_path / "mixed", "class") if f.ids == ("train", "val")]
    assert finding.severity == "warning"
    assert "(other)" in finding.remedy


def test_class_folders_of_several_tags_are_parted_where_it_is_said(tmp_path: Path) -> None:
    place(tmp_path, "cat+dog/1.png", "cat/2.png", "dog/3.png")
    (finding,) = findings(tmp_path, "name")
    assert "data.separator='+'" in finding.remedy
    assert tags(folder(tmp_path, separator="+"))["1"] == ("cat", "dog")


@pytest.mark.parametrize("name", ["cat 1 .png", " cat 1.png", "cat 1\u00a0.png", "cat 1 .PNG"])
def test_blanks_around_a_name_do_not_matter(tmp_path: Path, name: str) -> None:
    place(tmp_path / "images", name)
    save_image(tmp_path / "masks/cat 1.png", np.ones((6, 4), dtype=np.uint8))
    for written in (name, "cat 1.png", "cat 1"):
        write(tmp_path / "tags.csv", f"image,tags\n{written},cat\n")
        write(tmp_path / "splits/train.txt", f"{written}\n")
        dataset = folder(tmp_path, "train")
        assert tags(dataset) == {"cat 1": ("cat",)}
        assert dataset.has_truth


def test_masks_of_numpy_are_read(tmp_path: Path) -> None:
    scenes = draw_folder(tmp_path, n=3)
    for kind, (name, scene) in zip(("uint8", "int64", ">i2"), scenes.items(), strict=True):
        (tmp_path / f"masks/{name}.png").unlink()
        np.save(tmp_path / f"masks/{name}.npy", scene.labels.astype(kind))
        assert array_size(tmp_path / f"masks/{name}.npy") == scene.labels.shape
    dataset = folder(tmp_path)
    for sample in dataset.samples:
        truth = dataset.truth(sample)
        assert truth is not None
        assert np.array_equal(truth, scenes[sample.id].labels)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (np.zeros((6, 4)), "float64 of shape (6, 4) … expected whole numbers … (height, width)"),
        (np.zeros((6, 4, 3), np.uint8), "holds uint8 of shape (6, 4, 3)"),
        (np.full((6, 4), 300, np.int32), "holds index 300: expected 0..255"),
        (np.full((6, 4), -1, np.int8), "holds index -1: expected 0..255"),
        (np.zeros((5, 4), np.uint8), "4 x 5 pixels … is 4 x 6"),
        (np.array([[{}]], object), "cannot read mask … 1.npy … bject"),
    ],
)
def test_masks_of_numpy_that_are_none_are_named(tmp_path: Path, values: Any, text: str) -> None:
    place(tmp_path / "images", "1.png")
    write(tmp_path / "tags.csv", "image,tags\n1,cat\n")
    (tmp_path / "masks").mkdir()
    np.save(tmp_path / "masks/1.npy", values)
    dataset = folder(tmp_path)
    with refused(DataError, text):
        dataset.truth(dataset.samples[0])


def test_files_beside_the_masks_that_cannot_be_masks_are_named(tmp_path: Path) -> None:
    draw_folder(tmp_path, n=3)
    write(tmp_path / "masks/photo 01.json", "{}")
    write(tmp_path / "masks/readme.txt", "")
    (finding,) = findings(tmp_path, "file")
    assert (finding.severity, finding.ids) == ("warning", ("photo 01.json",))
    assert ".npy" in finding.remedy


def test_a_folder_is_listed_without_a_look_at_each_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening a split of many files takes as long as those looks do."""
    for number in range(20):
        write(tmp_path / f"photos/{number}.png", "")
        write(tmp_path / f"photos/below/{number}.png", "")
    (tmp_path / "photos/link.png").symlink_to("0.png")
    looks: list[str] = []
    stat = Path.stat

    def counted(path: Path, **options: bool) -> os.stat_result:
        looks.append(path.name)
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", counted)
    assert len(list_images(tmp_path / "photos", below=True)) == 41
    assert set(looks) == {"below", "link.png"}
