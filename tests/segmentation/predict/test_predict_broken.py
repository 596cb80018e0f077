"""What is no photo, or a broken one, costs its own mask and no other's."""

from __future__ import annotations

import json
import os
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from tag2mask.core.errors import DataError, StageError
from tag2mask.core.files import read_json
from tag2mask.segmentation.predict import labeller
from tag2mask.segmentation.predict import photo_readers as tiff
from tag2mask.segmentation.predict.batch import Outcome, predict_photos
from tag2mask.segmentation.predict.find_photos import find_sources
from tag2mask.segmentation.predict.labeller import Labeller
from tag2mask.segmentation.predict.logits import LoadedNetwork
from tag2mask.segmentation.predict.mask_folder import MasksFolder
from tag2mask.segmentation.predict.options import PredictOptions
from tag2mask.segmentation.predict.photo_readers import WholePhoto, open_photo
from tests.segmentation.toy_net import CLASSES, MEAN, STD, Colours

LATIN = os.fsdecode(b"caf\xe9.png")
"""A name as it comes out of an old zip."""


def colours(height: int, width: int, channels: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, (height, width, channels), dtype=np.uint8)


def save(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(colours(6, 8)).save(path)
    return path


def predict(photos: Path | str, out: Path, **words: Any) -> Outcome:
    """What the command does."""
    folder = MasksFolder(out, "aa", CLASSES, PredictOptions(), overlay=False)
    folder.prepare()
    labeller = Labeller(LoadedNetwork(Colours(), MEAN, STD, CLASSES), PredictOptions(), **words)
    return predict_photos(find_sources([photos], out), labeller, folder)


def reasons(outcome: Outcome) -> dict[str, str]:
    return {failure.path.name: failure.reason for failure in outcome.failed}


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One photo before all others by name and one behind."""
    save(tmp_path / "photos" / "a.png")
    save(tmp_path / "photos" / "z.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "photos"


def test_pipes_devices_and_sockets_are_named_and_never_opened(photos: Path, tmp_path: Path) -> None:
    os.mkfifo(photos / "pipe.jpg")
    (photos / "zero.png").symlink_to("/dev/zero")
    (photos / "gone.png").symlink_to("nowhere")
    bound = socket.socket(socket.AF_UNIX)
    bound.bind("photos/socket.tif")
    bound.close()
    outcome = predict(photos, tmp_path / "out")
    assert outcome.made == 2
    found = reasons(outcome)
    assert "pipe.jpg is a named pipe, not a photo" in found["pipe.jpg"]
    assert "zero.png is a device, not a photo" in found["zero.png"]
    assert "socket.tif is a socket, not a photo" in found["socket.tif"]
    assert "gone.png cannot be read: No such file" in found["gone.png"]
    with pytest.raises(DataError, match=r"4 of 6 photos have no mask:(.|\n)*pipe.jpg is a named pipe"):
        outcome.check()


@pytest.mark.parametrize("given", ["pipe.jpg", "*.jpg"])
def test_a_pipe_that_is_named_by_itself_or_by_a_pattern(given: str, photos: Path, tmp_path: Path) -> None:
    os.mkfifo(photos / "pipe.jpg")
    (source,) = find_sources([photos / given], tmp_path / "out")
    assert source.problem == f"{photos / 'pipe.jpg'} is a named pipe, not a photo"
    with pytest.raises(DataError, match="it is a (named pipe|device|socket)"):
        open_photo(photos / "pipe.jpg")


def test_names_that_are_not_utf8_are_left_out_and_named(photos: Path, tmp_path: Path) -> None:
    save(photos / LATIN)
    save(photos / os.fsdecode(b"\xfcber") / "b.png")
    outcome = predict(photos, tmp_path / "out")
    assert (outcome.made, len(outcome.failed)) == (2, 2)
    assert all("is not UTF-8: rename it" in reason for reason in reasons(outcome).values())
    assert set(read_json(tmp_path / "out" / "sources.json")) == {"a", "z"}
    assert predict(photos / LATIN, tmp_path / "other").made == 0


BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut in the header": lambda content: content[:40],
    "cut in the pixels": lambda content: content[:-9000],
    "other bytes in the pixels": lambda content: content[:-9000] + b"\xff" * 9000,
}
TILES: dict[str, dict[str, Any]] = {
    "zlib": {"tile": (16, 16), "compression": "zlib"}, "strips": {"rowsperstrip": 4}, "tiles": {"tile": (32, 32)},
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # Pillow warns of a cut TIFF, too
@pytest.mark.parametrize(
    ("how", "form"),
    [(how, form) for how in BROKEN for form in TILES if form == "zlib" or "other" not in how],  # else all are colours
)
@pytest.mark.parametrize("whole", [100, 4_000_000])
def test_a_broken_tiff_is_one_photo_without_a_mask(
    how: str, form: str, whole: int, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In windows too, where the header and the first tile are whole."""
    monkeypatch.setattr(labeller, "WHOLE", whole)
    tifffile.imwrite(photos / "m.tif", colours(100, 90), photometric="rgb", **TILES[form])
    (photos / "m.tif").write_bytes(BROKEN[how]((photos / "m.tif").read_bytes()))
    outcome = predict(photos, tmp_path / "out")
    assert (outcome.made, list(reasons(outcome))) == (2, ["m.tif"])
    assert "m.tif" in reasons(outcome)["m.tif"]


KINDS: list[BaseException] = [
    struct.error("unpack"), ValueError(), KeyError("x"), IndexError("x"), MemoryError(), RuntimeError("codec"),
    zlib.error("x"), OverflowError("x"), ZeroDivisionError("x"), TypeError("x"), EOFError(), RecursionError("x"),
    NotImplementedError("x"), AttributeError("x"), tifffile.TiffFileError("x"), ImportError("x"), SystemError("x"),
]  # fmt: skip


@pytest.mark.parametrize("error", KINDS, ids=lambda error: type(error).__name__)
def test_whatever_a_codec_raises_names_the_photo(
    error: BaseException, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(labeller, "WHOLE", 100)
    tifffile.imwrite(photos / "m.tif", colours(40, 40), photometric="rgb", tile=(16, 16))
    photo = open_photo(photos / "m.tif")
    monkeypatch.setattr(tiff, "_decoded", fail)
    with pytest.raises(DataError, match=r"m.tif"):
        photo.window(0, 0, 40, 40)
    monkeypatch.setattr("tag2mask.segmentation.predict.photo_readers.open_tiff", fail)  # and where it is opened
    outcome = predict(photos, tmp_path / "out")
    assert (outcome.made, list(reasons(outcome))) == (2, ["m.tif"])
    whole = WholePhoto(photos / "a.png", (6, 8))
    monkeypatch.setattr("tag2mask.segmentation.predict.photo_readers.StoredImage.part", fail)
    with pytest.raises(DataError, match=r"a.png"):
        whole.window(0, 0, 1, 1)


@pytest.mark.parametrize(
    ("shape", "kind", "words", "text"),
    [
        (
            (20, 30, 5),
            np.uint8,
            {"photometric": "minisblack", "planarconfig": "contig"},
            "5 bands of 8 bits: expected 1 .grey., 3 .RGB. or 4",
        ),
        (
            (20, 30, 5),
            np.uint16,
            {"photometric": "minisblack", "planarconfig": "contig"},
            "5 bands of 16 bits: expected",
        ),
        ((5, 20, 30), np.uint8, {"photometric": "minisblack", "planarconfig": "separate"}, "5 bands of 8 bits"),
        ((20, 30, 3), np.float32, {"photometric": "rgb"}, "3 bands of 32 bits floating: expected"),
        ((20, 30, 3), np.int8, {"photometric": "rgb"}, "3 bands of 8 bits with sign: expected"),
        ((20, 30), np.uint64, {"photometric": "minisblack"}, "1 band of 64 bits: expected"),
        ((20, 30), np.float32, {"photometric": "minisblack"}, "floating-point values, whose range is not known"),
    ],
)
@pytest.mark.parametrize("bigtiff", [False, True])
def test_bands_that_no_photo_has_are_counted(
    shape: tuple[int, ...], kind: type, words: dict[str, Any], text: str, bigtiff: bool, photos: Path, tmp_path: Path
) -> None:
    tifffile.imwrite(photos / "m.tif", np.zeros(shape, kind), bigtiff=bigtiff, **words)
    outcome = predict(photos, tmp_path / "out")
    with pytest.raises(DataError, match=text) as caught:
        outcome.check()
    assert outcome.made == 2
    assert "opy it again" not in str(caught.value)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((20, 30, 5), {"photometric": "rgb", "extrasamples": [0, 0]}),
        ((20, 30, 4), {"photometric": "rgb", "extrasamples": ["assocalpha"]}),
        ((20, 30, 4), {"photometric": "separated"}),
        ((3, 20, 30), {"photometric": "rgb", "planarconfig": "separate"}),
        ((20, 30, 2), {"photometric": "minisblack", "extrasamples": ["unassalpha"]}),
    ],
)
def test_bands_beside_the_colours_are_read_past(
    shape: tuple[int, ...], words: dict[str, Any], photos: Path, tmp_path: Path
) -> None:
    tifffile.imwrite(photos / "m.tif", np.full(shape, 200, np.uint8), **words)
    assert predict(photos, tmp_path / "out").made == 3


def test_a_photo_in_lab_is_read(photos: Path) -> None:
    tifffile.imwrite(photos / "m.tif", np.full((20, 30, 3), (200, 0, 0), np.uint8), photometric="cielab")
    red, green, blue = open_photo(photos / "m.tif").window(0, 0, 1, 1)[0, 0].tolist()
    assert red == green == blue > 150


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


def test_a_folder_that_was_begun_and_no_more_is_gone_on_with(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".123-0.tmp").write_bytes(b"half")
    assert predict(photos, tmp_path / "out").made == 2
    assert not (tmp_path / "out" / ".123-0.tmp").exists()


@pytest.mark.parametrize("name", ["predictions.json", "sources.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b"\xff", b"[1]", b"null"])
def test_notes_of_the_folder_that_are_damaged_are_named_with_what_to_do(
    name: str, content: bytes, photos: Path, tmp_path: Path
) -> None:
    predict(photos, tmp_path / "out")
    (tmp_path / "out" / name).write_bytes(content)
    with pytest.raises(StageError, match=rf"{name}.*([Rr]emove it, or name another folder|Name a new folder)"):
        predict(photos, tmp_path / "out")


@pytest.mark.parametrize("value", [1, None, "\ud800", ["a"]])
def test_notes_of_photos_that_make_no_sense_are_named(value: object, photos: Path, tmp_path: Path) -> None:
    predict(photos, tmp_path / "out")
    (tmp_path / "out" / "sources.json").write_text(json.dumps({"a": value}))
    with pytest.raises(StageError, match=r"sources.json.*: remove it, or name another folder"):
        predict(photos, tmp_path / "out")


@pytest.mark.parametrize("value", ["\0", "n" * 5000, ""])
def test_notes_of_photos_that_cannot_be_are_of_photos_that_are_gone(value: str, photos: Path, tmp_path: Path) -> None:
    predict(photos, tmp_path / "out")
    (tmp_path / "out" / "sources.json").write_text(json.dumps({"a": value}))
    assert predict(photos, tmp_path / "out").skipped == 2
