"""Choosing on n masks: sums against the sweep, resampled thresholds, draws and what they lose on the rest."""

from __future__ import annotations

import numpy as np
import pytest

from tag2mask.core.errors import DataError
from tag2mask.evaluation.seeds import evaluate_seeds
from tag2mask.evaluation.threshold_rules.few_masks import (
    LEVEL,
    SweepCounts,
    count_images,
    curve,
    draw_few,
    resample,
    together,
)
from tag2mask.evaluation.threshold_sweep import GRID
from tests.helpers.held_maps import NAMES, Held, random_content, steps
from tests.helpers.refused import refused


def test_sums_of_images_are_the_sweep_of_all() -> None:
    held = Held(NAMES, random_content(3))
    images = count_images(held, held.maps, held.samples)
    mious = curve(together(images, len(NAMES) + 1))
    found = evaluate_seeds(held, held.maps)
    np.testing.assert_allclose(mious, [point.miou for point in found.curve], atol=1e-9)
    assert GRID[int(mious.argmax())] == found.scores[-1].threshold.value
    assert len(images) == found.n_images


def test_an_image_counted_twice_and_taken_away_once_is_there_once() -> None:
    held = Held(NAMES, random_content(4))
    images, n_labels = count_images(held, held.maps, held.samples)[:2], len(NAMES) + 1
    twice = together(images, n_labels, [2, 1])
    np.testing.assert_array_equal(twice - together(images[:1], n_labels), together(images, n_labels))
    np.testing.assert_array_equal(twice - together(images, n_labels, [2, 0]), together(images[1:], n_labels))


def alike(n: int) -> list[SweepCounts]:
    held = Held(("a",), [steps(0.5, 0.2)] * n)
    return count_images(held, held.maps, held.samples)


def test_images_that_agree_leave_no_doubt() -> None:
    found = resample(alike(6), 2, draws=50)
    assert (found.low, found.high, found.sd, found.expected_loss) == (0.2, 0.2, 0.0, 0.0)
    assert (found.n, found.draws, found.level) == (6, 50, LEVEL)
    assert {(d.threshold, d.loss, d.miou) for d in draw_few(alike(6), 2, 2, 20)} == {(0.2, 0.0, 100.0)}


def mixed(low: int, high: int) -> list[SweepCounts]:
    held = Held(("a",), [steps(0.4, 0.2)] * low + [steps(0.8, 0.6)] * high)
    return count_images(held, held.maps, held.samples)


def test_images_that_differ_give_an_interval_and_a_loss() -> None:
    images = mixed(6, 5)
    found = resample(images, 2, draws=100)
    assert (found.low, found.high) == (0.2, 0.6)
    assert 0 < found.sd <= 0.2
    mious = curve(together(images, 2))
    worst = float(mious.max() - mious[[GRID.index(0.2), GRID.index(0.6)]].min())
    assert 0 < found.expected_loss < worst
    assert resample(images, 2, draws=100) == found, "the same seed gives the same"
    assert resample(images, 2, draws=100, seed=1) != found


def test_more_masks_lose_less() -> None:
    lows = np.random.default_rng(0).uniform(0, 0.6, 40)
    held = Held(("a",), [steps(low + 0.25, low) for low in lows])
    images = count_images(held, held.maps, held.samples)
    losses = [np.mean([d.loss for d in draw_few(images, n, 2, 60)]) for n in (1, 5, 25)]
    assert losses[0] > losses[1] > losses[2]


def test_a_draw_is_measured_on_the_images_that_were_not_drawn() -> None:
    """One image of each kind: a draw of one is measured on the other, where its threshold is wrong."""
    images = mixed(1, 1)
    for draw in draw_few(images, 1, 2, 20):
        other = images[1] if draw.threshold == 0.2 else images[0]
        rest = curve(together([other], 2))
        assert draw.miou == pytest.approx(rest[GRID.index(draw.threshold)], abs=1e-4)
        assert draw.loss == pytest.approx(100 - draw.miou, abs=1e-4)
        assert draw.loss > 0


@pytest.mark.parametrize("n", [0, 6, 7])
def test_a_draw_leaves_images_to_measure_on(n: int) -> None:
    with refused(DataError, f"n = {n}", "6 images", "leave none", "from 1 to 5"):
        draw_few(alike(6), n, 2, 3)


def test_ignored_images_alone_say_nothing() -> None:
    maps, columns, truth = steps(0.5, 0.2)
    assert truth is not None
    held = Held(("a",), [(maps, columns, np.full_like(truth, 255))] * 2)
    images = count_images(held, held.maps, held.samples)
    with pytest.raises(DataError, match=r"shows no class, .*data\.mask_values=\{255: 1\}"):
        resample(images, 2, draws=3)
    both = Held(("a",), [(maps, columns, np.full_like(truth, 255)), steps(0.5, 0.2)])
    found = resample(count_images(both, both.maps, both.samples), 2, draws=30)
    assert found.low == found.high == 0.2, "draws of void images only are drawn again"


def test_draws_without_a_class_are_drawn_again_and_too_few_are_an_error() -> None:
    maps, columns, truth = steps(0.5, 0.2)
    assert truth is not None
    empty = (maps, columns, np.zeros_like(truth))
    held = Held(("a",), [empty, empty, steps(0.5, 0.2), steps(0.5, 0.2)])
    images = count_images(held, held.maps, held.samples)
    assert {d.threshold for d in draw_few(images, 1, 2, 20)} == {0.2}
    assert len(draw_few(images, 1, 2, 20)) == 20
    with refused(DataError, "n = 1", "3 images", "shows a class"):
        draw_few(images[:3], 1, 2, 20)
    with pytest.raises(DataError, match="shows no class"):
        draw_few(images[:2], 1, 2, 20)
