"""Sidecars of a sample by role: found for every reader, read as grey values in the upright frame of their image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tag2mask.core.errors import DataError
from tag2mask.data.base import Dataset
from tag2mask.data.doctor.checks import examine
from tag2mask.data.registry import data_settings, load_dataset
from tag2mask.data.sidecars import read_sidecar
from tests.helpers.draw import draw_coco, draw_folder, draw_voc
from tests.helpers.refused import refused

DRAWERS: dict[str, Callable[[Path], object]] = {"voc": draw_voc, "coco": draw_coco, "folder": draw_folder}
HALF = np.linspace(0, 1, 20 * 30, dtype=np.float32).reshape(20, 30)


def one_image(root: Path, orientation: int = 1) -> None:
    """A folder with one image of 20 x 30, and a table of its tags."""
    (root / "images").mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(root / "images" / "a.jpg", exif=exif)
    (root / "tags.csv").write_text("image,tags\na.jpg,cat\n")
    (root / "maps").mkdir()


def opened(root: Path, **settings: object) -> Dataset:
    return load_dataset("folder", root, "all", sidecars={"saliency": "maps"}, **settings)


def values(root: Path, **settings: object) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    dataset = opened(root, **settings)
    return read_sidecar(dataset, dataset.samples[0], "saliency")


@pytest.mark.parametrize("kind", [*sorted(DRAWERS), "parts"])
def test_every_reader_finds_them_by_the_images_id(kind: str, tmp_path: Path) -> None:
    if kind == "parts":
        settings, root = {"images": 4, "size": 64}, None
    else:
        settings, root = {}, tmp_path / "data"
        DRAWERS[kind](root)
    plain = load_dataset(kind, root, "train", **settings)
    assert {len(s.sidecars) for s in plain.samples} == {0}
    folder = tmp_path / "maps"
    for sample in plain.samples[1:]:
        path = folder / f"{sample.id.replace('__', '/')}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full(plain.image(sample).size[::-1], 51, np.uint8)).save(path)
    dataset = load_dataset(kind, root, "train", **settings, sidecars={"saliency": folder})
    assert [s.id for s in dataset.samples] == [s.id for s in plain.samples]
    assert [list(s.sidecars) for s in dataset.samples] == [[], *[["saliency"]] * (len(plain) - 1)]
    found = read_sidecar(dataset, dataset.samples[1], "saliency")
    assert found.shape == plain.image(plain.samples[1]).size[::-1]
    assert np.unique(found).tolist() == [np.float32(0.2)]
    with refused(DataError, f"image '{plain.samples[0].id}'", "no sidecar 'saliency'", "maps"):
        read_sidecar(dataset, dataset.samples[0], "saliency")


@pytest.mark.parametrize(
    ("name", "write", "tolerance"),
    [
        ("a.png", lambda path: Image.fromarray(np.round(HALF * 255).astype(np.uint8)).save(path), 1 / 255),
        ("a.png", lambda path: Image.fromarray(np.round(HALF * 65535).astype(np.uint16)).save(path), 1 / 65535),
        ("a.tif", lambda path: Image.fromarray(HALF).save(path), 0),
        ("a.npy", lambda path: np.save(path, HALF), 0),
        ("a.npy", lambda path: np.save(path, np.round(HALF * 65535).astype(np.uint16)), 1 / 65535),
    ],
)
def test_numbers_of_every_kind_are_brought_to_0_to_1(
    tmp_path: Path, name: str, write: Callable[[Path], object], tolerance: float
) -> None:
    one_image(tmp_path)
    write(tmp_path / "maps" / name)
    found = values(tmp_path)
    assert found.dtype == np.float32
    assert (float(found.min()), float(found.max())) == (0, 1)
    np.testing.assert_allclose(found, HALF, atol=tolerance)


def test_one_bit_is_0_or_1(tmp_path: Path) -> None:
    one_image(tmp_path)
    Image.fromarray(HALF > 0.5).save(tmp_path / "maps" / "a.png")
    np.testing.assert_array_equal(values(tmp_path), HALF > 0.5)


@pytest.mark.parametrize("upright", [True, False])
def test_a_file_of_the_stored_size_is_turned_as_its_image_is(tmp_path: Path, upright: bool) -> None:
    one_image(tmp_path, orientation=6)
    np.save(tmp_path / "maps" / "a.npy", np.rot90(HALF, -1) if upright else HALF)
    np.testing.assert_array_equal(values(tmp_path), np.rot90(HALF, -1))


def test_it_is_shrunk_with_its_image(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    Image.fromarray(np.zeros((60, 128, 3), np.uint8)).save(tmp_path / "images" / "a.png")
    (tmp_path / "tags.csv").write_text("image,tags\na.png,cat\n")
    (tmp_path / "maps").mkdir()
    np.save(tmp_path / "maps" / "a.npy", np.tile(np.linspace(0, 1, 128, dtype=np.float32), (60, 1)))
    found = values(tmp_path, max_side=64)
    assert found.shape == (30, 64)
    np.testing.assert_allclose(found[0, 1:-1], (np.arange(1, 63) * 2 + 0.5) / 127, atol=1e-6)


def test_one_of_a_drawn_image_is_shrunk_with_it_too(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"images": 2, "size": 64, "sidecars": {"saliency": tmp_path}}
    for sample in (dataset := load_dataset("parts", **settings)).samples:
        np.save(tmp_path / f"{sample.id}.npy", np.full(dataset.image(sample).size[::-1], 0.25, np.float32))
    small = load_dataset("parts", **settings, max_side=32)
    found = [read_sidecar(small, sample, "saliency") for sample in small.samples]
    assert [one.shape for one in found] == [small.image(sample).size[::-1] for sample in small.samples]
    assert max(found[0].shape) == 32
    np.testing.assert_array_equal(found[0], 0.25)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        (
            "a.npy",
            HALF[:, :20],
            "a.npy is 20 x 20 pixels … a.jpg is 30 x 20 … size of its image",
        ),
        ("a.npy", HALF * 2, "a.npy has values 0.0..2.0: expected 0..1"),
        ("a.npy", HALF * np.nan, "a.npy has values nan..nan: expected 0..1"),
        ("a.npy", HALF[None], "a.npy holds float32 … shape (1, 20, 30) … expected numbers"),
        ("a.png", np.zeros((20, 30, 3), np.uint8), "a.png has mode RGB … expected grey … 1, 8 or 16 bits"),
    ],
)
def test_what_cannot_be_read_is_refused(
    tmp_path: Path, name: str, array: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], message: str
) -> None:
    one_image(tmp_path)
    path = tmp_path / "maps" / name
    if name.endswith("npy"):
        np.save(path, array)
    else:
        Image.fromarray(array).save(path)
    with refused(DataError, message):
        values(tmp_path)


def test_the_doctor_finds_one_of_another_size(tmp_path: Path) -> None:
    one_image(tmp_path)
    np.save(tmp_path / "maps" / "a.npy", HALF[:10])
    report = examine("folder", data_settings("folder", {"root": tmp_path, "sidecars": {"saliency": "maps"}}), ["all"])
    (found,) = [f for f in report.findings if f.kind == "sidecar"]
    assert (found.severity, found.ids) == ("error", ("a",))
    assert "a.npy is 30 x 10 pixels, its image" in found.text


def test_folders_that_do_not_do_are_refused(tmp_path: Path) -> None:
    one_image(tmp_path)
    np.save(tmp_path / "maps" / "a.npy", HALF)
    Image.fromarray(HALF > 0.5).save(tmp_path / "maps" / "a.png")
    with refused(DataError, "a.npy", "a.png", "the same name"):
        opened(tmp_path)
    with refused(DataError, "data.sidecars.saliency = nowhere", "there is no folder"):
        load_dataset("folder", tmp_path, "all", sidecars={"saliency": "nowhere"})
