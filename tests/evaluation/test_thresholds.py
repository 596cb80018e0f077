"""Kinds of threshold, and seeds cut from maps: ties, float32, no class at all."""

import numpy as np
import pytest

from tag2mask.core.errors import ConfigError
from tag2mask.evaluation.thresholds import THRESHOLD_KINDS, Threshold, cut
from tests.helpers.refused import refused


def test_kinds_read_back_what_they_write() -> None:
    for kind in THRESHOLD_KINDS:
        n = 10 if kind == "few-masks" else None
        one = Threshold(None if kind == "none" else 0.3, kind, n)
        assert Threshold.parse(one.value, one.kind_text) == one
    assert Threshold(0.3, "few-masks", 10).kind_text == "few-masks(10)"


@pytest.mark.parametrize(
    ("value", "kind", "n", "text"),
    [
        (0.3, "orakel", None, "'orakel' … did you mean 'oracle'"),
        (0.3, "few-masks", None, "n = None with kind 'few-masks' … 1 or more"),
        (0.3, "few-masks", 0, "n = 0"),
        (0.3, "fixed", 5, "n = 5 with kind 'fixed' … 'few-masks'"),
        (None, "fixed", None, "threshold None of kind 'fixed' … a number in 0..1"),
        (0.3, "none", None, "threshold 0.3 of kind 'none' … expected no value"),
        (1.5, "fixed", None, "threshold 1.5 is outside 0..1"),
        (float("nan"), "fixed", None, "threshold nan is outside 0..1"),
    ],
)
def test_what_is_no_threshold(value: float | None, kind: str, n: int | None, text: str) -> None:
    with refused(ConfigError, text):
        Threshold(value, kind, n)


def test_background_wins_ties_then_the_lower_class() -> None:
    maps = np.array([[[0.5, 0.6, 0.2]], [[0.1, 0.6, 0.51]]], np.float32)
    assert cut(maps, (2, 7), 0.5).tolist() == [[0, 3, 8]]


def test_cut_is_the_argmax_with_a_constant_background_map() -> None:
    rng = np.random.default_rng(0)
    maps = (np.rint(rng.random((3, 40, 40)) * 20) / 20).astype(np.float32)  # many ties
    labels = np.array([0, 1, 5, 9], np.uint8)
    for threshold in (0.0, 0.05, 0.3, 0.95, 1.0):
        planes = np.concatenate([np.full((1, 40, 40), threshold, np.float32), maps])
        np.testing.assert_array_equal(cut(maps, (0, 4, 8), threshold), labels[planes.argmax(axis=0)])


def test_values_are_compared_as_float32() -> None:
    assert cut(np.full((1, 1, 1), 0.1, np.float32), (0,), 0.1).item() == 0  # float32(0.1) > 0.1 as doubles


def test_no_class_is_all_background_and_the_last_class_fits() -> None:
    assert cut(np.zeros((0, 2, 3), np.float32), (), 0.0).tolist() == [[0, 0, 0], [0, 0, 0]]
    assert cut(np.ones((1, 1, 1), np.float32), (253,), 0.5).item() == 254
