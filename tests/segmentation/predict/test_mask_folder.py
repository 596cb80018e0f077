"""The folder of masks: what it refuses, resumes, and draws."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tag2mask.core.errors import StageError
from tag2mask.segmentation.predict import labeller
from tag2mask.segmentation.predict.mask_folder import MasksFolder
from tag2mask.segmentation.predict.options import PredictOptions
from tests.helpers.refused import lacking, refused
from tests.segmentation.predict_drawn import predict, save
from tests.segmentation.toy_net import CLASSES, Colours, colours


def test_another_networks_folder_is_refused(photos: Path, tmp_path: Path) -> None:
    predict(photos, tmp_path / "out")
    with refused(StageError, "out holds predictions", "another network", "nothing was written"):
        predict(photos, tmp_path / "out", network="bb")
    with refused(StageError, "scales [1.0], now [0.5, 1.0]", "mirror False, now True", "nothing"):
        predict(photos, tmp_path / "out", options=PredictOptions(scales=(0.5, 1.0), mirror=True))
    assert predict(photos, tmp_path / "out").skipped == 3


def test_masks_of_another_folder_are_not_replaced(tmp_path: Path) -> None:
    one, two = (save(tmp_path / name / "1.png", colours(5, 7, seed)) for seed, name in enumerate(("one", "two")))
    out = tmp_path / "both"
    predict(one.parent, out)
    mask = (out / "masks" / "1.png").read_bytes()
    save(two.parent / "0.png", colours(2, 2))
    with refused(StageError, "masks/1.png", str(one), str(two), "Choose another --out"):
        predict(two.parent, out)
    assert [p.name for p in (out / "masks").iterdir()] == ["1.png"]
    assert (out / "masks" / "1.png").read_bytes() == mask
    save(one, colours(5, 7, 9))
    assert predict(one.parent, out).made == 1, "a photo that changed in place"


def test_photos_that_were_moved_or_copied_or_linked_are_known(tmp_path: Path) -> None:
    one, out = tmp_path / "one", tmp_path / "out"
    image = save(one / "1.png", colours(5, 7))
    predict(one, out)
    save(tmp_path / "copy" / "1.png", colours(5, 7))
    assert predict(tmp_path / "copy", out).skipped == 1
    (tmp_path / "copy").rename(tmp_path / "moved")
    save(tmp_path / "moved" / "1.png", colours(5, 7, 1))
    assert predict(tmp_path / "moved", out).made == 1
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "1.png").symlink_to(tmp_path / "moved" / "1.png")
    assert predict(tmp_path / "link", out).skipped == 1
    (out / "sources.json").unlink()
    assert predict(image.parent, out).made == 1, "masks of before there were notes"
    (out / "sources.json").write_text("[]")
    with refused(StageError, "sources.json", "remove it"):
        predict(one, out)


def test_an_output_folder_that_holds_other_things_is_refused(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "letter.txt").write_text("mine")
    with refused(StageError, "out holds other things (letter.txt)", "no predictions.json"):
        predict(photos, tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["letter.txt"]
    for text in ("[]", '{"network": "aa", "classes": ["disc", "square"], "choices": []}'):
        (tmp_path / "out" / "predictions.json").write_text(text)
        with refused(StageError, "predictions.json", "tag2mask did not write", "nothing was"):
            predict(photos, tmp_path / "out")
    with refused(StageError, "letter.txt is a file", "name a new folder"):
        predict(photos, tmp_path / "out" / "letter.txt")


def test_a_folder_that_cannot_be_written_is_named(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: object, target: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)  # permissions do not bind an administrator, who may run this
    with pytest.raises(StageError, match="cannot write .*predictions.json: Permission denied"):
        predict(photos, tmp_path / "out")
    assert list((tmp_path / "out").rglob("*.png")) == []


def test_names_as_long_as_can_be_are_written(tmp_path: Path) -> None:
    name = "n" * (os.pathconf(tmp_path, "PC_NAME_MAX") - 4)
    save(tmp_path / "photos" / f"{name}.png", colours(4, 4))
    assert predict(tmp_path / "photos", tmp_path / "out", overlay=True).made == 1
    assert (tmp_path / "out" / "masks" / f"{name}.png").is_file()


@pytest.mark.parametrize("folder", ["masks", "overlays"])
def test_a_name_too_long_for_the_disk_is_its_photos_fault(
    folder: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def short(source: Path, target: Path) -> None:
        if folder in target.parts and target.stem == "b":
            raise OSError(errno.ENAMETOOLONG, "File name too long")
        replace(source, target)

    monkeypatch.setattr(os, "replace", short)  # as where masks go to a disk that takes shorter names than the photos'
    outcome = predict(photos, tmp_path / "out", overlay=True, batch=3)
    assert (outcome.made, [f.path.name for f in outcome.failed]) == (2, ["b.png"])
    assert not lacking(outcome.failed[0].reason, "b.png … its mask, … is too long")
    assert {p.stem for p in (tmp_path / "out" / "overlays").rglob("*.jpg")} == {"a"}


def test_overlays_are_drawn_also_for_masks_that_were_there(photos: Path, tmp_path: Path) -> None:
    predict(photos, tmp_path / "out")
    net = Colours()
    outcome = predict(photos, tmp_path / "out", net=net, overlay=True)
    assert (outcome.made, net.batches) == (3, [])
    with Image.open(tmp_path / "out" / "overlays" / "sub" / "b.jpg") as image:
        assert image.size == (7, 7)
    save(photos / "a.png", colours(5, 7, seed=9))
    predict(photos, tmp_path / "out")
    assert not (tmp_path / "out" / "overlays" / "a.jpg").exists()  # it was of the mask before


def test_large_overlays_are_shrunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tag2mask.segmentation.predict.mask_folder.OVERLAY_SIDE", 16)
    monkeypatch.setattr(labeller, "WHOLE", 300)  # a photo decoded in its turn
    image = np.zeros((40, 60, 3), np.uint8)
    image[:20, :, 1] = image[20:, :, 2] = 200
    save(tmp_path / "photos" / "a.png", image)
    predict(tmp_path / "photos", tmp_path / "out", overlay=True)
    with Image.open(tmp_path / "out" / "overlays" / "a.jpg") as shown:
        assert shown.size == (16, 11)
        top, bottom = shown.getpixel((7, 1)), shown.getpixel((7, 9))
    assert isinstance(top, tuple)
    assert isinstance(bottom, tuple)
    assert top[0] > 60 > bottom[0]  # a green photo under label 1's red, above a blue one under label 2's green
    assert bottom[2] > 60 > top[2]


def test_what_a_killed_process_left_is_removed_unless_another_is_at_work(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(photos, out)
    left = [out / ".1-0.tmp", out / "masks" / ".999999-3.tmp", out / "overlays" / "sub" / f".{os.getpid()}-1.tmp"]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    (out / "masks" / ".mine.tmp").write_bytes(b"of somebody else")
    other = MasksFolder(out, "aa", CLASSES, PredictOptions(), overlay=False)
    other.prepare()
    assert [path.exists() for path in left] == [False] * 3
    assert (out / "masks" / ".mine.tmp").exists()
    left[1].write_bytes(b"of the other, which is at work")
    predict(photos, out)
    assert left[1].exists()
    del other
    predict(photos, out)
    assert not left[1].exists()


def test_a_folder_that_was_begun_and_no_more_is_resumed(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".123-0.tmp").write_bytes(b"half")
    assert predict(photos, tmp_path / "out").made == 3
    assert not (tmp_path / "out" / ".123-0.tmp").exists()


@pytest.mark.parametrize("name", ["predictions.json", "sources.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b"\xff", b"[1]", b"null"])
def test_notes_of_the_folder_that_are_damaged_are_named_with_what_to_do(
    name: str, content: bytes, photos: Path, tmp_path: Path
) -> None:
    predict(photos, tmp_path / "out")
    (tmp_path / "out" / name).write_bytes(content)
    with refused(StageError, name, ("name another folder", "Name a new folder")):
        predict(photos, tmp_path / "out")


@pytest.mark.parametrize("value", [1, None, "\ud800", ["a"]])
def test_notes_of_photos_that_make_no_sense_are_named(value: object, photos: Path, tmp_path: Path) -> None:
    predict(photos, tmp_path / "out")
    (tmp_path / "out" / "sources.json").write_text(json.dumps({"a": value}))
    with refused(StageError, "sources.json", "remove it", "name another folder"):
        predict(photos, tmp_path / "out")


@pytest.mark.parametrize("value", ["\0", "n" * 5000, ""])
def test_notes_of_photos_that_cannot_be_are_of_photos_that_are_gone(value: str, photos: Path, tmp_path: Path) -> None:
    predict(photos, tmp_path / "out")
    (tmp_path / "out" / "sources.json").write_text(json.dumps({"a": value}))
    assert predict(photos, tmp_path / "out").skipped == 3
