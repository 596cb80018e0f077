"""The drawn kinds of data beside the toys: exact ground truth, the stated rules, pixels of settings and index alone."""

from __future__ import annotations

import hashlib
from typing import Any, get_args

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from tag2mask.core.errors import ConfigError, DataError
from tag2mask.data.readers.parts import DRAWN, PartsDataset, PartsSettings, Scenes, open_split
from tag2mask.data.registry import data_settings
from tag2mask.data.scenes.drawing import crooked, distance, heading, inside, oval
from tag2mask.data.scenes.layout import Difficulty
from tag2mask.data.scenes.marks import DEFECTS, LINES
from tag2mask.data.scenes.things import ALIKE
from tests.helpers.refused import refused

DIFFICULTIES: tuple[Difficulty, ...] = ("easy", "medium", "hard")
GOLDEN: dict[Scenes, str] = {
    "lines": "38a45d7d177a4c73",
    "defects": "e8e312cd87bfd344",
    "patchwork": "844ca43bb21b4837",
    "blobs": "ecc9252cfc950438",
    "lookalikes": "7a9e7dda17d2c28c",
}
"""Digests of six pictures and their labels: a change needs a new `parts.VERSION`."""
WITHOUT = {"lines": 0.5, "defects": 3 / 8, "patchwork": 0.0, "blobs": 0.0, "lookalikes": 0.1}
"""Share of the pictures without any class."""


def drawn(scenes: Scenes, split: str = "train", **settings: Any) -> PartsDataset:
    """A small split."""
    return open_split(PartsSettings(**{"images": 10, "size": 96, "scenes": scenes, **settings}), split)


def labels(dataset: PartsDataset) -> list[NDArray[np.uint8]]:
    return [dataset.truth(sample) for sample in dataset.samples]


def test_every_kind_can_be_asked_for_by_its_name() -> None:
    assert {"toys", *DRAWN} == set(get_args(Scenes))
    with refused(ConfigError, "'data.scenes' = 'line'", "lines"):
        data_settings("parts", {"scenes": "line"})


@pytest.mark.parametrize("scenes", DRAWN)
def test_the_pixels_are_those_of_this_version(scenes: Scenes) -> None:
    dataset, total = drawn(scenes, images=6), hashlib.sha256()
    for sample in dataset.samples:
        total.update(dataset.image(sample).tobytes())
        total.update(dataset.truth(sample).tobytes())
    assert total.hexdigest()[:16] == GOLDEN[scenes]


@pytest.mark.parametrize("scenes", DRAWN)
@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_the_tags_are_the_classes_with_pixels_and_some_pictures_have_none(scenes: Scenes, difficulty: str) -> None:
    dataset = drawn(scenes, images=40, difficulty=difficulty)
    found = labels(dataset)
    assert [s.tags for s in dataset.samples] == [tuple(int(v) - 1 for v in np.unique(x) if v) for x in found]
    assert np.mean([not s.tags for s in dataset.samples]) == WITHOUT[scenes]
    present = np.mean([[c in s.tags for c in range(len(dataset.classes))] for s in dataset.samples], axis=0)
    assert ((present >= 0.25) & (present <= 0.75)).all(), "each class is missing somewhere, so that tags tell of it"
    assert all(dataset.image(s).size == x.shape[::-1] for s, x in zip(dataset.samples, found, strict=True))


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_lines_are_as_thin_as_the_rule_says_and_darker_than_the_ground(difficulty: Difficulty) -> None:
    dataset = drawn("lines", images=12, difficulty=difficulty, size=160)
    rule, differences = LINES[difficulty], []
    for sample in dataset.samples[::2]:
        crack, grey = dataset.truth(sample) == 1, np.asarray(dataset.image(sample), np.float64).mean(axis=2)
        assert ndimage.distance_transform_edt(np.pad(crack, 1)).max() < rule.width + 0.5, (
            "two may cross, none is a stain"
        )
        assert 0.004 <= crack.mean() <= 0.08
        beside = ndimage.binary_dilation(crack, iterations=6) & ~ndimage.binary_dilation(crack, iterations=3)
        differences.append(grey[beside].mean() - grey[crack].mean())
    assert 0.7 * rule.contrast < np.mean(differences) < 1.2 * rule.contrast


def test_a_crack_reaches_far_and_its_parts_hang_together() -> None:
    for found in labels(drawn("lines", images=20, size=160))[::2]:
        rows, columns = np.nonzero(found)
        assert max(np.ptp(rows), np.ptp(columns)) >= 0.4 * min(found.shape)
        assert ndimage.label(found, np.ones((3, 3)))[1] <= 6, "the border may cut it"


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_defects_are_tiny_and_holes_dark_and_scratches_bright(difficulty: Difficulty) -> None:
    dataset = drawn("defects", images=24, difficulty=difficulty, size=160)
    by_class: dict[int, list[float]] = {1: [], 2: []}
    for sample in dataset.samples:
        found, grey = dataset.truth(sample), np.asarray(dataset.image(sample), np.float64).mean(axis=2)
        assert (found > 0).mean() < 0.05
        things, count = ndimage.label(found > 0, np.ones((3, 3)))
        sides = [max(part.stop - part.start for part in where) for where in ndimage.find_objects(things)]
        assert count <= 6
        assert all(side <= 160 * 2.4 * DEFECTS[difficulty].size * 2 for side in sides)
        for label, values in by_class.items():
            if (found == label).any():
                values.append(grey[found == label].mean() - grey[found == 0].mean())
    assert max(by_class[1]) < -0.5 * DEFECTS[difficulty].contrast
    assert min(by_class[2]) > 0.5 * DEFECTS[difficulty].contrast


def test_a_patchwork_has_no_background_and_pictures_of_one_class_and_of_all() -> None:
    dataset = drawn("patchwork", images=16)
    assert all((found > 0).all() for found in labels(dataset))
    counts = [len(s.tags) for s in dataset.samples]
    assert counts == [1, 2, 2, 1, 3, 2, 1, 3] * 2
    for found in labels(dataset):
        assert min(np.count_nonzero(found == v) for v in np.unique(found)) >= 0.05 * found.size


def test_a_beetle_is_one_thing_inside_the_picture_and_only_its_back_shows_the_kind() -> None:
    """The same beetle of every kind: what differs lies inside it."""
    dataset = drawn("blobs", images=16, size=128)
    for number, found in enumerate(labels(dataset)):
        assert set(np.unique(found)) == {0, number % 4 + 1}
        assert ndimage.label(found)[1] == 1
        assert (found[1:-1, 1:-1] > 0).sum() == (found > 0).sum(), "it touches no border"
        assert 0.05 < (found > 0).mean() < 0.3
    kind = DRAWN["blobs"]
    first, second = (kind.lay_out(np.random.default_rng(3), "medium", (96, 96), number) for number in (0, 2))
    assert ((first.labels > 0) == (second.labels > 0)).all()
    differs = (first.paint(np.random.default_rng(4)) != second.paint(np.random.default_rng(4))).any(axis=2)
    assert differs.any()
    assert not (differs & (first.labels == 0)).any()
    assert differs.sum() < 0.6 * (first.labels > 0).sum()


def test_crops_and_weeds_come_together_in_half_of_the_pictures_and_their_leaves_differ() -> None:
    dataset = drawn("lookalikes", images=40, size=128)
    assert np.mean([s.tags == (0, 1) for s in dataset.samples]) == 0.5
    widest = {
        label: np.mean(
            [ndimage.distance_transform_edt(x == label).max() for x in labels(dataset) if (x == label).any()]
        )
        for label in (1, 2)
    }
    assert widest[1] > 1.3 * widest[2], "a crop's leaves are broader"
    slim = [ALIKE[difficulty].slimness for difficulty in DIFFICULTIES]
    assert [round(crop - weed, 2) for crop, weed in slim] == [0.42, 0.3, 0.16], "each step brings them closer"


@pytest.mark.parametrize("scenes", DRAWN)
def test_a_picture_depends_on_seed_split_kind_and_index_alone(scenes: Scenes) -> None:
    few, many = drawn(scenes, images=2), drawn(scenes, images=4)
    assert few.samples == many.samples[:2]
    assert few.image(few.samples[1]).tobytes() == many.image(many.samples[1]).tobytes()
    assert few.content_hash(few.samples[1]) == many.content_hash(many.samples[1])
    others = [drawn(scenes, seed=1), drawn(scenes, "other"), drawn(scenes, difficulty="hard"), drawn(scenes, size=80)]
    others.append(drawn("toys"))
    for other in others:
        assert other.image(other.samples[1]).tobytes() != few.image(few.samples[1]).tobytes()
        assert other.content_hash(other.samples[1]) != few.content_hash(few.samples[1])


def test_a_subset_of_the_classes_makes_the_others_ignored() -> None:
    full, part = drawn("patchwork"), drawn("patchwork", classes=("water",))
    table = np.array([0, 255, 255, 1], np.uint8)
    for a, b in zip(full.samples, part.samples, strict=True):
        np.testing.assert_array_equal(part.truth(b), table[full.truth(a)])
        assert b.tags == ((0,) if 2 in a.tags else ())
    with refused(DataError, "unknown class 'train'"):
        drawn("patchwork", classes=("train",))
    with refused(DataError, "data.scenes = patchwork", "data.scenes=toys"):
        full.scene(full.samples[0])


def test_strokes_and_ovals_by_hand() -> None:
    far = distance((3, 5), [(1.0, 1.0), (1.0, 3.0)], 9.0)
    root: float = 2**0.5
    expected_far = np.array([[root, 1, 1, 1, root], [1, 0, 0, 0, 1], [root, 1, 1, 1, root]])
    assert np.allclose(far, expected_far)
    assert distance((3, 5), [(1.0, -50.0), (1.0, -40.0)], 4.0).min() == 4.0, "out of reach"
    along, across = oval((5, 5), (2, 2), (2, 1), (1.0, 0.0))
    expected = [[0, 0, 1, 0, 0], [0, 0, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 0, 0], [0, 0, 1, 0, 0]]
    np.testing.assert_array_equal(inside(along, across).astype(int), expected)
    rng = np.random.default_rng(0)
    for _ in range(5):
        assert sum(part * part for part in heading(rng)) == pytest.approx(1)
    way = crooked(rng, (0.0, 0.0), (0.0, 32.0), 0.0)
    assert way == [(0.0, float(x)) for x in range(33)], "without a bend it is straight"
