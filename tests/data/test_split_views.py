"""A part of a split, asked of every registered reader that draws files, and the texts of its errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tag2mask.core.errors import ConfigError, DataError
from tag2mask.data.base import Dataset
from tag2mask.data.doctor.checks import examine
from tag2mask.data.doctor.tables import large
from tag2mask.data.registry import data_settings, load_dataset
from tag2mask.data.split_views import fitted_size, resized_labels, shrunk_size
from tag2mask.pipeline.keys import keys_of
from tests.helpers.draw import draw_coco, draw_folder, draw_voc
from tests.helpers.refused import refused

DRAWERS: dict[str, Callable[[Path], object]] = {"voc": draw_voc, "coco": draw_coco, "folder": draw_folder}


@pytest.fixture(params=[*sorted(DRAWERS), "parts"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], Dataset]:
    kind = str(request.param)
    if kind == "parts":
        return lambda split: load_dataset("parts", None, split, images=6, size=64)
    DRAWERS[kind](tmp_path / "data")
    return lambda split: load_dataset(kind, tmp_path / "data", split)


def test_a_part_has_the_listed_images_in_the_order_of_the_split(
    opened: Callable[[str], Dataset], tmp_path: Path
) -> None:
    whole = opened("train")
    first, last = whole.samples[0], whole.samples[-1]
    listed = tmp_path / "list.txt"
    listed.write_text(f"{last.id}\n\n{first.id}\n{last.id}\n", encoding="utf-8")
    part = opened(f"train@{listed}")
    assert part.samples == (first, last)
    assert part.classes == whole.classes
    assert part.split == f"{whole.split}@{listed}"
    assert np.array_equal(np.asarray(part.image(last)), np.asarray(whole.image(last)))
    truth, same = part.truth(first), whole.truth(first)
    assert truth is not None
    assert same is not None
    assert np.array_equal(truth, same)
    assert len(opened("train")) == len(whole)  # the split itself is as it was


def test_an_image_of_another_split_is_refused_with_the_line(opened: Callable[[str], Dataset], tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    stranger, whole = opened("val").samples[0].id, opened("train")
    listed.write_text(f"{whole.samples[0].id}\n{stranger}\n", encoding="utf-8")
    text = f"list.txt, line 2: split '{whole.split}' has no image '{stranger}'; did you mean '"
    with pytest.raises(DataError, match=text):
        opened(f"train@{listed}")


def test_an_empty_list_and_no_list_are_refused(opened: Callable[[str], Dataset], tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n")
    split = opened("train").split
    with refused(DataError, "empty.txt", "no image", f"split '{split}', one a line"):
        opened(f"train@{tmp_path / 'empty.txt'}")
    with pytest.raises(DataError, match=r"cannot read .*none\.txt"):
        opened(f"train@{tmp_path / 'none.txt'}")


@pytest.mark.parametrize(
    ("size", "side", "expected"),
    [((3000, 4000), 640, (480, 640)), ((480, 640), 640, (480, 640)), ((5000, 3), 50, (50, 1)), ((10, 7), 32, (10, 7))],
)
def test_the_shape_is_kept_and_small_images_stay(size: tuple[int, int], side: int, expected: tuple[int, int]) -> None:
    assert shrunk_size(*size, side) == expected


@pytest.mark.parametrize(
    ("size", "bounds", "expected"),
    [
        ((160, 120), (640, 320), (320, 240)), ((480, 640), (640, 320), (480, 640)), ((320, 10), (None, 320), (320, 10)),
        ((3000, 4000), (640, 640), (480, 640)), ((1, 3), (None, 320), (107, 320)), ((5, 7), (None, None), (5, 7)),
    ],
)  # fmt: skip
def test_sizes_are_brought_between_two_bounds_once(
    size: tuple[int, int], bounds: tuple[int | None, int | None], expected: tuple[int, int]
) -> None:
    assert fitted_size(*size, *bounds) == expected
    assert fitted_size(*expected, *bounds) == expected
    if bounds[1] is None and bounds[0] is not None:
        assert fitted_size(*size, *bounds) == shrunk_size(*size, bounds[0])


def test_labels_take_the_nearest_pixel() -> None:
    labels = np.repeat(np.repeat(np.array([[0, 1], [2, 255]], np.uint8), 3, axis=0), 3, axis=1)
    assert resized_labels(labels, 2, 2).tolist() == [[0, 1], [2, 255]]
    assert resized_labels(np.array([[0, 1], [2, 255]], np.uint8), 6, 6).tolist() == labels.tolist()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Twelve photos, the first of them turned by its EXIF and large."""
    draw_folder(tmp_path)
    first = sorted((tmp_path / "images").iterdir())[0]
    with Image.open(first) as image:
        big = image.convert("RGB").resize((90, 60))
    exif = Image.Exif()
    exif[0x0112] = 6
    big.save(first, exif=exif)
    Image.new("P", (60, 90), 1).save(tmp_path / "masks" / f"{first.stem}.png")
    return tmp_path


def test_images_and_truth_have_the_working_size(root: Path) -> None:
    whole = load_dataset("folder", root, "all", tags="tags.csv", images="images")
    small = load_dataset("folder", root, "all", tags="tags.csv", images="images", max_side=45)
    assert (whole.max_side, small.max_side, small.classes) == (None, 45, whole.classes)
    sample = small.samples[0]
    assert (whole.image(sample).size, small.image(sample).size) == ((60, 90), (30, 45))
    expected = whole.image(sample).resize((30, 45), Image.Resampling.BICUBIC)
    assert np.array_equal(np.asarray(small.image(sample)), np.asarray(expected))
    truth = small.truth(sample)
    assert truth is not None
    assert truth.shape == (45, 30)
    for other in small.samples:
        found, image = small.truth(other), small.image(other)
        assert found is not None
        assert found.shape == image.size[::-1]
        assert small.working_size(other) in {None, found.shape}


def test_only_what_is_shrunk_has_another_key(root: Path, tmp_path: Path) -> None:
    whole = load_dataset("folder", root, "all", tags="tags.csv", images="images")
    small = load_dataset("folder", root, "all", tags="tags.csv", images="images", max_side=80)
    keys = keys_of(tmp_path / "store")
    changed = [s.id for s in whole.samples if keys.content(whole, s) != keys.content(small, s)]
    assert changed == [whole.samples[0].id]


def test_a_part_of_a_split_is_shrunk_too(root: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("photo 00\n")
    name = load_dataset("folder", root, "all", tags="tags.csv", images="images").samples[0].id
    (tmp_path / "list.txt").write_text(f"{name}\n")
    part = load_dataset("folder", root, f"all@{tmp_path / 'list.txt'}", tags="tags.csv", images="images", max_side=45)
    assert len(part) == 1
    assert max(part.image(part.samples[0]).size) == 45


def test_drawn_data_without_files_is_shrunk() -> None:
    scenes = load_dataset("parts", images=2, size=64, max_side=32)
    assert {max(scenes.image(s).size) for s in scenes.samples} == {32}
    assert {max(scenes.working_size(s) or ()) for s in scenes.samples} == {32}


def test_small_images_and_their_truth_are_enlarged(root: Path, tmp_path: Path) -> None:
    whole = load_dataset("folder", root, "all", tags="tags.csv", images="images")
    large = load_dataset("folder", root, "all", tags="tags.csv", images="images", min_side=80)
    assert (whole.min_side, large.min_side, large.max_side) == (None, 80, None)
    first, *others = large.samples
    assert large.image(first).size == whole.image(first).size == (60, 90)
    for sample in others:
        image, truth = large.image(sample), large.truth(sample)
        assert truth is not None
        assert max(image.size) == 80
        assert truth.shape == image.size[::-1] == large.working_size(sample)
        photo = large.photo(sample)
        assert np.array_equal(np.asarray(image), np.asarray(photo.resize(image.size, Image.Resampling.BICUBIC)))
    keys = keys_of(tmp_path / "store")
    assert [s.id for s in whole.samples if keys.content(whole, s) == keys.content(large, s)] == [first.id]


@pytest.mark.parametrize("name", ["max_side", "min_side"])
@pytest.mark.parametrize("side", [0, 31, 2001])
def test_a_side_that_makes_no_sense_is_refused(side: int, name: str) -> None:
    with pytest.raises(ConfigError, match=f"setting 'data.{name}'"):
        data_settings("parts", {name: side})


def test_a_smallest_side_above_the_largest_is_refused() -> None:
    with refused(ConfigError, "min_side = 640", "max_side = 320", "min_side=320"):
        data_settings("parts", {"min_side": 640, "max_side": 320})


def test_the_doctor_notes_large_photos(root: Path) -> None:
    (found,) = large([(640, 480), (4000, 3000), (1600, 1200)])
    assert found.severity == "note"
    assert found.text == "2 of 3 images have more than 1500 pixels a side, the largest 4000 x 3000"
    assert "data.max_side=640" in found.remedy
    first = sorted((root / "images").iterdir())[0]
    Image.new("RGB", (1700, 20)).save(first)
    (root / "masks" / f"{first.stem}.png").unlink()
    words = {"root": root, "tags": "tags.csv", "images": "images"}
    texts = [f.text for f in examine("folder", data_settings("folder", words), quiet=True).findings]
    assert any(t.endswith("the largest 1700 x 20") for t in texts)
    shrunk = examine("folder", data_settings("folder", {**words, "max_side": 640}), quiet=True)
    assert not any(f.kind == "size" for f in shrunk.findings)
