"""Image and mask files of every kind that people have."""

import io
import os
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from tag2mask.core.errors import DataError
from tag2mask.data.images import StoredImage, read_image, to_rgb, upright_size
from tag2mask.data.mask_files import align_labels, read_labels
from tests.helpers.refused import refused

GREY = (np.arange(15 * 17) % 251).astype(np.uint8).reshape(15, 17)
RGB = np.stack([GREY, 250 - GREY, GREY // 2], axis=2)
LABELS = (np.arange(6 * 9).reshape(6, 9) // 18).astype(np.uint8)  # 0, 1, 2 in bands; not symmetric


def pixels(path: Path) -> NDArray[np.int64]:
    image = read_image(path)
    assert image.mode == "RGB"
    return np.asarray(image).astype(np.int64)


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.ppm", "a.PNG"])
def test_rgb_files_come_back_bit_for_bit(tmp_path: Path, name: str) -> None:
    Image.fromarray(RGB).save(tmp_path / name)
    assert np.array_equal(pixels(tmp_path / name), RGB)


def test_opaque_rgb_is_not_copied_and_outlives_its_file(tmp_path: Path) -> None:
    values = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    image = Image.fromarray(values)
    assert to_rgb(image, tmp_path) is image
    image.save(tmp_path / "a.png")
    read = read_image(tmp_path / "a.png")
    (tmp_path / "a.png").unlink()
    np.testing.assert_array_equal(np.asarray(read.crop((1, 1, 4, 3))), values[1:3, 1:4])


def test_grey_becomes_three_equal_channels(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "g.png")
    assert np.array_equal(pixels(tmp_path / "g.png"), np.stack([GREY] * 3, axis=2))


def test_bilevel_is_black_and_white(tmp_path: Path) -> None:
    Image.fromarray(GREY > 100).save(tmp_path / "b.png")
    assert np.array_equal(pixels(tmp_path / "b.png")[..., 1], (GREY > 100) * 255)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_shows_white(tmp_path: Path, mode: str) -> None:
    image = Image.new(mode, (4, 2), (30,) * (len(mode) - 1) + (255,))
    image.putpixel((1, 0), (30,) * (len(mode) - 1) + (0,))
    image.putpixel((2, 0), (30,) * (len(mode) - 1) + (51,))
    image.save(tmp_path / "t.png")
    assert pixels(tmp_path / "t.png")[0, :3, 0].tolist() == [30, 255, round(255 * 0.8 + 30 * 0.2)]


def test_a_transparent_palette_colour_shows_white(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "p.png", transparency=0)
    assert pixels(tmp_path / "p.png").tolist() == [[[255, 255, 255], [40, 50, 60]]]


@pytest.mark.parametrize("name", ["d.png", "d.tif", "d.pgm"])
def test_16_bit_grey_is_scaled_and_not_clipped(tmp_path: Path, name: str) -> None:
    values = np.array([[0, 128, 129, 257, 32768, 65406, 65407, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / name)
    assert (
        pixels(tmp_path / name)[0, :, 0].tolist()
        == np.rint(values[0] / 257).tolist()
        == [0, 0, 1, 1, 128, 254, 255, 255]
    )


def test_big_endian_16_bit_grey_is_scaled_too(tmp_path: Path) -> None:
    Image.frombytes("I;16B", (2, 1), bytes([0x80, 0x00, 0xFF, 0xFF])).save(tmp_path / "m.tif")
    assert pixels(tmp_path / "m.tif")[0, :, 0].tolist() == [128, 255]


def test_32_bit_and_floating_point_images_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.array([[70000, -1]], dtype=np.int32)).save(tmp_path / "i.tif")
    Image.fromarray(np.array([[0.5, 1e9]], dtype=np.float32)).save(tmp_path / "f.tif")
    with refused(DataError, "i.tif", "-1..70000", "expected 0..65535", "Store it with 8 bits"):
        read_image(tmp_path / "i.tif")
    with refused(DataError, "f.tif", "floating-point values", "not known"):
        read_image(tmp_path / "f.tif")


def test_cmyk_is_converted(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "c.jpg", quality=100)
    assert np.abs(pixels(tmp_path / "c.jpg") - [255, 0, 0]).max() <= 3


def test_of_an_animation_the_first_frame_is_taken(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (3, 2), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert np.abs(pixels(tmp_path / "a.gif") - [255, 0, 0]).max() == 0


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["r.png", "r.tif", "r.webp", "r.jpg"])
def test_exif_rotation_is_applied_as_pillow_does_it(tmp_path: Path, name: str, orientation: int) -> None:
    extra = {"lossless": True} if name.endswith("webp") else {}
    Image.fromarray(RGB).save(tmp_path / name, exif=exif(orientation), **extra)  # type: ignore[arg-type]
    reference = ImageOps.exif_transpose(Image.open(tmp_path / name)).convert("RGB")
    assert np.array_equal(pixels(tmp_path / name), np.asarray(reference))
    assert pixels(tmp_path / name).shape[:2] == ((15, 17) if orientation < 5 else (17, 15))


@pytest.mark.parametrize("orientation", [3, 6, 8])
@pytest.mark.parametrize("name", ["photo.png", "photo.tif"])
def test_a_mask_of_stored_or_upright_size_ends_upright(tmp_path: Path, orientation: int, name: str) -> None:
    path = tmp_path / name
    Image.fromarray(LABELS).convert("RGB").save(path, exif=exif(orientation))
    upright = np.rot90(LABELS, {3: 2, 6: -1, 8: 1}[orientation])
    assert np.array_equal(pixels(path)[..., 0], upright)
    assert np.array_equal(align_labels(upright, path, "mask"), upright)
    if orientation != 3:  # a half turn keeps the size, so the mask counts as upright
        assert np.array_equal(align_labels(LABELS, path, "mask"), upright)


def test_a_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "i.png")
    with refused(DataError, "m.png is 9 x 6 pixels", "i.png is 17 x 15", "doctor"):
        align_labels(LABELS, tmp_path / "i.png", "mask m.png")


def test_masks_in_index_grey_and_16_bit_modes_hold_the_labels(tmp_path: Path) -> None:
    labels = LABELS.copy()
    labels[0, 0] = 255
    index = Image.fromarray(labels, mode="P")
    index.putpalette([(7 * i) % 256 for i in range(768)])
    index.save(tmp_path / "p.png")
    Image.fromarray(labels).save(tmp_path / "l.png")
    Image.fromarray(labels.astype(np.uint16)).save(tmp_path / "w.png")
    Image.fromarray(labels.astype(np.int32)).save(tmp_path / "i.tif")
    Image.merge("LA", [Image.fromarray(labels), Image.new("L", (9, 6), 255)]).save(tmp_path / "la.png")
    for name in ("p.png", "l.png", "w.png", "i.tif", "la.png"):
        found = read_labels(tmp_path / name)
        assert found.dtype == np.uint8
        assert np.array_equal(found, labels), name


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_indexed_masks_of_few_bits_hold_the_labels(tmp_path: Path, bits: int) -> None:
    labels = LABELS % 2**bits
    image = Image.fromarray(labels, mode="P")
    image.putpalette([9, 9, 9, 200, 0, 0, 0, 0, 200])
    image.save(tmp_path / "p.png", bits=bits)
    assert np.array_equal(read_labels(tmp_path / "p.png"), labels)


def test_one_bit_masks_hold_0_and_1(tmp_path: Path) -> None:
    Image.fromarray(LABELS > 0).save(tmp_path / "b.png")
    assert np.array_equal(read_labels(tmp_path / "b.png"), LABELS > 0)


@pytest.mark.parametrize(("bits", "row"), [(2, [0, 1, 2, 3]), (4, [0, 1, 9, 15])])
def test_grey_masks_of_2_and_4_bits_are_not_stretched(tmp_path: Path, bits: int, row: list[int]) -> None:
    packed = sum(v << bits * (3 - i) for i, v in enumerate(row)).to_bytes(bits // 2, "big")
    (tmp_path / "g.png").write_bytes(grey_png(bits, 4, packed))
    assert read_labels(tmp_path / "g.png").tolist() == [row]


def grey_png(bits: int, width: int, row: bytes) -> bytes:
    """A grey PNG of one row, packed by hand (Pillow writes no such files)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, 1, bits, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def test_masks_in_colour_are_looked_up(tmp_path: Path) -> None:
    palette = {(0, 0, 0): 0, (255, 0, 0): 1, (0, 0, 255): 2, (224, 224, 192): 255}
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255]], dtype=np.uint8)[LABELS]
    colours[5, 8] = (224, 224, 192)
    expected = LABELS.copy()
    expected[5, 8] = 255
    Image.fromarray(colours).save(tmp_path / "c.png")
    Image.fromarray(colours).convert("RGBA").save(tmp_path / "a.png")
    assert np.array_equal(read_labels(tmp_path / "c.png", palette), expected)
    assert np.array_equal(read_labels(tmp_path / "a.png", palette), expected)
    with refused(DataError, "c.png", "17 pixels", "[0, 0, 255]", "data.palette", "Known:", "[255, 0, 0]"):
        read_labels(tmp_path / "c.png", {c: i for c, i in palette.items() if i != 2})
    with pytest.raises(DataError, match=r"c\.png is stored in colour: set data\.palette"):
        read_labels(tmp_path / "c.png")


def test_a_masks_own_exif_rotation_is_applied(tmp_path: Path) -> None:
    Image.fromarray(LABELS).save(tmp_path / "m.png", exif=exif(6))
    assert np.array_equal(read_labels(tmp_path / "m.png"), np.rot90(LABELS, -1))


def test_masks_that_hold_no_labels_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.array([[3, 300]], dtype=np.uint16)).save(tmp_path / "w.png")
    Image.fromarray(np.array([[0.0, 1.0]], dtype=np.float32)).save(tmp_path / "f.tif")
    Image.new("RGBA", (2, 2), (0, 0, 0, 128)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"w\.png holds index 300: expected 0\.\.255"):
        read_labels(tmp_path / "w.png")
    with refused(DataError, "f.tif", "mode F", "expected P, L"):
        read_labels(tmp_path / "f.tif")
    with pytest.raises(DataError, match=r"a\.png is partly transparent"):
        read_labels(tmp_path / "a.png", {(0, 0, 0): 0})


@pytest.mark.parametrize("shape", [(1, 40), (40, 1), (1, 1)])
def test_images_and_masks_one_pixel_wide_work(tmp_path: Path, shape: tuple[int, int]) -> None:
    labels = np.ones(shape, dtype=np.uint8)
    Image.fromarray(labels).save(tmp_path / "m.png")
    Image.fromarray(np.stack([labels] * 3, axis=2)).save(tmp_path / "i.jpg", quality=100)
    assert pixels(tmp_path / "i.jpg").shape == (*shape, 3)
    assert np.array_equal(align_labels(read_labels(tmp_path / "m.png"), tmp_path / "i.jpg", "mask"), labels)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow warns of a cut TIFF, too
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"])
def test_a_file_cut_anywhere_is_a_data_error_or_whole(tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 255, (24, 24, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    image.save(buffer, format=kind)
    whole = buffer.getvalue()
    path = tmp_path / "cut.img"
    path.write_bytes(whole)
    reference = pixels(path)
    failed = 0
    for length in range(1, len(whole), max(1, len(whole) // 60)):
        path.write_bytes(whole[:length])
        text = _error_of(path)
        if text:
            assert re.match(r"(cannot read )?\S*cut\.img.*tag2mask doctor", text)
            failed += 1
        else:
            assert np.array_equal(pixels(path), reference)  # only trailing bytes were lost
    assert failed >= 40


def _error_of(path: Path) -> str:
    try:
        read_image(path)
    except DataError as error:
        return str(error)
    return ""


def test_what_is_no_image_names_the_file_and_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "zero.jpg").touch()
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "folder.jpg").mkdir()
    with refused(DataError, "zero.jpg", "empty (0 bytes)", "copy it again", "tag2mask doctor"):
        read_image(tmp_path / "zero.jpg")
    with refused(DataError, "text.jpg", "no image", "tag2mask doctor"):
        read_image(tmp_path / "text.jpg")
    with pytest.raises(DataError, match=r"cannot read .*folder\.jpg"):
        read_image(tmp_path / "folder.jpg")
    with pytest.raises(DataError, match=r"gone\.jpg does not exist"):
        read_image(tmp_path / "gone.jpg")
    with refused(DataError, "text.jpg", "no image"):
        read_labels(tmp_path / "text.jpg")


@pytest.mark.parametrize("kind", ["EPS", "TGA", "JPEG2000", "ICO", "PCX", "PDF"])
@pytest.mark.parametrize("name", ["p.jpg", "p.png"])
def test_a_format_that_is_not_listed_is_not_read_whatever_its_ending(tmp_path: Path, kind: str, name: str) -> None:
    """Pillow alone would start Ghostscript for an EPS, however it is named."""
    path = tmp_path / name
    Image.new("RGB", (32, 32)).save(path, format=kind)
    for reading in (read_image, read_labels, upright_size, StoredImage):
        with refused(DataError, name, "no image", "JPEG, PNG, BMP"):
            reading(path)


@pytest.mark.parametrize("kind", ["JPEG", "MPO", "PNG", "BMP", "TIFF", "WEBP", "GIF", "PPM"])
def test_the_listed_formats_are_read_whatever_the_ending(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "p.jpg"
    Image.new("RGB", (32, 16)).save(path, format=kind)
    assert read_image(path).size == (32, 16)


def test_a_folder_or_a_pipe_in_place_of_an_image_is_named_and_never_waited_for(tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()
    os.mkfifo(tmp_path / "b.png")
    for name, what in (("a.png", "a folder"), ("b.png", "a named pipe")):
        with refused(DataError, name, f"it is {what}", "expected an image file"):
            read_image(tmp_path / name)
        with refused(DataError, name, f"it is {what}", "expected an image file"):
            read_labels(tmp_path / name)


def test_whatever_a_decoder_raises_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "p.png"
    Image.new("RGB", (4, 4)).save(path)

    def fail(_: Path) -> Any:
        raise IndexError

    monkeypatch.setattr("tag2mask.data.images.open_image", fail)
    with pytest.raises(DataError, match=r"cannot read .*p\.png: IndexError\. Copy it again"):
        read_image(path)
