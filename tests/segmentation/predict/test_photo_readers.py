"""Photos read in parts: whole files, TIFFs in windows, and what is broken."""

from __future__ import annotations

import builtins
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

from tag2mask.core.errors import DataError
from tag2mask.core.palette import own_bound
from tag2mask.data.images import read_image
from tag2mask.segmentation.predict import labeller
from tag2mask.segmentation.predict import photo_readers as tiff
from tag2mask.segmentation.predict.photo_readers import TiffPhoto, WholePhoto, open_photo
from tests.helpers.refused import refused
from tests.segmentation.predict_drawn import noise, predict, reasons, save


def test_the_size_is_upright_before_the_pixels_are_read(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / "turned.png", exif=exif)
    photo = open_photo(path)
    assert isinstance(photo, WholePhoto)
    assert photo.size == (8, 6)
    assert "image" not in vars(photo)  # not decoded yet
    upright = np.asarray(read_image(path))
    assert np.array_equal(photo.window(0, 0, 8, 6), upright)
    assert np.array_equal(photo.window(2, 1, 5, 6), upright[2:5, 1:6])


MODES: dict[str, Callable[[], Image.Image]] = {
    "RGB": lambda: Image.fromarray(noise(7, 9)),
    "RGBA": lambda: Image.fromarray(noise(7, 9, 4)),
    "LA": lambda: Image.fromarray(noise(7, 9, 4)).convert("LA"),
    "L": lambda: Image.fromarray(noise(7, 9)[..., 0]),
    "1": lambda: Image.fromarray(noise(7, 9)[..., 0] > 100),
    "I;16": lambda: Image.fromarray((np.arange(63).reshape(7, 9) * 1000).astype(np.uint16)),
    "P": lambda: Image.fromarray(noise(7, 9)).quantize(20),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_windows_of_a_stored_photo_are_those_of_the_upright_one(tmp_path: Path, mode: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.png"
    image = MODES[mode]()
    assert image.mode == mode
    words: dict[str, Any] = {"transparency": 3} if mode == "P" else {}
    image.save(path, exif=exif, **words)
    photo, upright = open_photo(path), np.asarray(read_image(path))
    height, width = photo.size
    assert (height, width) == upright.shape[:2] == ((7, 9) if orientation < 5 else (9, 7))
    for top, left, bottom, right in ((0, 0, height, width), (1, 2, 4, 7), (height - 1, width - 2, height, width)):
        found = photo.window(top, left, bottom, right)
        assert found.dtype == np.uint8
        assert np.array_equal(found, upright[top:bottom, left:right])


def test_a_photo_is_held_once_as_its_file_has_it(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / "grey.png", noise(40, 60)[..., 0], exif=exif)
    photo = open_photo(path)
    assert isinstance(photo, WholePhoto)
    photo.window(0, 0, 60, 40)
    held = [value for value in vars(photo.image).values() if isinstance(value, Image.Image)]
    assert [(image.mode, image.size) for image in held] == [("L", (60, 40))]  # one channel, not turned


def test_more_pixels_than_allowed_are_refused_before_decoding(tmp_path: Path) -> None:
    path = save(tmp_path / "large.png", noise(10, 20))
    with refused(DataError, "large.png is 20 x 10", "200 pixels", "the 199 allowed", "--max-pixels 200"):
        open_photo(path, 199)
    assert open_photo(path, 200).size == (10, 20)


def test_pillows_own_bound_is_lifted_inside_and_back_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    path = save(tmp_path / "large.png", noise(10, 20))
    with own_bound(), own_bound():
        assert open_photo(path).window(0, 0, 10, 20).shape == (10, 20, 3)
        assert Image.MAX_IMAGE_PIXELS is None
    assert Image.MAX_IMAGE_PIXELS == 10
    with pytest.raises(DataError, match="decompression bomb"):
        open_photo(path)


@pytest.mark.parametrize(("content", "text"), [(b"", "is empty"), (b"no photo", "no image that can be read")])
def test_a_broken_header_is_named(tmp_path: Path, content: bytes, text: str) -> None:
    path = tmp_path / "broken.jpg"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"broken.jpg.* {text}"):
        open_photo(path)


WINDOWS = [(0, 0, 70, 90), (0, 0, 1, 1), (69, 89, 70, 90), (13, 30, 50, 61), (16, 32, 32, 48)]


FORMS: dict[str, Callable[[], tuple[NDArray[Any], dict[str, Any]]]] = {
    "tiles": lambda: (noise(70, 90), {"tile": (16, 32), "photometric": "rgb"}),
    "deflate": lambda: (noise(70, 90), {"tile": (16, 16), "photometric": "rgb", "compression": "zlib"}),
    "strips": lambda: (noise(70, 90), {"rowsperstrip": 7, "photometric": "rgb"}),
    "grey": lambda: (noise(70, 90)[..., 0], {"tile": (16, 16), "photometric": "minisblack"}),
    "grey16": lambda: (
        (np.arange(70 * 90).reshape(70, 90) * 10).astype(np.uint16),
        {"tile": (16, 16), "photometric": "minisblack"},
    ),
    "lzw": lambda: (noise(70, 90), {"tile": (16, 32), "photometric": "rgb", "compression": "lzw", "predictor": 2}),
    "zstd": lambda: (noise(70, 90), {"tile": (16, 32), "photometric": "rgb", "compression": "zstd"}),
    "jpeg": lambda: (noise(70, 90), {"tile": (32, 32), "photometric": "rgb", "compression": "jpeg"}),
    "jpeg, colours at half the size": lambda: (
        noise(70, 90),
        {
            "tile": (32, 32),
            "photometric": "ycbcr",
            "compression": "jpeg",
            "subsampling": (2, 2),
            "compressionargs": {"level": 60, "subsampling": "420"},
        },
    ),
    "jpeg, grey": lambda: (
        noise(70, 90)[..., 0],
        {"tile": (32, 32), "photometric": "minisblack", "compression": "jpeg"},
    ),
    "alpha": lambda: (
        noise(70, 90, 4),
        {"tile": (16, 16), "photometric": "rgb", "extrasamples": ["unassalpha"]},
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_windows_of_a_tiff_are_those_of_the_whole_as_pillow_reads_it(tmp_path: Path, form: str) -> None:
    image, words = FORMS[form]()
    path = tmp_path / "map.tif"
    tifffile.imwrite(path, image, **words)
    photo = open_photo(path)
    assert isinstance(photo, TiffPhoto)
    assert photo.size == (70, 90)
    whole = np.asarray(read_image(path))
    for top, left, bottom, right in WINDOWS:
        found = photo.window(top, left, bottom, right)
        assert found.dtype == np.uint8
        assert np.array_equal(found, whole[top:bottom, left:right])


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_windows_of_a_jpeg_tiff_whose_tables_stand_apart(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "map.tif"
    Image.fromarray(noise(70, 90)).convert(mode).save(path, compression="jpeg", quality=70)
    with tifffile.TiffFile(path) as file:
        assert file.pages.first.jpegtables
    photo = open_photo(path)
    assert isinstance(photo, TiffPhoto)
    whole = np.asarray(read_image(path))
    for top, left, bottom, right in WINDOWS:
        assert np.array_equal(photo.window(top, left, bottom, right), whole[top:bottom, left:right])


def test_a_compression_without_its_decoder_is_left_to_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "map.tif"
    tifffile.imwrite(path, noise(64, 64), tile=(16, 16), photometric="rgb", compression="lzw")
    assert isinstance(open_photo(path), TiffPhoto)

    def missing(page: Any, number: int) -> NDArray[Any]:
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    monkeypatch.setattr(tiff, "_decoded", missing)
    assert np.array_equal(open_photo(path).window(0, 0, 64, 64), noise(64, 64))


def test_a_window_decodes_only_the_tiles_it_touches_and_each_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "map.tif"
    tifffile.imwrite(path, noise(64, 64), tile=(16, 16), photometric="rgb")
    photo = open_photo(path)
    decoded: list[int] = []
    original = tiff._decoded

    def counted(page: Any, number: int) -> NDArray[Any]:
        decoded.append(number)
        return original(page, number)

    monkeypatch.setattr(tiff, "_decoded", counted)
    photo.window(0, 0, 16, 17)
    assert decoded == [0, 1]
    photo.window(0, 16, 17, 32)
    assert decoded == [0, 1, 5]
    monkeypatch.setattr(tiff, "_KEPT", 2 * 16 * 16 * 3)
    photo.window(48, 48, 64, 64)  # keeps 15 and, of the others, the one used last
    photo.window(16, 16, 32, 32)
    assert decoded == [0, 1, 5, 15]
    photo.window(0, 0, 16, 16)
    assert decoded == [0, 1, 5, 15, 0]


@pytest.mark.parametrize(
    "words",
    [
        {"photometric": "rgb", "planarconfig": "separate"},
        {"photometric": "rgb", "tile": (16, 16), "extratags": [(274, "H", 1, 6, True)]},
        {"photometric": "minisblack", "tile": (16, 16), "dtype": "float"},
    ],
)
def test_tiffs_of_other_forms_are_left_to_pillow(tmp_path: Path, words: dict[str, Any]) -> None:
    image: NDArray[Any] = noise(20, 30)
    if words.pop("dtype", None):
        image = image[..., 0].astype(np.float32)
    elif words.get("planarconfig"):
        image = np.ascontiguousarray(image.transpose(2, 0, 1))
    path = tmp_path / "map.tif"
    tifffile.imwrite(path, image, **words)
    assert isinstance(open_photo(path), WholePhoto)
    assert tiff.open_tiff(path) is None


def test_without_tifffile_a_tiff_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "map.tif"
    tifffile.imwrite(path, noise(64, 64), tile=(16, 16), photometric="rgb")
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "tifffile":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr("tag2mask.segmentation.predict.photo_readers.util.find_spec", lambda name: None)
    photo = open_photo(path)
    assert isinstance(photo, WholePhoto)
    assert np.array_equal(photo.window(0, 0, 64, 64), noise(64, 64))


def test_a_tiff_that_is_cut_off_is_named(tmp_path: Path) -> None:
    path = tmp_path / "map.tif"
    tifffile.imwrite(path, noise(64, 64), tile=(16, 16), photometric="rgb")
    photo = open_photo(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) - 1000])
    with refused(DataError, "cannot read", "map.tif", "cut off"):
        photo.window(0, 0, 64, 64)


def test_a_tiff_has_the_same_bound_of_pixels(tmp_path: Path) -> None:
    path = tmp_path / "map.tif"
    tifffile.imwrite(path, noise(64, 64), tile=(16, 16), photometric="rgb")
    with refused(DataError, "64 x 64, 4096 pixels", "the 4095 allowed"):
        open_photo(path, 4095)


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
    tifffile.imwrite(photos / "m.tif", noise(100, 90), photometric="rgb", **TILES[form])
    (photos / "m.tif").write_bytes(BROKEN[how]((photos / "m.tif").read_bytes()))
    outcome = predict(photos, tmp_path / "out")
    assert (outcome.made, list(reasons(outcome))) == (3, ["m.tif"])
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
    tifffile.imwrite(photos / "m.tif", noise(40, 40), photometric="rgb", tile=(16, 16))
    photo = open_photo(photos / "m.tif")
    monkeypatch.setattr(tiff, "_decoded", fail)
    with pytest.raises(DataError, match=r"m.tif"):
        photo.window(0, 0, 40, 40)
    monkeypatch.setattr("tag2mask.segmentation.predict.photo_readers.open_tiff", fail)  # and where it is opened
    outcome = predict(photos, tmp_path / "out")
    assert (outcome.made, list(reasons(outcome))) == (3, ["m.tif"])
    whole = WholePhoto(photos / "a.png", (5, 7))
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
            "5 bands of 8 bits … 1 (grey), 3 (RGB) or 4",
        ),
        (
            (20, 30, 5),
            np.uint16,
            {"photometric": "minisblack", "planarconfig": "contig"},
            "5 bands of 16 bits: expected",
        ),
        ((5, 20, 30), np.uint8, {"photometric": "minisblack", "planarconfig": "separate"}, "5 bands of 8 bits"),
        ((20, 30, 3), np.float32, {"photometric": "rgb"}, "3 bands of 32 bits floating: expected"),
        ((20, 30, 3), np.int8, {"photometric": "rgb"}, "3 bands of 8 bits with sign … expected"),
        ((20, 30), np.uint64, {"photometric": "minisblack"}, "1 band of 64 bits: expected"),
        ((20, 30), np.float32, {"photometric": "minisblack"}, "floating-point values … not known"),
    ],
)
@pytest.mark.parametrize("bigtiff", [False, True])
def test_bands_that_no_photo_has_are_counted(
    shape: tuple[int, ...], kind: type, words: dict[str, Any], text: str, bigtiff: bool, photos: Path, tmp_path: Path
) -> None:
    tifffile.imwrite(photos / "m.tif", np.zeros(shape, kind), bigtiff=bigtiff, **words)
    outcome = predict(photos, tmp_path / "out")
    with refused(DataError, text) as caught:
        outcome.check()
    assert outcome.made == 3
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
    assert predict(photos, tmp_path / "out").made == 4


def test_a_photo_in_lab_is_read(photos: Path) -> None:
    tifffile.imwrite(photos / "m.tif", np.full((20, 30, 3), (200, 0, 0), np.uint8), photometric="cielab")
    red, green, blue = open_photo(photos / "m.tif").window(0, 0, 1, 1)[0, 0].tolist()
    assert red == green == blue > 150
