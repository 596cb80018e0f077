"""Drawn scenes: exact truth, the stated rule, and pictures that depend on settings, split and index alone."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tag2mask.core.errors import ConfigError, DataError
from tag2mask.data.readers.parts import PartsDataset, PartsSettings, open_split
from tag2mask.data.registry import data_settings, load_dataset
from tag2mask.data.scenes import paint
from tag2mask.data.scenes.layout import CLASSES, CONTEXTS, RULES, Difficulty
from tag2mask.data.scenes.model import Box
from tag2mask.data.scenes.toys import body, ellipse, fill, grid, head, triangle, wheel
from tests.helpers.refused import refused

DIFFICULTIES: tuple[Difficulty, ...] = ("easy", "medium", "hard")


def drawn(split: str = "train", **settings: Any) -> PartsDataset:
    """A small split."""
    return open_split(PartsSettings(**{"images": 12, **settings}), split)


def digest(dataset: PartsDataset) -> str:
    """SHA-256 over all pixels and labels of a split."""
    total = hashlib.sha256()
    for sample in dataset.samples:
        total.update(dataset.image(sample).tobytes())
        total.update(dataset.truth(sample).tobytes())
    return total.hexdigest()


def test_the_pixels_are_those_of_this_version() -> None:
    """Golden: a change here needs a new `parts.VERSION` (and new values)."""
    assert digest(drawn(images=6, difficulty="easy"))[:16] == "35235a2f5f47c9b3"
    assert digest(drawn(images=6, difficulty="hard", size=(64, 96), seed=3))[:16] == "6ff085416d061081"


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
@pytest.mark.parametrize("size", [64, 128])
def test_the_tags_are_the_classes_with_visible_pixels(difficulty: str, size: int) -> None:
    dataset = drawn(images=60, difficulty=difficulty, size=size)
    for sample in dataset.samples:
        labels, counts = np.unique(dataset.truth(sample), return_counts=True)
        assert tuple(int(v) - 1 for v in labels if v) == sample.tags
        assert counts[labels > 0].min() >= 0.005 * counts.sum()


def test_each_tagged_class_shows_at_least_a_quarter_of_a_head() -> None:
    dataset = drawn(images=60, difficulty="hard", size=96)
    for sample in dataset.samples:
        scene = dataset.scene(sample)
        visible = dataset.truth(sample)[paint.heads(scene)]
        for kind in scene.tags:
            largest = max(t.head.area * fill(kind) for t in scene.toys if t.kind == kind)
            assert np.count_nonzero(visible == kind + 1) >= largest / 4


def test_every_class_comes_once_in_six_scenes_and_up_to_three_toys_in_one() -> None:
    dataset = drawn(images=60)
    for start in range(0, 60, 6):
        assert {t for s in dataset.samples[start : start + 6] for t in s.tags} == set(range(len(CLASSES)))
    toys = [len(dataset.scene(s).toys) for s in dataset.samples]
    assert set(toys) == {1, 2, 3}
    assert any(len(s.tags) == 1 for s in dataset.samples)
    assert any(len(s.tags) == 3 for s in dataset.samples)


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_the_head_has_the_share_of_the_toy_that_the_rule_says(difficulty: Difficulty) -> None:
    """Counted in the shapes that are drawn; a body hides nothing of its head."""
    dataset = drawn(images=60, difficulty=difficulty, size=256)
    shares = []
    for sample in dataset.samples:
        for toy in dataset.scene(sample).toys:
            head_area = np.count_nonzero(head(toy.kind, toy.head, toy.mirrored)[0][0])
            rest = [body(toy.body, toy.livery), *(wheel(w) for w in toy.wheels)]
            shares.append(head_area / (head_area + sum(np.count_nonzero(layers[0][0]) for layers in rest)))
    assert np.mean(shares) == pytest.approx(RULES[difficulty].head_share, rel=0.08)
    assert np.std(shares) < 0.1 * RULES[difficulty].head_share


def test_each_step_of_difficulty_follows_the_written_rule() -> None:
    rules = [RULES[d] for d in DIFFICULTIES]
    assert [r.head_share for r in rules] == [1 / 2, 1 / 4, 1 / 8]
    assert [r.context_rate for r in rules] == [0.5, 0.8, 0.95]
    assert [r.noise for r in rules] == [4, 8, 16]
    assert [r.distractors for r in rules] == [2, 4, 8]


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_contexts_come_with_their_class_at_the_stated_rate(difficulty: Difficulty) -> None:
    dataset, rate = drawn(images=500, difficulty=difficulty), RULES[difficulty].context_rate
    scenes = [dataset.scene(s) for s in dataset.samples]
    for kind, name in CONTEXTS.items():
        with_class = [any(p.name == name for p in s.props) for s in scenes if kind in s.tags]
        without = [any(p.name == name for p in s.props) for s in scenes if kind not in s.tags]
        assert np.mean(with_class) == pytest.approx(rate, abs=4 * (rate * (1 - rate) / len(with_class)) ** 0.5)
        alone = (1 - rate) / 2
        assert np.mean(without) == pytest.approx(alone, abs=4 * (alone * (1 - alone) / len(without)) ** 0.5)


def test_contexts_and_distractors_are_background_in_ground_truth() -> None:
    """Exactly the toys' own shapes are labelled, painted back to front by a slow loop over pixels."""
    dataset = drawn(images=8, difficulty="hard", size=72)
    for sample in dataset.samples:
        scene = dataset.scene(sample)
        expected = np.zeros((scene.height, scene.width), np.uint8)
        for toy in scene.toys:
            parts = [(w, wheel(w)) for w in toy.wheels]
            parts += [(toy.body, body(toy.body, toy.livery)), (toy.head, head(toy.kind, toy.head, toy.mirrored))]
            for box, layers in parts:
                for y in range(box.height):
                    for x in range(box.width):
                        if layers[0][0][y, x]:
                            expected[box.top + y, box.left + x] = toy.kind + 1
        np.testing.assert_array_equal(dataset.truth(sample), expected)


def test_toys_lie_inside_the_picture_on_the_ground_back_to_front() -> None:
    for size in (64, (64, 300), (300, 64)):
        dataset = drawn(images=60, size=size, difficulty="easy")
        for sample in dataset.samples:
            scene = dataset.scene(sample)
            assert [t.base for t in scene.toys] == sorted(t.base for t in scene.toys)
            for toy in scene.toys:
                for part in (toy.head, toy.body, *toy.wheels):
                    assert part.shared(Box(0, 0, scene.height, scene.width)) == part.area
                assert toy.base > scene.horizon


def test_a_body_looks_alike_over_classes_and_a_head_does_not() -> None:
    """Body colours are spread over the classes; the mean colour of heads tells the class to a nearest-mean rule."""
    dataset = drawn(images=150, difficulty="medium")
    liveries: dict[int, set[int]] = {kind: set() for kind in range(len(CLASSES))}
    for sample in dataset.samples:
        for toy in dataset.scene(sample).toys:
            liveries[toy.kind].add(toy.livery % 5)
    assert all(found == set(range(5)) for found in liveries.values())
    shapes = [head(kind, Box(0, 0, 32, 32), False) for kind in range(len(CLASSES))]
    pictures = []
    for layers in shapes:
        picture = np.zeros((32, 32, 3))
        for mask, colour in layers:
            picture[mask & layers[0][0]] = colour
        pictures.append(picture)
    for i, first in enumerate(pictures):
        for second in pictures[i + 1 :]:
            assert np.abs(first - second).mean() > 40


@pytest.mark.parametrize("deviation", [4, 8, 16])
def test_noise_has_the_stated_deviation(deviation: float) -> None:
    """One scene painted twice from the same random numbers, once without noise; where nothing is near 0 or 255."""
    dataset = drawn(size=256)
    scene = dataset.scene(dataset.samples[0])
    still = paint.picture(replace(scene, noise=0), np.random.default_rng(0)).astype(float)
    noisy = paint.picture(replace(scene, noise=deviation), np.random.default_rng(0)).astype(float)
    difference = (noisy - still)[(still > 70) & (still < 185)]
    assert difference.size > 10_000
    assert difference.mean() == pytest.approx(0, abs=0.2)
    assert difference.std() == pytest.approx(deviation, rel=0.03)


def test_a_scene_depends_on_seed_split_and_index_alone() -> None:
    few, many = drawn(images=3), drawn(images=9)
    assert few.samples == many.samples[:3]
    assert few.image(few.samples[2]).tobytes() == many.image(many.samples[2]).tobytes()
    assert few.content_hash(few.samples[2]) == many.content_hash(many.samples[2])
    backwards = [many.image(s).tobytes() for s in reversed(many.samples)][::-1]
    assert backwards == [many.image(s).tobytes() for s in many.samples]


def change_seed() -> PartsDataset:
    return drawn(seed=1)


def change_split() -> PartsDataset:
    return drawn("other")


def change_difficulty() -> PartsDataset:
    return drawn(difficulty="hard")


def change_size() -> PartsDataset:
    return drawn(size=112)


@pytest.mark.parametrize("changed", [change_seed, change_split, change_difficulty, change_size])
def test_other_settings_are_other_pictures_and_hashes(changed: Callable[[], PartsDataset]) -> None:
    usual, other = drawn(), changed()
    for a, b in zip(usual.samples, other.samples, strict=True):
        assert usual.image(a).tobytes() != other.image(b).tobytes()
        assert usual.content_hash(a) != other.content_hash(b)


def test_sizes_a_number_is_the_long_side_a_pair_is_exact() -> None:
    dataset = drawn(images=40, size=96)
    sizes = {dataset.image(s).size for s in dataset.samples}
    assert {max(s) for s in sizes} == {96}
    assert {96 / min(s) for s in sizes} == {1.0, 96 / 77, 96 / 72, 96 / 64}
    assert any(w > h for w, h in sizes)
    assert any(h > w for w, h in sizes)
    pair = drawn(images=2, size=(80, 128))
    assert all(pair.truth(s).shape == (80, 128) and pair.image(s).size == (128, 80) for s in pair.samples)


def test_a_subset_of_the_classes_leaves_the_pictures_and_makes_other_classes_ignored() -> None:
    full, part = drawn(images=12), drawn(images=12, classes=("robot", "train"))
    assert part.classes == ("robot", "train")
    table = np.array([0, 2, 255, 255, 255, 255, 1], np.uint8)
    for a, b in zip(full.samples, part.samples, strict=True):
        assert full.image(a).tobytes() == part.image(b).tobytes()
        np.testing.assert_array_equal(part.truth(b), table[full.truth(a)])
        assert b.tags == tuple(sorted({5: 0, 0: 1}[t] for t in a.tags if t in (0, 5)))
    assert any(b.tags == () for b in part.samples)


def test_wrong_settings_are_refused_in_words() -> None:
    with pytest.raises(DataError, match=r"data\.classes: unknown class 'robt'; did you mean 'robot'"):
        drawn(classes=("robt",))
    with refused(DataError, "split '../x'", "use letters"):
        drawn("../x")
    with refused(ConfigError, "'data.images' = 0", "greater than or equal to 1"):
        data_settings("parts", {"images": 0})
    with pytest.raises(ConfigError, match=r"unknown setting 'data\.dificulty': did you mean 'difficulty'"):
        data_settings("parts", {"dificulty": "hard"})


def test_shapes_by_hand() -> None:
    """A 4 x 4 disc, triangle and grid counted on paper."""
    u, v = grid(Box(0, 0, 4, 4))
    np.testing.assert_array_equal(u, [[0.125, 0.375, 0.625, 0.875]])
    disc = ellipse(u, v, (0.5, 0.5), (0.5, 0.5))
    np.testing.assert_array_equal(disc.astype(int), [[0, 1, 1, 0], [1, 1, 1, 1], [1, 1, 1, 1], [0, 1, 1, 0]])
    roof = triangle(u, v, (0.5, 0.0), 0.0, 1.0, 1.0)
    np.testing.assert_array_equal(roof.astype(int), [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [1, 1, 1, 1]])
    assert Box(0, 0, 4, 6).shared(Box(2, 5, 9, 9)) == 2
    assert Box(0, 0, 4, 6).shared(Box(4, 0, 2, 2)) == 0


def test_boxes_reaching_over_the_border_are_cut() -> None:
    canvas = np.zeros((5, 5))
    assert paint._window(canvas, Box(-2, 3, 4, 6)).shape == (2, 2)
    assert paint._inside(Box(-2, 3, 4, 6), 5, 5) == (slice(2, 4), slice(0, 2))
    assert paint._window(canvas, Box(-9, 0, 4, 2)).size == 0


def test_load_dataset_gives_the_default_of_the_demo() -> None:
    dataset = load_dataset("parts", images=2)
    assert (dataset.split, dataset.classes[0], len(dataset), dataset.samples[1].id) == (
        "train",
        "train",
        2,
        "train-00001",
    )
    assert dataset.samples[0].image is None
    hashes = [dataset.content_hash(sample)[:8] for sample in dataset.samples]
    assert hashes[1] == "b967b757", "the other kinds of scenes leave the keys of the toys as they were"
