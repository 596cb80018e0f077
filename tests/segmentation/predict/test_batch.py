"""Many photos: masks under their names, in batches of one size; a broken photo costs its own mask and no other's."""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tag2mask.core.errors import DataError
from tag2mask.core.files import read_json
from tag2mask.core.palette import read_labels, voc_palette
from tag2mask.segmentation.predict import batch as folders
from tag2mask.segmentation.predict.batch import Outcome
from tag2mask.segmentation.predict.find_photos import find_sources
from tag2mask.segmentation.predict.photo_readers import ArrayPhoto
from tests.helpers.refused import refused
from tests.segmentation.predict_drawn import predict, reasons, save
from tests.segmentation.toy_net import Colours, colours


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


def test_one_bad_photo_does_not_stop_the_others_and_is_reported(
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
    with pytest.raises(DataError) as caught:
        outcome.check()
    lines = str(caught.value).splitlines()
    assert lines[0] == "5 of 8 photos have no mask:"
    assert lines[1].endswith("a.heic is of a format that is not read: convert it to JPEG or PNG")
    assert [line.split(": ")[0].strip() for line in lines[1:]] == [str(f.path) for f in outcome.failed]
    assert "400 pixels, more than the 399 allowed" in lines[5]
    Outcome(made=2).check()


LATIN = os.fsdecode(b"caf\xe9.png")
"""A name as it comes out of an old zip."""


def test_pipes_devices_and_sockets_are_named_and_never_opened(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(photos / "pipe.jpg")
    (photos / "zero.png").symlink_to("/dev/zero")
    (photos / "gone.png").symlink_to("nowhere")
    monkeypatch.chdir(tmp_path)  # the name of a socket is short
    bound = socket.socket(socket.AF_UNIX)
    bound.bind("photos/socket.tif")
    bound.close()
    outcome = predict(photos, tmp_path / "out")
    assert outcome.made == 3
    found = reasons(outcome)
    assert "pipe.jpg is a named pipe, not a photo" in found["pipe.jpg"]
    assert "zero.png is a device, not a photo" in found["zero.png"]
    assert "socket.tif is a socket, not a photo" in found["socket.tif"]
    assert "gone.png cannot be read: No such file" in found["gone.png"]
    with refused(DataError, "4 of 7 photos", "pipe.jpg is a named pipe"):
        outcome.check()


def test_names_that_are_not_utf8_are_left_out_and_named(photos: Path, tmp_path: Path) -> None:
    save(photos / LATIN)
    save(photos / os.fsdecode(b"\xfcber") / "b.png")
    outcome = predict(photos, tmp_path / "out")
    assert (outcome.made, len(outcome.failed)) == (3, 2)
    assert all("is not UTF-8: rename it" in reason for reason in reasons(outcome).values())
    assert set(read_json(tmp_path / "out" / "sources.json")) == {"a", "sub/a", "sub/b"}
    assert predict(photos / LATIN, tmp_path / "other").made == 0
