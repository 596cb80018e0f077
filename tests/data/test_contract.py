"""What every registered reader gives, asked through the registry; a new reader is tested by registering it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tag2mask.core.errors import ConfigError, DataError
from tag2mask.data.base import Dataset
from tag2mask.data.registry import READERS, load_dataset, register_reader
from tests.helpers.draw import CLASSES, Scene, draw_coco, draw_folder, draw_voc
from tests.helpers.refused import refused

DRAWERS: dict[str, Callable[[Path], dict[str, Scene]]] = {"voc": draw_voc, "coco": draw_coco, "folder": draw_folder}
OPTIONS: dict[str, dict[str, Any]] = {"parts": {"images": 6, "size": 64}}
"""Settings that keep a reader without files small."""


@pytest.fixture(params=sorted(READERS))
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Dataset]:
    """A function (split, **settings) that opens small data of the reader."""
    kind = str(request.param)
    if kind not in DRAWERS:
        return lambda split, **extra: load_dataset(kind, None, split, **OPTIONS.get(kind, {}), **extra)
    DRAWERS[kind](tmp_path)
    return lambda split, **extra: load_dataset(kind, tmp_path, split, **extra)


@pytest.mark.parametrize("split", ["train", "val"])
def test_samples_are_sorted_unique_and_their_tags_are_columns(opened: Callable[..., Dataset], split: str) -> None:
    dataset = opened(split)
    ids = [s.id for s in dataset.samples]
    assert ids == sorted(set(ids))
    assert len(dataset) == len(ids) > 0
    assert all(
        s.tags == tuple(sorted(set(s.tags))) and set(s.tags) <= set(range(len(dataset.classes)))
        for s in dataset.samples
    )


def test_splits_share_no_image_and_agree_on_the_classes(opened: Callable[..., Dataset]) -> None:
    train, val = opened("train"), opened("val")
    assert not {s.id for s in train.samples} & {s.id for s in val.samples}
    assert train.classes == val.classes


def test_images_are_rgb_and_ground_truth_fits_them_and_their_tags(opened: Callable[..., Dataset]) -> None:
    dataset = opened("train")
    assert dataset.has_truth
    for sample in dataset.samples:
        image, truth = dataset.image(sample), dataset.truth(sample)
        assert truth is not None
        assert image.mode == "RGB"
        assert truth.dtype == np.uint8
        assert truth.shape == (image.height, image.width)
        assert {int(v) - 1 for v in np.unique(truth)} - {-1, 254} == set(sample.tags)


@pytest.mark.parametrize("kind", sorted(DRAWERS))
def test_drawn_tags_truth_and_colours_come_back_exactly(kind: str, tmp_path: Path) -> None:
    scenes = DRAWERS[kind](tmp_path)
    seen = set()
    for split in ("train", "val"):
        dataset = load_dataset(kind, tmp_path, split)
        assert dataset.classes == CLASSES
        for sample in dataset.samples:
            scene, truth = scenes[sample.id], dataset.truth(sample)
            assert truth is not None
            assert sample.tags == scene.tags
            assert np.array_equal(truth, scene.labels)
            assert np.abs(np.asarray(dataset.image(sample), dtype=float) - scene.image).mean() < 12  # JPEG
            seen.add(sample.id)
    assert seen == set(scenes)


def test_a_subset_renumbers_the_chosen_classes_and_ignores_the_others(opened: Callable[..., Dataset]) -> None:
    whole = opened("train")
    present = sorted({t for s in whole.samples for t in s.tags})
    first, second = present[-1], present[0]
    subset = opened("train", classes=[whole.classes[first], whole.classes[second]])
    assert subset.classes == (whole.classes[first], whole.classes[second])
    assert [s.id for s in subset.samples] == [s.id for s in whole.samples]
    for old, new in zip(whole.samples, subset.samples, strict=True):
        assert new.tags == tuple(c for c, o in enumerate((first, second)) if o in old.tags)
        before, after = whole.truth(old), subset.truth(new)
        assert before is not None
        assert after is not None
        expected = np.full_like(before, 255)
        for a, b in ((0, 0), (first + 1, 1), (second + 1, 2)):
            expected[before == a] = b
        assert np.array_equal(after, expected)


def test_an_unknown_class_names_the_nearest(opened: Callable[..., Dataset]) -> None:
    name = opened("train").classes[0]
    with pytest.raises((DataError, ConfigError), match=f"'{name}x'.*did you mean '{name}'"):
        opened("train", classes=[f"{name}x"])


def test_an_unknown_split_is_named(opened: Callable[..., Dataset]) -> None:
    with pytest.raises((DataError, ConfigError), match="no such split"):
        opened("no such split")


def test_content_hashes_are_stable_and_tell_images_apart(opened: Callable[..., Dataset]) -> None:
    one, two = opened("train"), opened("train")
    hashes = [one.content_hash(s) for s in one.samples]
    assert hashes == [two.content_hash(s) for s in two.samples]
    assert len(set(hashes)) == len(hashes)


def test_a_reader_is_one_module_and_one_registration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tag2mask.data.registry.READERS", dict(READERS))
    register_reader("pictures", "tag2mask.data.readers.folder")
    draw_folder(tmp_path)
    assert load_dataset("pictures", tmp_path, "all").classes == CLASSES
    with pytest.raises(ConfigError, match="'pictures' is of tag2mask.data.readers.folder and of tag2mask"):
        register_reader("pictures", "tag2mask.data.readers.voc")
    with refused(ConfigError, "'fodler'", "did you mean 'folder'"):
        load_dataset("fodler", tmp_path)
