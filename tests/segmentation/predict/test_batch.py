from __future__ import annotations

import errno
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tag2mask.core.errors import DataError, StageError
from tag2mask.core.palette import read_labels, voc_palette
from tag2mask.segmentation.predict import batch as folders
from tag2mask.segmentation.predict import labeller
from tag2mask.segmentation.predict.batch import Outcome, predict_photos
from tag2mask.segmentation.predict.find_photos import find_sources
from tag2mask.segmentation.predict.labeller import Labeller
from tag2mask.segmentation.predict.logits import LoadedNetwork
from tag2mask.segmentation.predict.mask_folder import MasksFolder
from tag2mask.segmentation.predict.options import PredictOptions
from tag2mask.segmentation.predict.photo_readers import MAX_PIXELS, ArrayPhoto
from tests.segmentation.toy_net import CLASSES, MEAN, STD, Colours, colours


def save(path: Path, image: NDArray[np.uint8]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


def predict(
    photos: Path,
    out: Path,
    *,
    net: Colours | None = None,
    network: str = "aa",
    options: PredictOptions | None = None,
    overlay: bool = False,
    batch: int = 1,
    max_pixels: int = MAX_PIXELS,
) -> Outcome:
    """What the command does."""
    chosen = options or PredictOptions()
    folder = MasksFolder(out, network, CLASSES, chosen, overlay)
    folder.prepare()
    made = Labeller(LoadedNetwork(net or Colours(), MEAN, STD, CLASSES), chosen, batch)
    return predict_photos(find_sources([photos], out), made, folder, max_pixels)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for i, name in enumerate(("a.png", "sub/a.png", "sub/b.png")):
        save(tmp_path / "photos" / name, colours(5 + i, 7, seed=i))
    return tmp_path / "photos"


def test_masks_have_the_photos_names_folders_and_labels(photos: Path, tmp_path: Path) -> None:
    outcome = predict(photos, tmp_path / "out")
    assert (outcome.made, outcome.skipped, outcome.failed) == (3, 0, [])
    for i, name in enumerate(("a.png", "sub/a.png", "sub/b.png")):
        path = tmp_path / "out" / "masks" / name
        assert np.array_equal(read_labels(path), colours(5 + i, 7, seed=i).argmax(-1))
        with Image.open(path) as image:
            assert image.mode == "P"
            assert (image.getpalette() or [])[:9] == list(voc_palette()[:9])
    assert (tmp_path / "out" / "classes.txt").read_text() == "disc\nsquare\n"
    assert not (tmp_path / "out" / "overlays").exists()


def test_what_is_done_is_skipped_and_a_changed_photo_is_not(photos: Path, tmp_path: Path) -> None:
    predict(photos, tmp_path / "out")
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.png")}
    net = Colours()
    outcome = predict(photos, tmp_path / "out", net=net)
    assert (outcome.made, outcome.skipped, net.batches) == (0, 3, [])
    changed = save(photos / "sub" / "a.png", colours(6, 7, seed=9))
    save(photos / "new.png", colours(2, 2))
    (tmp_path / "out" / "masks" / "a.png").write_bytes(b"damaged")
    outcome = predict(photos, tmp_path / "out", net=net)
    assert (outcome.made, outcome.skipped) == (3, 1)
    assert np.array_equal(
        read_labels(tmp_path / "out" / "masks" / "sub" / "a.png"), np.asarray(Image.open(changed)).argmax(-1)
    )
    kept = tmp_path / "out" / "masks" / "sub" / "b.png"
    assert kept.stat().st_mtime_ns == times[kept]


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


def test_photos_of_one_size_go_through_the_network_together(tmp_path: Path) -> None:
    sizes = [(4, 6), (6, 4), (4, 6), (6, 4), (4, 6), (3, 3)]
    for i, size in enumerate(sizes):
        save(tmp_path / "photos" / f"{i}.png", colours(*size, seed=i))
    net = Colours()
    outcome = predict(tmp_path / "photos", tmp_path / "out", net=net, batch=2)
    assert outcome.made == 6
    assert sorted(net.batches) == [1, 1, 2, 2]
    for i, size in enumerate(sizes):
        made = read_labels(tmp_path / "out" / "masks" / f"{i}.png")
        assert np.array_equal(made, colours(*size, seed=i).argmax(-1))


def test_few_photos_wait_for_others_of_their_size(tmp_path: Path) -> None:
    def work(size: tuple[int, int]) -> folders._Work:
        source = find_sources([save(tmp_path / "p.png", colours(1, 1))], tmp_path / "out")[0]
        return folders._Work(source, "", ArrayPhoto(np.zeros((*size, 3), np.uint8)), True)

    items = [work((1 + i % 9, 2)) for i in range(18)]  # each size comes again only after eight others
    batches = list(folders._batches(iter(items), 2))
    assert sorted(id(w) for b in batches for w in b) == sorted(map(id, items))
    assert all(len({w.photo.size for w in b}) == 1 for b in batches)


def test_one_bad_photo_does_not_stop_the_others_and_is_told(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("tag2mask"), "propagate", True)
    whole = (photos / "a.png").read_bytes()
    (photos / "cut.png").write_bytes(whole[:60])
    (photos / "none.jpg").write_bytes(b"")
    save(photos / "sub" / "large.png", colours(20, 20))
    (photos / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (photos / "a.heic").write_bytes(b"x")  # phones keep both: no clash of names with a.png
    outcome = predict(photos, tmp_path / "out", max_pixels=399)
    assert outcome.made == 3
    assert [f.path.name for f in outcome.failed] == ["a.heic", "cut.png", "gone.png", "none.jpg", "large.png"]
    assert "none.jpg is empty" in caplog.text
    with pytest.raises(DataError) as told:
        outcome.check()
    lines = str(told.value).splitlines()
    assert lines[0] == "5 of 8 photos have no mask:"
    assert lines[1].endswith("a.heic is of a format that is not read: convert it to JPEG or PNG")
    assert [line.split(": ")[0].strip() for line in lines[1:]] == [str(f.path) for f in outcome.failed]
    assert "400 pixels, more than the 399 allowed" in lines[5]
    Outcome(made=2).check()


def test_another_networks_folder_is_refused(photos: Path, tmp_path: Path) -> None:
    predict(photos, tmp_path / "out")
    with pytest.raises(StageError, match="out holds predictions of another network; nothing was written"):
        predict(photos, tmp_path / "out", network="bb")
    with pytest.raises(
        StageError,
        match=r"made with other options \(scales \[1.0\], now \[0.5, 1.0\]; mirror False, now True\); nothing",
    ):
        predict(photos, tmp_path / "out", options=PredictOptions(scales=(0.5, 1.0), mirror=True))
    assert predict(photos, tmp_path / "out").skipped == 3


def test_masks_of_another_folder_are_not_replaced(tmp_path: Path) -> None:
    one, two = (save(tmp_path / name / "1.png", colours(5, 7, seed)) for seed, name in enumerate(("one", "two")))
    out = tmp_path / "both"
    predict(one.parent, out)
    mask = (out / "masks" / "1.png").read_bytes()
    save(two.parent / "0.png", colours(2, 2))
    with pytest.raises(StageError, match=rf"masks/1.png of {one}, which that of {two} would .* Choose another --out"):
        predict(two.parent, out)
    assert [p.name for p in (out / "masks").iterdir()] == ["1.png"]
    assert (out / "masks" / "1.png").read_bytes() == mask
    save(one, colours(5, 7, 9))
    assert predict(one.parent, out).made == 1, "a photo that changed in place"


def test_photos_that_were_moved_or_copied_or_linked_go_on(tmp_path: Path) -> None:
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
    with pytest.raises(StageError, match=r"sources.json is not what tag2mask wrote: remove it"):
        predict(one, out)


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


def test_an_output_folder_that_holds_other_things_is_refused(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "letter.txt").write_text("mine")
    with pytest.raises(StageError, match=r"out holds other things \(letter.txt\) and no predictions.json"):
        predict(photos, tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["letter.txt"]
    for text in ("[]", '{"network": "aa", "classes": ["disc", "square"], "choices": []}'):
        (tmp_path / "out" / "predictions.json").write_text(text)
        with pytest.raises(StageError, match=r"holds a predictions.json that tag2mask did not write; nothing was"):
            predict(photos, tmp_path / "out")
    with pytest.raises(StageError, match="letter.txt is a file; name a new folder"):
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
    assert "b.png: the name of its mask, or of a folder of it, is too long" in outcome.failed[0].reason
    assert {p.stem for p in (tmp_path / "out" / "overlays").rglob("*.jpg")} == {"a"}
