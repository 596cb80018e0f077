"""What the numbers in masks and photos mean: masks of 0 and 255, values that stand for others, few grey levels."""

import logging
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tag2mask.core.errors import ConfigError, DataError
from tag2mask.data.base import Dataset
from tag2mask.data.doctor.checks import Report, examine
from tag2mask.data.images import StoredImage, read_image
from tag2mask.data.mask_files import read_labels
from tag2mask.data.registry import data_settings, load_dataset
from tag2mask.pipeline.keys import ContentHashes
from tests.helpers.draw import draw_folder, draw_voc, save_image, write
from tests.helpers.refused import refused

BINARY = "the masks hold 0 and 255 only: if 255 is your object, write 1, or give 'data.mask_values={255: 1}'"


def things(root: Path, value: int = 255, dtype: Any = np.uint8, n: int = 3) -> Path:
    """A folder of photos of one class, whose masks hold 0 and a value."""
    rows = ["image,tags"]
    for number in range(n):
        mask = np.zeros((12, 16), dtype)
        mask[2:6, 3:9] = value
        save_image(root / f"images/{number}.png", np.full((12, 16, 3), 90, np.uint8))
        save_image(root / f"masks/{number}.png", mask)
        rows.append(f"{number}.png,thing")
    write(root / "tags.csv", "\n".join(rows) + "\n")
    return root


def doctor(root: Path, kind: str = "folder", split: str = "all", **settings: Any) -> Report:
    return examine(kind, data_settings(kind, {"root": root, **settings}), [split], quiet=True)


def texts(report: Report, kind: str) -> list[str]:
    return [f.text for f in report.findings if f.kind == kind and f.severity == "warning"]


def first_truth(dataset: Dataset) -> Any:
    truth = dataset.truth(dataset.samples[0])
    assert truth is not None
    return truth


def test_masks_of_0_and_255_are_named_and_the_setting_reads_them(tmp_path: Path) -> None:
    things(tmp_path)
    assert texts(doctor(tmp_path), "mask") == [BINARY]
    report = doctor(tmp_path, mask_values={255: 1})
    assert not texts(report, "mask")
    assert not texts(report, "tags")
    truth = first_truth(load_dataset("folder", tmp_path, "all", mask_values={255: 1}))
    assert np.array_equal(truth, np.pad(np.ones((4, 6)), ((2, 6), (3, 7))))


def test_the_warning_is_of_masks_without_any_class_alone(tmp_path: Path) -> None:
    things(tmp_path)
    save_image(tmp_path / "masks/0.png", np.full((12, 16), 1, np.uint8))
    assert not texts(doctor(tmp_path), "mask")
    things(tmp_path / "bare", value=0)
    assert texts(doctor(tmp_path / "bare"), "mask") == ["none of the 3 masks shows a class"]
    draw_folder(tmp_path / "drawn")
    assert not texts(doctor(tmp_path / "drawn"), "mask")
    whole = doctor(tmp_path / "drawn", classes=["stripe"])
    assert BINARY not in texts(whole, "mask")


@pytest.mark.parametrize(
    ("stored", "values", "expected"),
    [
        ([0, 255], {255: 1}, [0, 1]),
        ([0, 1, 2], {1: 2, 2: 1}, [0, 2, 1]),
        ([0, 1, 2], {0: 255}, [255, 1, 2]),
        ([0, 1], {0: 1, 1: 0}, [1, 0]),
        ([7, 2], {7: 255}, [255, 2]),
        ([0, 65535, 300], {65535: 1, 300: 2}, [0, 1, 2]),
        ([0, 1], None, [0, 1]),
    ],
)
def test_values_stand_for_labels_all_at_once(
    tmp_path: Path, stored: list[int], values: dict[int, int] | None, expected: list[int]
) -> None:
    path = tmp_path / "m.png"
    Image.fromarray(np.array([stored], np.uint16 if max(stored) > 255 else np.uint8)).save(path)
    assert read_labels(path, None, values)[0].tolist() == expected


def test_one_bit_masks_and_voc_take_the_setting_too(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1").save(tmp_path / "m.png")
    assert read_labels(tmp_path / "m.png", None, {1: 2}).tolist() == [[0, 2]]
    scenes = draw_voc(tmp_path, n=3, splits=("train",))
    plain, turned = (load_dataset("voc", tmp_path, mask_values=v) for v in (None, {1: 2, 2: 1}))
    for sample in plain.samples:
        labels = scenes[sample.id].labels
        truth, other = plain.truth(sample), turned.truth(sample)
        assert truth is not None
        assert other is not None
        assert np.array_equal(truth, labels)
        assert np.array_equal(other, np.array([0, 2, 1, 3])[labels])


def test_a_value_without_a_class_or_out_of_range_names_the_setting(tmp_path: Path) -> None:
    things(tmp_path)
    with pytest.raises(DataError, match=r"data\.mask_values: 255 is to be 2, expected 0 \(background\), 1\.\.1"):
        load_dataset("folder", tmp_path, "all", mask_values={255: 2})
    for wrong in ({255: 256}, {-1: 1}, {70000: 1}, {"a": 1}, [1], "255: 1"):
        with pytest.raises(ConfigError, match=r"data\.mask_values"):
            load_dataset("folder", tmp_path, "all", mask_values=wrong)
    things(tmp_path / "nine", value=9)
    with pytest.raises(DataError, match=r"holds index 9: expected 0.*'data\.mask_values=\{9: 1\}'"):
        first_truth(load_dataset("folder", tmp_path / "nine", "all"))
    things(tmp_path / "deep", value=65535, dtype=np.uint16)
    with pytest.raises(DataError, match=r"holds index 65535: expected 0\.\.255.*'data\.mask_values=\{65535: 1\}'"):
        first_truth(load_dataset("folder", tmp_path / "deep", "all"))
    assert first_truth(load_dataset("folder", tmp_path / "deep", "all", mask_values={65535: 1})).max() == 1


def test_what_looks_at_ground_truth_has_another_key_where_its_files_are_read_otherwise(tmp_path: Path) -> None:
    things(tmp_path, value=1)
    write(tmp_path / "classes.txt", "thing\nother\n")
    hashes = ContentHashes(tmp_path / "hashes.json")

    def key(**settings: Any) -> str:
        dataset = load_dataset("folder", tmp_path, "all", **settings)
        return hashes.truth(dataset, dataset.samples[0])

    assert key() == hashes.file(tmp_path / "masks/0.png"), "as in stores of before"
    assert key(max_side=32) == key()
    others: list[dict[str, Any]] = [
        {"mask_values": {1: 2}}, {"mask_values": {1: 0}}, {"palette": {"thing": [1, 2, 3]}}, {"classes": ["other"]},
        {"mask_values": {1: 2}, "max_side": 32, "classes": ["other"]},
    ]  # fmt: skip
    assert len({key(), *(key(**settings) for settings in others)}) == len(others) + 1
    reordered = key(all_classes=["other", "thing"], classes=["thing"])
    assert reordered != key(all_classes=["thing", "other"], classes=["thing"])


def grey(path: Path, highest: int, dtype: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.linspace(0, highest, 12 * 16).reshape(12, 16).astype(dtype)).save(path)
    return path


@pytest.mark.parametrize(
    ("ending", "dtype", "highest", "levels"),
    [
        ("png", np.uint16, 1023, 5), ("png", np.uint16, 4095, 17), ("tif", np.uint16, 4095, 17),
        ("tif", np.int32, 255, 2), ("tif", np.int32, 4095, 17), ("tif", np.uint32, 1023, 5),
    ],
)  # fmt: skip
def test_photos_that_use_few_grey_levels_are_named_with_their_count(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, ending: str, dtype: Any, highest: int, levels: int
) -> None:
    for number in range(3):
        grey(tmp_path / f"images/{number}.{ending}", highest if number else 60_000, dtype)
    write(tmp_path / "tags.csv", "image,tags\n" + "".join(f"{i},thing\n" for i in range(3)))
    (text,) = texts(doctor(tmp_path), "image")
    assert text.startswith("2 of 3 photos of 16 bits or more are nearly black: '2' holds values of up to")
    assert f"up to {highest}, which read as 0..65535 leave {levels} of 256 grey levels" in text
    assert len(np.unique(np.asarray(read_image(tmp_path / f"images/2.{ending}")))) <= levels
    StoredImage(tmp_path / f"images/0.{ending}")
    assert not caplog.records
    StoredImage(tmp_path / f"images/2.{ending}")
    assert f"2.{ending} holds values of up to {highest}" in caplog.text


def png_of_16_bits(path: Path, values: Any, kind: int) -> Path:
    """Write (H, W, channels) uint16 as a PNG, which Pillow cannot: kind 2 is RGB, 6 RGBA."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    return path


@pytest.mark.parametrize("kind", [2, 6])
def test_colour_photos_of_12_bits_are_named_as_grey_ones_are(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: int
) -> None:
    """Pillow keeps the upper byte of each channel: of 12 bits, 16 levels."""
    draw_folder(tmp_path, n=3)
    values = np.linspace(0, 4095, 48 * 64 * 3).reshape(48, 64, 3)
    if kind == 6:
        values = np.concatenate([values, np.full((48, 64, 1), 65535)], axis=2)
    dim = png_of_16_bits(tmp_path / "images/photo 00.png", values, kind)
    (text,) = texts(doctor(tmp_path), "image")
    assert text.startswith("1 of 1 photos of 16 bits or more are nearly black: 'photo 00' holds values of up to 4095")
    StoredImage(dim)
    assert "photo 00.png holds values of up to 4095" in caplog.text
    png_of_16_bits(dim, values * 16, kind)
    assert not texts(doctor(tmp_path), "image")


def test_photos_of_8_bits_and_healthy_ones_of_16_are_not_named(tmp_path: Path) -> None:
    draw_folder(tmp_path)
    grey(tmp_path / "images/photo 00.png", 65535, np.uint16)
    assert not texts(doctor(tmp_path), "image")


def test_floating_point_photos_are_refused_with_their_range(tmp_path: Path) -> None:
    grey(tmp_path / "a.tif", 1, np.float32)
    with refused(DataError, "floating-point values", "here 0..1", "store it"):
        read_image(tmp_path / "a.tif")


def test_a_tiff_read_in_windows_is_named_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tifffile = pytest.importorskip("tifffile")
    from tag2mask.segmentation.predict.photo_readers import open_tiff

    values = np.zeros((256, 64), np.uint16)
    values[200:] = 4095
    for name, pixels in (("dim", values), ("bright", values * 16)):
        tifffile.imwrite(tmp_path / f"{name}.tif", pixels, tile=(16, 16))
        with caplog.at_level(logging.WARNING, logger="tag2mask"):
            assert open_tiff(tmp_path / f"{name}.tif") is not None
    (record,) = caplog.records
    assert "dim.tif holds values of up to 4095" in record.getMessage()


@pytest.mark.parametrize(("bits", "row"), [(4, b"\x01\x23\x01\x23"), (2, b"\x1b\x1b")])
def test_masks_of_few_bits_hold_the_labels_themselves_in_a_tiff_too(tmp_path: Path, bits: int, row: bytes) -> None:
    """Pillow stretches such values to 0..255, of PNG and TIFF alike."""
    tags = {256: 8, 257: 1, 258: bits, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: len(row)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    path = tmp_path / "mask.tif"
    path.write_bytes(b"II*\0" + struct.pack("<I", 8 + len(row)) + row + directory)
    assert read_labels(path).tolist() == [[0, 1, 2, 3, 0, 1, 2, 3]]
