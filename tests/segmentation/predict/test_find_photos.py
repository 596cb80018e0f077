"""The photos that a command names, and the names of their masks."""

from __future__ import annotations

import os
import shutil
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from tag2mask.core.errors import DataError
from tag2mask.segmentation.predict.find_photos import find_sources
from tag2mask.segmentation.predict.photo_readers import open_photo
from tests.helpers.refused import lacking, refused
from tests.segmentation.predict_drawn import save


def names(inputs: list[Path | str], out: Path) -> list[str]:
    return [str(s.name) for s in find_sources(inputs, out)]


def test_a_folder_keeps_names_and_folders(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "sub/deep/b.jpg", ".hidden.png", ".cache/c.png", "phone.heic"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "notes.txt").write_text("no photo")
    found = find_sources([tmp_path], tmp_path / "out")
    assert [str(s.name) for s in found] == ["a", "b", "phone", "sub/deep/b"]
    assert [s.problem for s in found if s.name.name != "phone"] == [None] * 3
    assert not lacking(found[2].problem, "phone.heic … convert it to JPEG or PNG")
    assert found[0].path == tmp_path / "a.JPG"
    assert found[0].name == PurePosixPath("a")


def test_photos_of_one_name_in_two_folders_stay_apart(tmp_path: Path) -> None:
    one, two = save(tmp_path / "x" / "1.png"), save(tmp_path / "y" / "z" / "1.png")
    assert names([one, two], tmp_path / "out") == ["x/1", "y/z/1"]
    assert names([tmp_path / "x", tmp_path / "y"], tmp_path / "out") == ["x/1", "y/z/1"]
    assert names([one], tmp_path / "out") == ["1"]
    assert names([one, one, tmp_path / "x"], tmp_path / "out") == ["1"]  # named three times, one photo


def test_patterns_are_found_below_their_fixed_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "x" / "1.png")
    save(tmp_path / "y" / "1.png")
    save(tmp_path / "y" / "2.bmp")
    monkeypatch.chdir(tmp_path)
    assert names(["*/1.png"], tmp_path / "out") == ["x/1", "y/1"]
    assert names(["y/*.bmp"], tmp_path / "out") == ["2"]
    assert names(["**/*.png"], tmp_path / "out") == ["x/1", "y/1"]


def test_own_output_is_no_input(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    save(tmp_path / "out" / "masks" / "a.png")
    assert names([tmp_path], tmp_path / "out") == ["a"]
    assert names([str(tmp_path / "**" / "*.png")], tmp_path / "out") == ["a"]


@pytest.mark.parametrize("given", ["few", "few/sub", "few/*.png"])
def test_an_input_that_is_the_output_is_distinguished_from_an_empty_one(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "few" / "a.png")
    save(tmp_path / "few" / "sub" / "b.png")
    monkeypatch.chdir(tmp_path)
    with refused(DataError, "few", "lies in --out few", "choose another --out"):
        names([given], Path("few"))


def test_linked_folders_are_followed_each_once(tmp_path: Path) -> None:
    photos, other = tmp_path / "photos", tmp_path / "other"
    save(photos / "real" / "a.png")
    save(other / "b.png")
    (photos / "again").symlink_to(photos / "real")  # sorted before it, yet the folder itself gives the name
    (photos / "real" / "up").symlink_to(photos)
    (photos / "far").symlink_to(other)
    (other / "back").symlink_to(photos)
    (photos / "masks").symlink_to(tmp_path / "out")
    save(tmp_path / "out" / "a.png")
    assert names([photos], tmp_path / "out") == ["far/b", "real/a"]


def test_folders_that_cannot_be_read_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "photos" / "a.png")
    closed = save(tmp_path / "photos" / "a" / "b.png").parent
    scan = os.scandir

    def refuse(path: str) -> Any:
        if Path(path) == closed:
            raise PermissionError(13, "Permission denied", str(closed))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)  # permissions do not bind an administrator, who may run this
    found = find_sources([tmp_path / "photos"], tmp_path / "out")
    assert {s.path.name: s.problem for s in found} == {
        "a.png": None, "a": f"folder {closed} cannot be read: Permission denied",
    }  # fmt: skip


def test_a_photo_where_one_may_not_look_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_dir", refuse)
    with refused(DataError, "a.png", "Permission denied", "Allow it"):
        names([tmp_path / "a.png"], tmp_path / "out")


def test_the_home_of_nobody_is_named(tmp_path: Path) -> None:
    with refused(DataError, "~nobody-here/x.jpg", "no home folder"):
        names(["~nobody-here/x.jpg"], tmp_path / "out")


def test_a_file_named_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    path = save(tmp_path / "photo[1].png")
    assert [s.path for s in find_sources([path], tmp_path / "out")] == [path]


@pytest.mark.parametrize(("one", "two"), [("a.jpg", "a.png"), ("A.png", "a.png"), ("s/a.jpg", "s/a.bmp")])
def test_two_photos_for_one_mask_are_refused(tmp_path: Path, one: str, two: str) -> None:
    save(tmp_path / one)
    save(tmp_path / two)
    with refused(DataError, f"{tmp_path / one}", f"{tmp_path / two}", "rename one"):
        find_sources([tmp_path], tmp_path / "out")


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for given, text in (
        (tmp_path / "empty", r"folder .*empty holds no image, nor do those below it \(looked for .jpg"),
        (tmp_path / "none", "none does not exist: expected a folder, an image file, or a pattern in quotes"),
        (str(tmp_path / "*.jpg"), r"pattern '.*\*\.jpg' matches no image"),
    ):
        with pytest.raises(DataError, match=text):
            find_sources([given], tmp_path / "out")
    with pytest.raises(DataError, match="no image was named"):
        find_sources([], tmp_path / "out")


def test_what_tag2mask_has_written_below_the_photos_is_left_out(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "own"
    shutil.copytree(photos, folder)
    count = len(find_sources([folder], tmp_path / "out"))
    image = next(p for p in sorted(folder.rglob("*")) if p.is_file())
    for name, mark in (("runs/first", "recipe.yaml"), ("earlier", "predictions.json")):
        (folder / name / "masks").mkdir(parents=True)
        (folder / name / mark).write_text("")
        shutil.copy(image, folder / name / "masks" / image.name)
    caplog.set_level("INFO", "tag2mask")
    assert len(find_sources([folder], folder / "earlier")) == count
    assert [m.partition(" is left out: tag2mask has written it")[0] for m in caplog.messages] == [
        str(folder / "runs/first")
    ]
    assert len(find_sources([folder / "runs/first"], tmp_path / "out")) == 1, "named by itself"


@pytest.mark.parametrize("given", ["pipe.jpg", "*.jpg"])
def test_a_pipe_that_is_named_by_itself_or_by_a_pattern(given: str, photos: Path, tmp_path: Path) -> None:
    os.mkfifo(photos / "pipe.jpg")
    (source,) = find_sources([photos / given], tmp_path / "out")
    assert source.problem == f"{photos / 'pipe.jpg'} is a named pipe, not a photo"
    with refused(DataError, "named pipe"):
        open_photo(photos / "pipe.jpg")
