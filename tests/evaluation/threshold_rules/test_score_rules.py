"""Rules of raw scores: hand-made classes, a slow reference of the sums, and what happens where a rule abstains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from tag2mask.core.errors import ConfigError, DataError
from tag2mask.evaluation.threshold_rules.score_evidence import (
    ABSENT_VALUES,
    ClassScores,
    ImageScores,
    cells,
    comparable,
    gather,
    slopes,
    tag_table,
    top_mean,
)
from tag2mask.evaluation.threshold_rules.score_rules import (
    SCORE_RULES,
    ScoreOptions,
    choose_classes,
    find_score_rule,
)
from tests.helpers.refused import refused

SHARE = 0.1


def image(scores: NDArray[np.float64], tags: Sequence[int]) -> ImageScores:
    """Of the raw scores (C, h, w) of every class."""
    absent = np.stack([np.bincount(np.rint(s.ravel() * 250).astype(int), minlength=251) for s in scores])
    absent[list(tags)] = 0
    own = scores[list(tags)].astype(np.float32)
    return ImageScores(tuple(tags), cells(own), slopes(own), absent)


def random_images(
    rng: np.random.Generator, count: int = 12, n_classes: int = 3
) -> tuple[list[NDArray[np.float64]], list[list[int]]]:
    """Scores on a grid that both kinds of bins hold exactly, and tags; the first image has no tag."""
    scores = [rng.integers(0, 251, (n_classes, 5, 6)) / 250 for _ in range(count)]
    tags = [sorted(rng.choice(n_classes, rng.integers(0, n_classes), replace=False).tolist()) for _ in range(count)]
    return scores, [[], *tags[1:]]


def whole(
    scores: Sequence[NDArray[np.float64]], tags: Sequence[Sequence[int]], share: float = SHARE
) -> list[ClassScores]:
    table = tag_table(tags, len(scores[0]))
    images = (image(s, t) for s, t in zip(scores, tags, strict=True))
    return next(gather(images, table, share, probabilities=True, draws=0))


def test_sums_are_those_of_a_slow_reference() -> None:
    scores, tags = random_images(np.random.default_rng(0))
    for column, found in enumerate(whole(scores, tags)):
        with_it = [s[column].ravel() for s, t in zip(scores, tags, strict=True) if column in t]
        without = [s[column].ravel() for s, t in zip(scores, tags, strict=True) if column not in t]
        assert (found.n_with, found.n_without) == (len(with_it), len(without))
        steep = [np.hypot(*np.gradient(s[column])).ravel() for s, t in zip(scores, tags, strict=True) if column in t]
        for place in range(251):
            own = sum(g[v == place / 250].sum() for v, g in zip(with_it, steep, strict=True))
            assert found.steepness[4 * place] == pytest.approx(own, rel=1e-5)
            assert found.present[4 * place] == sum((v == place / 250).sum() for v in with_it)
            assert found.absent[place] == sum((v == place / 250).sum() for v in without)
        highest = [[float(np.sort(v)[-3:].mean()) for v in side] for side in (with_it, without)]
        assert found.top_with == pytest.approx(np.mean(highest[0]))
        assert found.top_without == pytest.approx(np.mean(highest[1]))


def test_a_draw_is_what_its_images_give(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sums of a draw are those of a data set in which its images occur as often as they were drawn."""
    scores, tags = random_images(np.random.default_rng(1), count=40)
    images = [image(s, t) for s, t in zip(scores, tags, strict=True)]
    _, drawn = gather(images, tag_table(tags, 3), SHARE, probabilities=False, draws=1, seed=5)
    picked = np.random.default_rng((5, 40)).integers(0, 40, 40)
    expected = whole([scores[i] for i in picked], [tags[i] for i in picked])
    for found, other in zip(drawn, expected, strict=True):
        assert np.array_equal(found.present, other.present)
        assert found.steepness == pytest.approx(other.steepness)
        assert np.array_equal(found.absent, other.absent)
        assert found.top_with == pytest.approx(other.top_with)
        assert found.top_without == pytest.approx(other.top_without)


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 1.0])
def test_the_mean_of_the_highest_cells(share: float) -> None:
    values = np.random.default_rng(2).integers(0, 251, (4, 37)) / 250
    counts = np.stack([np.bincount(np.rint(v * 250).astype(int), minlength=251) for v in values])
    k = max(1, round(share * 37))
    expected = [np.sort(v)[-k:].mean() for v in values]
    assert top_mean(counts, ABSENT_VALUES, share) == pytest.approx(expected)
    assert np.isnan(top_mean(np.zeros((1, 251), np.int64), ABSENT_VALUES, share)).all()


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ([[0], [0], [1], [1], [1]], [0, 0]),  # each image one thing: nothing shows what stands beside it
        ([[0], [0], [1], [], [], []], [1, 1]),  # background alone is shown
        ([[0], [0], [1], [], []], [0, 0]),  # by too few
        ([[0, 1], [0], [1], [1]], [0.5, 1 / 3]),  # beside 0 stands 1, which is shown, and background, which is not
        ([[0, 1], [0, 1]], [0, 0]),  # always together
        ([[0], [0]], [0, 0]),  # everywhere
    ],
)
def test_what_stands_beside_a_class_is_shown_or_not(tags: list[list[int]], expected: list[float]) -> None:
    assert comparable(tag_table(tags, 2)) == pytest.approx(expected)


def made(present: Sequence[float], absent: Sequence[float], **changes: object) -> ClassScores:
    """Of cells with these scores; the image score is the highest one."""
    counts = np.bincount(np.rint(np.array(present) * 1000).astype(int), minlength=1001).astype(float)
    others = np.bincount(np.rint(np.array(absent) * 250).astype(int), minlength=251).astype(float)
    values: dict[str, object] = {
        "present": counts, "steepness": 0 * counts, "absent": others, "top_with": max(present, default=np.nan),
        "top_without": max(absent, default=np.nan), "n_with": 5 if present else 0, "n_without": 5 if absent else 0,
        "comparable": 1.0, "probabilities": True,
    }  # fmt: skip
    return ClassScores(**(values | changes))  # type: ignore[arg-type]


THING = made([0.2] * 70 + [0.3] * 10 + [0.7] * 18 + [0.9] * 2, [0.2] * 96 + [0.32] * 3 + [0.4])


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("otsu", 0.5),  # the middle of the gap from 0.3 to 0.7
        ("otsu-twice", 0.8),  # of the gap from 0.7 to 0.9
        ("probability", 0.5),
        ("midpoint", 0.65),  # between 0.9 and 0.4
        ("negatives", 0.32),  # 99 of 100 cells are at or below
        ("compared", 0.65),
    ],
)
def test_thresholds_of_a_hand_made_class(rule: str, expected: float) -> None:
    said = find_score_rule(rule)(THING, ScoreOptions())
    assert said.value == pytest.approx(expected, abs=1e-3)


def test_what_is_not_comparable_is_compared_by_quantile() -> None:
    other = made([0.2] * 80 + [0.7] * 20, [0.2] * 98 + [0.4] * 2, comparable=0.2)
    said = find_score_rule("compared")(other, ScoreOptions())
    assert said.value == pytest.approx(0.4)
    assert "20 %" in said.why
    assert find_score_rule("compared")(other, ScoreOptions(comparable=0.1)).value == pytest.approx(0.55)


@pytest.mark.parametrize(
    ("rule", "scores", "reason"),
    [
        ("otsu", made([0.4] * 9, [0.2] * 9), "score alike"),
        ("otsu", made([], [0.2]), "no image has it"),
        ("otsu-twice", made([0.4] * 9 + [0.6], [0.2] * 9), "score alike"),
        ("probability", made([0.4, 0.6], [0.2], probabilities=False), "not those of a classifier"),
        ("midpoint", made([0.4, 0.6], [], n_without=0), "every image has it"),
        ("midpoint", made([0.4, 0.6], [0.3] * 9, n_without=2), "2 images are without it"),
        ("midpoint", made([0.4, 0.6], [0.3, 0.8]), "no higher than images without it"),
        ("negatives", made([0.4, 0.6], [], n_without=0), "every image has it"),
        ("negatives", made([0.4, 0.6], [0.8] * 9), "no cell of its images scores above 0.800"),
        ("compared", made([0.4, 0.6], [], n_without=0), "every image has it"),
        ("compared", made([], [0.2]), "no image has it"),
    ],
)
def test_a_rule_abstains_and_says_why(rule: str, scores: ClassScores, reason: str) -> None:
    said = find_score_rule(rule)(scores, ScoreOptions())
    assert said.value is None
    assert reason in said.why


def test_another_rule_takes_the_place_of_one_that_abstains() -> None:
    everywhere = made([0.2] * 70 + [0.8] * 30, [], n_without=0)
    flat = made([0.2] * 9, [], n_without=0)
    first, second = choose_classes([[everywhere, flat]], "midpoint", "otsu", ScoreOptions())
    assert (first.value, first.rule) == (0.5, "otsu")
    assert first.why.startswith("midpoint abstains: every image has it")
    assert (second.value, second.low, second.high) == (None, None, None)
    assert second.why.count("abstains") == 2


def test_intervals_come_from_draws() -> None:
    """Images that are all alike leave no room; images that differ do, and the threshold lies in its interval."""
    rng = np.random.default_rng(3)
    one = np.where(np.arange(100).reshape(10, 10) < 20, 0.8, 0.2)[None]
    table = tag_table([[0]] * 20 + [[]] * 20, 1)
    alike = [image(one, [0])] * 20 + [image(np.full_like(one, 0.2), [])] * 20
    (sure,) = choose_classes(gather(alike, table, SHARE, probabilities=True), "midpoint", "otsu", ScoreOptions())
    assert (sure.low, sure.value, sure.high) == (0.5, 0.5, 0.5)
    varied = [image(np.clip(one + rng.normal(0, 0.1), 0, 1), [0]) for _ in range(20)]
    varied += [image(np.clip(np.full_like(one, 0.2) + rng.normal(0, 0.1), 0, 1), []) for _ in range(20)]
    (found,) = choose_classes(gather(varied, table, SHARE, probabilities=True), "midpoint", "otsu", ScoreOptions())
    assert found.value is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.value < found.high
    assert 0.01 < found.high - found.low < 0.15


FLANK = replace(THING, steepness=THING.present * np.interp(np.arange(1001), [200, 600, 700, 900], [0.0, 0.2, 0.1, 0.0]))


@pytest.mark.parametrize("rule", sorted(SCORE_RULES))
def test_every_rule_depends_on_shares_alone(rule: str) -> None:
    """Data taken twice change nothing, and scores moved up move the threshold, but probability one half."""
    options, choose = ScoreOptions(), find_score_rule(rule)
    value = choose(FLANK, options).value
    assert value is not None
    twice = replace(FLANK, present=2 * FLANK.present, steepness=2 * FLANK.steepness, absent=2 * FLANK.absent)
    assert choose(twice, options).value == value
    moved = replace(
        FLANK, present=np.roll(FLANK.present, 40), steepness=np.roll(FLANK.steepness, 40),
        absent=np.roll(FLANK.absent, 10), top_with=FLANK.top_with + 0.04, top_without=FLANK.top_without + 0.04,
    )  # fmt: skip
    assert choose(moved, options).value == pytest.approx(value if rule == "probability" else value + 0.04, abs=2e-3)


@pytest.mark.parametrize(("width", "tops"), [(3.0, 0.7), (2.0, 0.9)])
def test_the_flank_of_a_disc(width: float, tops: float) -> None:
    """A disc whose edge is a logistic curve is half as steep at its foot as it gets.

    The slope of a logistic curve s is s (1 - s): it is half of its largest at s = 0.146.
    """
    rows, columns = np.mgrid[:80, :80] - 39.5
    shape = 1 / (1 + np.exp((np.hypot(rows, columns) - 24) / width * 2))
    scores = (0.1 + (tops - 0.1) * shape)[None]
    (found,) = whole([scores], [[0]])
    low = find_score_rule("foot")(found, ScoreOptions()).value
    assert low == pytest.approx(0.1 + (tops - 0.1) * 0.146, abs=0.05 * (tops - 0.1) + 0.01)


def test_scores_without_a_flank_have_no_foot() -> None:
    for flat in (made([0.4] * 9, []), made([], [0.2]), made([0.4] * 5 + [0.5] * 5 + [0.6] * 5, [])):
        assert find_score_rule("foot")(flat, ScoreOptions()).value is None


def test_scores_of_other_images_than_tags_are_refused() -> None:
    scores, tags = random_images(np.random.default_rng(4))
    images = [image(s, t) for s, t in zip(scores, tags, strict=True)]
    with refused(DataError, "11", "12"):
        list(gather(images[:-1], tag_table(tags, 3), SHARE, probabilities=True, draws=0))
    with refused(ConfigError, "'median'", "midpoint"):
        find_score_rule("median")
