from __future__ import annotations

import builtins
import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from tag2mask.core.errors import DataError
from tag2mask.core.palette import own_bound
from tag2mask.data.images import read_image
from tag2mask.segmentation.predict import photo_readers as tiff
from tag2mask.segmentation.predict.find_photos import find_sources
from tag2mask.segmentation.predict.photo_readers import TiffPhoto, WholePhoto, open_photo


def colours(height: int, width: int, channels: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, (height, width, channels), dtype=np.uint8)


def save(path: Path, image: NDArray[np.uint8] | None = None, **words: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(colours(6, 8) if image is None else image).save(path, **words)
    return path


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
    assert found[2].problem == f"{tmp_path / 'phone.heic'} is of a format that is not read: convert it to JPEG or PNG"
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
def test_an_input_that_is_the_output_is_told_from_an_empty_one(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "few" / "a.png")
    save(tmp_path / "few" / "sub" / "b.png")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"few.* lies in --out few, and what lies there is no input: choose another"):
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
    with pytest.raises(DataError, match="a.png cannot be looked at: Permission denied. Allow it"):
        names([tmp_path / "a.png"], tmp_path / "out")


def test_the_home_of_nobody_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"~nobody-here/x.jpg: there is no home folder of that name"):
        names(["~nobody-here/x.jpg"], tmp_path / "out")


def test_a_file_named_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    path = save(tmp_path / "photo[1].png")
    assert [s.path for s in find_sources([path], tmp_path / "out")] == [path]


@pytest.mark.parametrize(("one", "two"), [("a.jpg", "a.png"), ("A.png", "a.png"), ("s/a.jpg", "s/a.bmp")])
def test_two_photos_for_one_mask_are_refused(tmp_path: Path, one: str, two: str) -> None:
    save(tmp_path / one)
    save(tmp_path / two)
    with pytest.raises(DataError, match=r"(?i)a\.\w+ and .*a\.\w+ would both get the mask .*: rename one"):
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
    "RGB": lambda: Image.fromarray(colours(7, 9)),
    "RGBA": lambda: Image.fromarray(colours(7, 9, 4)),
    "LA": lambda: Image.fromarray(colours(7, 9, 4)).convert("LA"),
    "L": lambda: Image.fromarray(colours(7, 9)[..., 0]),
    "1": lambda: Image.fromarray(colours(7, 9)[..., 0] > 100),
    "I;16": lambda: Image.fromarray((np.arange(63).reshape(7, 9) * 1000).astype(np.uint16)),
    "P": lambda: Image.fromarray(colours(7, 9)).quantize(20),
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
    path = save(tmp_path / "grey.png", colours(40, 60)[..., 0], exif=exif)
    photo = open_photo(path)
    assert isinstance(photo, WholePhoto)
    photo.window(0, 0, 60, 40)
    held = [value for value in vars(photo.image).values() if isinstance(value, Image.Image)]
    assert [(image.mode, image.size) for image in held] == [("L", (60, 40))]  # one channel, not turned


def test_more_pixels_than_allowed_are_refused_before_decoding(tmp_path: Path) -> None:
    path = save(tmp_path / "large.png", colours(10, 20))
    with pytest.raises(DataError, match=r"large.png is 20 x 10, 200 pixels, more than the 199 .* --max-pixels 200$"):
        open_photo(path, 199)
    assert open_photo(path, 200).size == (10, 20)


def test_pillows_own_bound_is_lifted_inside_and_back_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    path = save(tmp_path / "large.png", colours(10, 20))
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
    "tiles": lambda: (colours(70, 90), {"tile": (16, 32), "photometric": "rgb"}),
    "deflate": lambda: (colours(70, 90), {"tile": (16, 16), "photometric": "rgb", "compression": "zlib"}),
    "strips": lambda: (colours(70, 90), {"rowsperstrip": 7, "photometric": "rgb"}),
    "grey": lambda: (colours(70, 90)[..., 0], {"tile": (16, 16), "photometric": "minisblack"}),
    "grey16": lambda: (
        (np.arange(70 * 90).reshape(70, 90) * 10).astype(np.uint16),
        {"tile": (16, 16), "photometric": "minisblack"},
    ),
    "lzw": lambda: (colours(70, 90), {"tile": (16, 32), "photometric": "rgb", "compression": "lzw", "predictor": 2}),
    "zstd": lambda: (colours(70, 90), {"tile": (16, 32), "photometric": "rgb", "compression": "zstd"}),
    "jpeg": lambda: (colours(70, 90), {"tile": (32, 32), "photometric": "rgb", "compression": "jpeg"}),
    "jpeg, colours at half the size": lambda: (
        colours(70, 90),
        {
            "tile": (32, 32),
            "photometric": "ycbcr",
            "compression": "jpeg",
            "subsampling": (2, 2),
            "compressionargs": {"level": 60, "subsampling": "420"},
        },
    ),
    "jpeg, grey": lambda: (
        colours(70, 90)[..., 0],
        {"tile": (32, 32), "photometric": "minisblack", "compression": "jpeg"},
    ),
    "alpha": lambda: (
        colours(70, 90, 4),
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
    Image.fromarray(colours(70, 90)).convert(mode).save(path, compression="jpeg", quality=70)
    with tifffile.TiffFile(path) as file:
        assert file.pages.first.jpegtables
    photo = open_photo(path)
    assert isinstance(photo, TiffPhoto)
    whole = np.asarray(read_image(path))
    for top, left, bottom, right in WINDOWS:
        assert np.array_equal(photo.window(top, left, bottom, right), whole[top:bottom, left:right])


def test_a_compression_without_its_decoder_is_left_to_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "map.tif"
    tifffile.imwrite(path, colours(64, 64), tile=(16, 16), photometric="rgb", compression="lzw")
    assert isinstance(open_photo(path), TiffPhoto)

    def missing(page: Any, number: int) -> NDArray[Any]:
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    monkeypatch.setattr(tiff, "_decoded", missing)
    assert np.array_equal(open_photo(path).window(0, 0, 64, 64), colours(64, 64))


def test_a_window_decodes_only_the_tiles_it_touches_and_each_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "map.tif"
    tifffile.imwrite(path, colours(64, 64), tile=(16, 16), photometric="rgb")
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
    image: NDArray[Any] = colours(20, 30)
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
    tifffile.imwrite(path, colours(64, 64), tile=(16, 16), photometric="rgb")
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "tifffile":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr("tag2mask.segmentation.predict.photo_readers.util.find_spec", lambda name: None)
    photo = open_photo(path)
    assert isinstance(photo, WholePhoto)
    assert np.array_equal(photo.window(0, 0, 64, 64), colours(64, 64))


def test_a_tiff_that_is_cut_off_is_named(tmp_path: Path) -> None:
    path = tmp_path / "map.tif"
    tifffile.imwrite(path, colours(64, 64), tile=(16, 16), photometric="rgb")
    photo = open_photo(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) - 1000])
    with pytest.raises(DataError, match="cannot read .*map.tif: the file is cut off"):
        photo.window(0, 0, 64, 64)


def test_a_tiff_has_the_same_bound_of_pixels(tmp_path: Path) -> None:
    path = tmp_path / "map.tif"
    tifffile.imwrite(path, colours(64, 64), tile=(16, 16), photometric="rgb")
    with pytest.raises(DataError, match="64 x 64, 4096 pixels, more than the 4095 allowed"):
        open_photo(path, 4095)
