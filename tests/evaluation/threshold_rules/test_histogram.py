"""Thresholds of single classes and images: what they cut, how they are distinguished, seeds evaluated at them."""

from __future__ import annotations

import numpy as np
import pytest

from tag2mask.core.errors import ConfigError
from tag2mask.evaluation.seeds import evaluate_seeds
from tag2mask.evaluation.thresholds import Levels, Threshold, cut
from tests.helpers.held_maps import Content, Held, steps
from tests.helpers.refused import refused


def test_equal_thresholds_of_classes_give_the_labels_of_the_one() -> None:
    rng = np.random.default_rng(0)
    maps = (np.rint(rng.random((3, 60, 60)) * 25) / 25).astype(np.float16).astype(np.float32)  # many ties
    maps[:, :10] = rng.random((3, 10, 60)).astype(np.float32)
    for threshold in (0.0, 0.04, 0.1234, 0.36, 0.9995, 1.0):
        each = np.full(3, threshold, np.float32)
        np.testing.assert_array_equal(cut(maps, (0, 4, 8), each), cut(maps, (0, 4, 8), threshold))


def test_a_class_is_a_candidate_above_its_own_threshold_and_the_farthest_above_wins() -> None:
    maps = np.array([[[1.0, 0.5, 0.375, 0.75, 0.75, 0.5]], [[0.5, 0.25, 0.125, 0.25, 0.375, 0.0]]], np.float32)
    # above by 0.5 and 0.375; 0 and 0.125; less and 0; 0.25 and 0.125; 0.25 and 0.25, a tie; 0 and less
    levels = np.array([0.5, 0.125], np.float32)
    assert cut(maps, (3, 6), levels).tolist() == [[4, 7, 0, 4, 4, 0]]
    assert cut(maps, (3, 6), np.array([0.25, 0.9], np.float32)).tolist() == [[4, 4, 4, 4, 4, 4]]
    assert cut(maps, (3, 6), np.array([1.0, 0.5], np.float32)).tolist() == [[0, 0, 0, 0, 0, 0]]
    assert cut(np.zeros((0, 2, 3), np.float32), (), np.zeros(0, np.float32)).tolist() == [[0, 0, 0], [0, 0, 0]]


def test_what_a_class_or_an_image_is_cut_at() -> None:
    classes = Threshold(None, "rule", rule="otsu/class", levels=Levels(0.3, (0.1, None, 0.7)))
    found = classes.of("any", (0, 1, 2))
    assert isinstance(found, np.ndarray)
    np.testing.assert_allclose(found, [0.1, 0.3, 0.7], rtol=1e-6)
    assert found.dtype == np.float32
    assert (classes.of("any", (2,)), classes.of("any", (1,))) == (0.7, 0.3), "one map needs one number"
    images = Threshold(None, "rule", rule="otsu/image", levels=Levels(0.3, images={"a": 0.4}))
    assert (images.of("a", (2,)), images.of("b", (2,))) == (0.4, 0.3)
    assert Threshold(0.25).of("a", (1, 2)) == 0.25
    with refused(ConfigError, "nothing can be cut", "'none' without a value"):
        Threshold(None, "none").of("a", ())


def test_kinds_of_rules_are_read_back() -> None:
    for one in (
        Threshold(0.3, "rule", rule="otsu"),
        Threshold(None, "rule", rule="beta-mixture/class"),
        Threshold(None, "rule", rule="otsu/image"),
    ):
        assert Threshold.parse(one.value, one.kind_text) == one
    assert Threshold(0.3, "rule", rule="otsu").kind_text == "rule(otsu)"
    words = [t.text for t in (Threshold(0.35), Threshold(None, "rule", rule="otsu/image"), Threshold(None, "none"))]
    assert words == ["0.35", "one per image", "none"]


@pytest.mark.parametrize(
    ("value", "kind", "rule", "text"),
    [
        (0.3, "fixed", "otsu", "rule = 'otsu' requires the kind 'rule' … kind 'fixed'"),
        (0.3, "rule", "Otsu!", "rule = 'Otsu!'"),
        (None, "rule", "otsu", "threshold None of kind 'rule(otsu)' … a number in 0..1"),
        (
            0.3,
            "rule",
            "otsu/image",
            "threshold 0.3 of kind 'rule(otsu/image)' … expected no value",
        ),
        (
            0.3,
            "rule",
            "otsu/class",
            "threshold 0.3 of kind 'rule(otsu/class)' … expected no value",
        ),
    ],
)
def test_what_is_no_rule(value: float | None, kind: str, rule: str, text: str) -> None:
    with refused(ConfigError, text):
        Threshold(value, kind, rule=rule)


def test_seeds_are_evaluated_at_thresholds_of_images_and_of_classes() -> None:
    """No one threshold is right for both images: 0.3..0.4 suits the first, 0.6..0.7 the second."""
    held = Held(("a", "b"), [steps(0.4, 0.2, 0), steps(0.8, 0.6, 1)])
    each = Threshold(None, "rule", rule="x/image", levels=Levels(0.5, images={"0": 0.3, "1": 0.7}))
    by_class = Threshold(None, "rule", rule="x/class", levels=Levels(0.5, (0.3, 0.7)))
    wrong = Threshold(None, "rule", rule="y/image", levels=Levels(0.5))
    found = evaluate_seeds(held, held.maps, [each, by_class, wrong, Threshold(0.5, "rule", rule="y")])
    first, second, third, fourth, oracle = (at.scores.miou for at in found.scores)
    assert (first, second) == (100, 100)
    assert third == fourth < oracle < 100
    np.testing.assert_array_equal(found.scores[2].scores.matrix, found.scores[3].scores.matrix)
    assert [image.miou for image in found.images] == [100, 100], "images are scored at the first threshold"
    assert [at.threshold.kind_text for at in found.scores[:2]] == ["rule(x/image)", "rule(x/class)"]


def test_one_pass_gives_the_matrices_of_single_cuts() -> None:
    """Images of no, one and two maps, at thresholds of classes and images, against a cut for each."""
    rng = np.random.default_rng(3)
    content: list[Content] = []
    for columns in ((0,), (1,), (0, 1)):
        maps = rng.random((len(columns), 9, 8)).astype(np.float32)
        content.append((maps, columns, rng.integers(0, 3, (9, 8)).astype(np.uint8)))
    held = Held(("a", "b"), content)
    thresholds = [
        Threshold(None, "rule", rule="x/class", levels=Levels(0.5, (0.31, 0.72))),
        Threshold(None, "rule", rule="x/image", levels=Levels(0.5, images={"0": 0.2, "2": 0.64})),
    ]
    found = evaluate_seeds(held, held.maps, thresholds, oracle=False)
    for at in found.scores:
        expected = np.zeros((3, 3), dtype=np.int64)
        for sample in held.samples:
            one, truth = held.maps(sample), held.truth(sample)
            assert truth is not None
            seeds = cut(one.maps.numpy(), one.classes, at.threshold.of(sample.id, one.classes))
            np.add.at(expected, (truth.ravel(), seeds.ravel()), 1)
        np.testing.assert_array_equal(at.scores.matrix, expected)
