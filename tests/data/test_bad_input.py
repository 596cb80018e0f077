"""What goes wrong with a data set as a whole, for every reader of files: a clear error, and nothing written."""

import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tag2mask.core.errors import DataError
from tag2mask.core.types import Sample
from tag2mask.data.doctor.checks import examine
from tag2mask.data.image_names import check_ids, list_images
from tag2mask.data.layout import check_classes, need_root, read_lines
from tag2mask.data.readers.filebased import FileDataset
from tag2mask.data.registry import data_settings, load_dataset
from tests.helpers.draw import draw_coco, draw_folder, draw_voc, save_image, write
from tests.helpers.refused import lacking, refused

DRAWERS: dict[str, Any] = {"voc": draw_voc, "coco": draw_coco, "folder": draw_folder}
PIXELS = np.zeros((4, 4, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", sorted(DRAWERS))
def test_a_missing_root_names_the_setting_the_path_and_the_layout(kind: str, tmp_path: Path) -> None:
    layout = {"voc": "JPEGImages/", "coco": r"annotations/instances_<split>\.json", "folder": r"tags\.csv"}[kind]
    with pytest.raises(
        DataError, match=rf"data\.root is not set: data={kind} needs .*{layout}.*Type data\.root=FOLDER"
    ):
        load_dataset(kind)
    with pytest.raises(DataError, match=rf"data\.root = .*/gone does not exist: expected .*{layout}.*Type data\.root="):
        load_dataset(kind, tmp_path / "gone")
    with pytest.raises(DataError, match=r"data\.root = .*/file is a file: expected"):
        load_dataset(kind, write(tmp_path / "file", "x"))
    (tmp_path / "empty").mkdir()
    with refused(DataError, ("does not exist: expected", "files ending in .jpg")):
        load_dataset(kind, tmp_path / "empty")


def test_a_relative_root_says_where_it_starts_and_home_is_expanded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(DataError, match=rf"relative paths start at {tmp_path}\)"):
        need_root(Path("gone"), "voc", "x")
    (tmp_path / "here").mkdir()
    assert need_root(Path("~/here"), "voc", "x") == tmp_path / "here"


@pytest.mark.parametrize("kind", sorted(DRAWERS))
def test_a_broken_image_is_named_when_read(kind: str, tmp_path: Path) -> None:
    DRAWERS[kind](tmp_path)
    dataset = load_dataset(kind, tmp_path)
    path = dataset.samples[0].image
    assert path is not None
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError, match=rf"cannot read .*{path.name}: .*tag2mask doctor"):
        dataset.image(dataset.samples[0])
    path.write_bytes(b"")
    with pytest.raises(DataError, match=rf"{path.name} is empty \(0 bytes\)"):
        load_dataset(kind, tmp_path).image(dataset.samples[0])
    with pytest.raises(DataError, match=rf"{path.name} is empty \(0 bytes\)"):
        dataset.truth(dataset.samples[0])


@pytest.mark.parametrize("kind", sorted(DRAWERS))
def test_a_read_only_root_is_enough_and_stays_untouched(kind: str, tmp_path: Path) -> None:
    DRAWERS[kind](tmp_path)
    everything = [tmp_path, *tmp_path.rglob("*")]
    for path in everything:
        path.chmod(stat.S_IREAD | (stat.S_IEXEC if path.is_dir() else 0))
    before = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in everything}
    try:
        dataset = load_dataset(kind, tmp_path)
        for sample in dataset.samples:
            dataset.image(sample)
            dataset.truth(sample)
            dataset.content_hash(sample)
        assert {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in [tmp_path, *tmp_path.rglob("*")]} == before
    finally:
        for path in everything:
            path.chmod(0o755)


@pytest.mark.parametrize("kind", ["voc", "coco"])
def test_a_data_set_of_one_image_works(kind: str, tmp_path: Path) -> None:
    scenes = DRAWERS[kind](tmp_path, n=1, splits=("train",))
    dataset = load_dataset(kind, tmp_path)
    assert [s.id for s in dataset.samples] == list(scenes)
    assert dataset.classes == ("disc", "square", "stripe")


def test_a_folder_of_one_image_trains_without_val(tmp_path: Path) -> None:
    draw_folder(tmp_path, n=1)
    assert len(load_dataset("folder", tmp_path, "train")) == len(load_dataset("folder", tmp_path, "all")) == 1
    with refused(DataError, "a single image", "split 'val'", "set data.val=null"):
        load_dataset("folder", tmp_path, "val")


@pytest.mark.parametrize("shape", [(1, 33), (33, 1)])
def test_images_one_pixel_high_or_wide_work(shape: tuple[int, int], tmp_path: Path) -> None:
    save_image(tmp_path / "a.png", np.full((*shape, 3), 7, dtype=np.uint8))
    save_image(tmp_path / "masks/a.png", np.ones(shape, dtype=np.uint8))
    write(tmp_path / "tags.csv", "image,tags\na.png,thing\n")
    dataset = load_dataset("folder", tmp_path, "all")
    truth = dataset.truth(dataset.samples[0])
    assert truth is not None
    assert truth.shape == shape
    assert dataset.image(dataset.samples[0]).size == shape[::-1]


@pytest.mark.parametrize("name", ["", "a/b", "..", "../x", ".hidden", "a\\b", "a\nb", "a\0b"])
def test_unsafe_ids_are_refused(name: str) -> None:
    with refused(DataError, "not a safe file name", "'/'"):
        check_ids(["fine", name])


def test_ids_that_a_file_system_may_take_for_one_are_refused() -> None:
    check_ids(["a", "b", "a b", "a.b", "ä"])
    with refused(DataError, "'img' and 'IMG'", "upper and lower case", "rename one"):
        check_ids(["IMG", "other", "img"])
    with pytest.raises(DataError, match="image id 'a' occurs twice"):
        check_ids(["a", "a"])


def test_ids_differing_in_case_are_refused_by_the_readers(tmp_path: Path) -> None:
    for name in ("Photo.png", "photo.jpg"):
        save_image(tmp_path / name, PIXELS)
    write(tmp_path / "tags.csv", "image,tags\nPhoto.png,a\nphoto.jpg,b\n")
    with refused(DataError, "'photo' and 'Photo'", "upper and lower case", "rename one"):
        load_dataset("folder", tmp_path, "all")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "here has 0 classes: expected 1..254"),
        ([f"c{i}" for i in range(255)], "here has 255 classes: expected 1..254"),
        (["a", "b", "a "], "here has class 'a' twice"),
        (["a", " "], "empty class name"),
        (["_background_", "a"], "'_background_' … label 0 … take it out"),
    ],
)
def test_bad_class_lists_are_refused(names: list[str], message: str) -> None:
    with refused(DataError, message):
        check_classes(names, "here")


def test_254_classes_are_fine_and_255_stays_ignored(tmp_path: Path) -> None:
    save_image(tmp_path / "a.png", PIXELS)
    save_image(tmp_path / "m.png", np.array([[0, 1, 254, 255]] * 4, dtype=np.uint8))
    sample = Sample("a", (253,), tmp_path / "a.png", tmp_path / "m.png")
    names = [f"c{i}" for i in range(254)]
    for classes, row in ((None, [0, 1, 254, 255]), (["c253", "c1"], [0, 255, 1, 255]), (["c0"], [0, 1, 255, 255])):
        dataset = FileDataset("x", "all", [sample], names, classes)
        truth = dataset.truth(dataset.samples[0])
        assert truth is not None
        assert truth[0].tolist() == row


def test_a_folder_without_any_tag_has_nothing_to_learn(tmp_path: Path) -> None:
    save_image(tmp_path / "a.png", PIXELS)
    write(tmp_path / "tags.csv", "image,tags\na.png,\n")
    with refused(DataError, "has a tag", "nothing to learn from"):
        load_dataset("folder", tmp_path, "all")
    with pytest.raises(DataError, match="no images|expected images beside"):
        load_dataset("folder", write(tmp_path / "other/readme.md", "x").parent, "all")


def test_only_image_files_are_listed_and_photos_that_cannot_be_read_are_not_skipped(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "._a.png", "notes.txt", "c.TIFF", "e\u0301.webp"):
        write(tmp_path / name, "x")
    (tmp_path / "folder.png").mkdir()
    assert list(list_images(tmp_path)) == ["a", "b", "c", "\u00e9"]
    write(tmp_path / "IMG_1.HEIC", "x")
    with refused(DataError, "IMG_1.HEIC", "convert it to JPEG or PNG"):
        list_images(tmp_path)


def renamed(path: Path, name: bytes) -> Path:
    """A file or folder under a name that may not be UTF-8."""
    other = path.with_name(os.fsdecode(name))
    try:
        path.rename(other)
    except OSError:
        pytest.skip("the file system takes names in UTF-8 alone")
    return other


@pytest.mark.parametrize(
    ("kind", "place", "name", "shown"),
    [
        ("folder", "images/photo 00.png", b"caf\x82.png", "caf\\x82.png is not UTF-8: rename it … convmv"),
        ("folder", "masks/photo 00.png", b"caf\x82.png", "masks/caf\\x82.png is not UTF-8"),
        ("voc", "JPEGImages/2007_000001.jpg", b"\xe9.jpg", "\\xe9.jpg is not UTF-8"),
        ("folder", ".", b"d\xe4ta", "d\\xe4ta is not UTF-8"),
        ("coco", ".", b"d\xe4ta", "d\\xe4ta is not UTF-8"),
    ],
)
def test_a_name_that_is_not_utf8_is_shown_with_escapes_by_reader_and_doctor(
    tmp_path: Path, kind: str, place: str, name: bytes, shown: str
) -> None:
    root = tmp_path / "data"
    DRAWERS[kind](root)
    moved = renamed(root / place, name)
    root = moved if place == "." else root
    with refused(DataError, shown) as caught:
        load_dataset(kind, root)
    str(caught.value).encode()
    report = examine(kind, data_settings(kind, {"root": root}), quiet=True)
    assert [f.kind for f in report.findings if f.severity == "error"] == ["open"]
    assert not lacking(report.findings[0].text, shown)


def test_a_class_folder_that_is_not_utf8_is_shown_with_escapes(tmp_path: Path) -> None:
    draw_folder(tmp_path, layout="subfolders", masks=False)
    renamed(tmp_path / "disc", b"d\xffsc")
    with pytest.raises(DataError, match=r"d\\xffsc.*not UTF-8.*rename it"):
        load_dataset("folder", tmp_path)


def test_lone_surrogates_and_names_that_no_file_system_takes_are_refused() -> None:
    with pytest.raises(DataError, match=r"image id 'a\\ud800' is not UTF-8"):
        check_ids(["a\ud800"])
    with refused(DataError, "image id 'aaa", "…", "300 bytes", "the 251"):
        check_ids(["a" * 300])
    with refused(DataError, "'a\\udfff'", "not UTF-8"):
        check_classes(["a\udfff"], "here")
    with refused(DataError, "'aaa", "a name of 5000 characters", "at most 200"):
        check_classes(["a" * 5000], "here")


def test_a_folder_that_may_not_be_looked_into_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_coco(tmp_path)

    def refuse(self: Path) -> Any:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with refused(DataError, "cannot look at", "annotations: Permission denied"):
        load_dataset("coco", tmp_path)


def test_lists_must_be_utf8_text(tmp_path: Path) -> None:
    assert read_lines(write(tmp_path / "l.txt", "\ufeffa\r\n\r\n b \n")) == [(1, "a"), (3, "b")]
    (tmp_path / "l.txt").write_bytes(b"\xff\xfe")
    with refused(DataError, "l.txt", "not UTF-8 text", "save it as UTF-8"):
        read_lines(tmp_path / "l.txt")
    with pytest.raises(DataError, match=rf"cannot read .*gone\.txt: {os.strerror(2)}"):
        read_lines(tmp_path / "gone.txt")


def test_empty_mask_and_split_folders_are_not_classes(tmp_path: Path) -> None:
    draw_folder(tmp_path, layout="subfolders")
    write(tmp_path / "splits/train.txt", "photo 00\n")
    assert load_dataset("folder", tmp_path, "train").classes == ("disc", "square", "stripe")


def test_a_voc_split_list_folder_without_lists_is_named(tmp_path: Path) -> None:
    draw_voc(tmp_path)
    for path in (tmp_path / "ImageSets/Segmentation").iterdir():
        path.unlink()
    with refused(DataError, "ImageSets/Segmentation", "no split list", "split 'train'"):
        load_dataset("voc", tmp_path)
