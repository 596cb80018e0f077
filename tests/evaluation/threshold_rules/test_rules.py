"""Every registered rule: two hills are parted, nothing to part gives None, copies of the data change nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tag2mask.core.errors import ConfigError
from tag2mask.evaluation.threshold_rules import rules as module
from tag2mask.evaluation.threshold_rules.evidence import BINS, PROBED, VALUES, ImageEvidence, histogram
from tag2mask.evaluation.threshold_rules.histogram import (
    between_class_variance,
    cross_entropy,
    entropy,
    minimum_error,
    moments,
    split_of,
    splitting,
    triangle,
)
from tag2mask.evaluation.threshold_rules.rules import EVIDENCE, RULES, Rule, choose_thresholds, find_rule, rules_of
from tag2mask.evaluation.threshold_sweep import GRID

HISTOGRAM = [rule.name for rule in rules_of("histogram")]
Counts = NDArray[Any]


def hills(low: float, high: float, share: float = 0.7, spread: float = 0.05) -> Counts:
    """Two normal hills of activations, ``share`` of the pixels in the lower."""
    density = share * np.exp(-(((VALUES - low) / spread) ** 2) / 2) + (1 - share) * np.exp(
        -(((VALUES - high) / spread) ** 2) / 2
    )
    return np.rint(1e5 * density).astype(np.int64)


def spikes(**bins: int) -> Counts:
    """Pixels in single bins: ``spikes(b100=5)`` has 5 pixels of activation 0.1."""
    counts = np.zeros(BINS, dtype=np.int64)
    for name, pixels in bins.items():
        counts[int(name[1:])] = pixels
    return counts


@pytest.mark.parametrize("name", HISTOGRAM)
def test_two_hills_are_parted_between_them(name: str) -> None:
    found = RULES[name].choose(hills(0.2, 0.8))
    assert found is not None
    if name == "triangle":  # the corner of the tail, by design close to the background's hill
        assert 0.2 < found < 0.45
    elif name == "entropy":
        assert 0.15 < found < 0.85
    else:
        assert 0.3 < found < 0.7


@pytest.mark.parametrize("name", HISTOGRAM)
def test_two_spikes_are_parted(name: str) -> None:
    counts = spikes(b100=700, b900=300)
    found = RULES[name].choose(counts)
    assert found is not None
    assert 0.1 < found < 0.9


@pytest.mark.parametrize("name", HISTOGRAM)
@pytest.mark.parametrize(
    "counts", [spikes(), spikes(b0=500), spikes(b500=9), spikes(b1000=9)], ids=["empty", "zero", "half", "one"]
)
def test_a_single_value_gives_no_threshold(name: str, counts: Counts) -> None:
    assert RULES[name].choose(counts) is None


@pytest.mark.parametrize("name", HISTOGRAM)
def test_data_taken_twice_changes_nothing(name: str) -> None:
    counts = hills(0.15, 0.6, 0.8, 0.08) + spikes(b0=3000, b1000=40)
    assert RULES[name].choose(2 * counts) == RULES[name].choose(counts)


@pytest.mark.parametrize("name", HISTOGRAM)
def test_a_threshold_is_inside_the_activations(name: str) -> None:
    rng = np.random.default_rng(5)
    for _ in range(20):
        filled = rng.choice(BINS, int(rng.integers(2, 30)), replace=False)
        counts = np.zeros(BINS, dtype=np.int64)
        counts[filled] = rng.integers(1, 1000, len(filled))
        found = RULES[name].choose(counts)
        assert found is not None
        assert 0 <= found <= 1
        if "mixture" not in name:  # both sides hold pixels
            assert counts[found < VALUES].any()
            assert counts[found >= VALUES].any()


def naive(counts: Counts, name: str) -> float:
    """The best split by trying each on the list of pixels; the first of equal ones."""
    pixels = np.repeat(VALUES, counts)
    scores = []
    for k in range(BINS - 1):
        low, high = pixels[pixels <= VALUES[k]], pixels[pixels > VALUES[k]]
        scores.append(-np.inf if not len(low) or not len(high) else _score(name, low, high, counts, k))
    return (float(np.argmax(np.round(scores, 9))) + 0.5) / (BINS - 1)


def _score(name: str, low: NDArray[np.float64], high: NDArray[np.float64], counts: Counts, k: int) -> float:
    n = len(low) + len(high)
    if name == "otsu":
        return float(len(low) / n * len(high) / n * (low.mean() - high.mean()) ** 2)
    if name == "minimum-error":
        floor = 1 / (BINS - 1) ** 2 / 12
        sides = [(len(side) / n, max(float(side.var()), floor)) for side in (low, high)]
        return -sum(weight * (math.log(variance) / 2 - math.log(weight)) for weight, variance in sides)
    if name == "cross-entropy":
        two = np.concatenate([np.full(len(low), low.mean()), np.full(len(high), high.mean())])
        pixels = np.concatenate([low, high])
        return -float((pixels * np.log(pixels / two)).sum() / n)
    total = 0.0
    for side in (counts[: k + 1], counts[k + 1 :]):
        shares = side[side > 0] / side.sum()
        total -= float((shares * np.log(shares)).sum())
    return total


@pytest.mark.parametrize("name", ["otsu", "minimum-error", "cross-entropy", "entropy"])
def test_equals_the_slow_way(name: str) -> None:
    rng = np.random.default_rng(1)
    counts = np.zeros(BINS, dtype=np.int64)
    counts[1:] = rng.poisson(hills(0.2, 0.7, 0.6, 0.12)[1:] / 4e4)  # every bin of the middle is filled: no ties
    counts[1:] += rng.integers(1, 3, BINS - 1)
    found = RULES[name].choose(counts)
    assert found == pytest.approx(naive(counts, name), abs=1e-9)


def test_of_a_gap_the_middle_is_taken() -> None:
    otsu = splitting(between_class_variance)
    assert otsu(spikes(b200=5, b800=5)) == pytest.approx(0.5)
    assert otsu(spikes(b0=5, b1=5)) == pytest.approx(0.0005)
    assert otsu(spikes(b100=50, b110=50, b900=30)) == pytest.approx(0.505)


def test_otsu_follows_a_shift_and_a_stretch_of_the_activations() -> None:
    counts = np.zeros(BINS, dtype=np.int64)
    counts[:400] = np.random.default_rng(2).integers(1, 50, 400)
    found = splitting(between_class_variance)(counts)
    moved, wide = np.zeros_like(counts), np.zeros_like(counts)
    moved[150:550] = counts[:400]
    wide[: 2 * 400 : 2] = counts[:400]
    assert found is not None
    assert splitting(between_class_variance)(moved) == pytest.approx(found + 0.15)
    assert splitting(between_class_variance)(wide) == pytest.approx(2 * found, abs=1e-9)


def test_values_of_any_range_are_split_where_a_slow_search_splits_them() -> None:
    rng = np.random.default_rng(5)
    values = np.concatenate([rng.normal(-3, 0.4, 300), rng.normal(2, 0.7, 80)])
    found = split_of(values)
    assert found is not None

    def between(level: float) -> float:
        low, high = values[values <= level], values[values > level]
        return len(low) * len(high) * float(high.mean() - low.mean()) ** 2

    best = max(between(level) for level in np.sort(values)[:-1])
    assert between(found) == pytest.approx(best, rel=1e-3)
    assert split_of(10 * values - 7) == pytest.approx(10 * found - 7)
    assert split_of(np.full((3, 3), 0.2)) is None, "nothing to split"


def test_entropy_knows_the_order_of_the_bins_only() -> None:
    """A monotone relabelling of the bins moves the threshold along with the pixels below it."""
    rng = np.random.default_rng(3)
    pixels = rng.integers(1, 60, 200)
    split = splitting(entropy)
    narrow, spread = np.zeros(BINS, dtype=np.int64), np.zeros(BINS, dtype=np.int64)
    places = np.sort(rng.choice(BINS, 200, replace=False))
    narrow[100:300], spread[places] = pixels, pixels
    first, second = split(narrow), split(spread)
    assert first is not None
    assert second is not None
    assert narrow[first >= VALUES].sum() == spread[second >= VALUES].sum()


def test_moments_part_two_values_exactly_and_keep_three_moments() -> None:
    assert moments(spikes(b200=30, b700=70)) == pytest.approx(0.45)
    counts = hills(0.2, 0.7, 0.6, 0.1)
    found = moments(counts)
    assert found is not None
    shares = counts / counts.sum()
    m = [float((shares * VALUES**p).sum()) for p in range(4)]
    below = float(shares[found >= VALUES].sum())
    # The two values of weights (below, 1 - below) that keep the first two moments keep the third, to a bin's share.
    sd = np.sqrt(m[2] - m[1] ** 2)
    low, high = m[1] - sd * np.sqrt((1 - below) / below), m[1] + sd * np.sqrt(below / (1 - below))
    assert below * low**3 + (1 - below) * high**3 == pytest.approx(m[3], abs=2e-3)


def test_triangle_by_hand() -> None:
    """The line falls from 100 at 0 to 0 at 1; the farthest bin below it is where the steep part ends."""
    counts = np.zeros(BINS, dtype=np.int64)
    counts[:101] = np.linspace(100, 10, 101).astype(np.int64)
    counts[101:1001] = np.linspace(10, 1, 900).astype(np.int64)
    found = triangle(counts)
    assert found is not None
    assert 0.09 < found < 0.125
    assert triangle(counts[::-1]) == pytest.approx(1 - found, abs=2e-3), "and from the other side"


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of splits with an empty side
def test_scores_are_of_each_side() -> None:
    shares = spikes(b100=1, b300=1, b800=2) / 4
    otsu = between_class_variance(shares)
    assert otsu[150] == pytest.approx(0.25 * 0.75 * (0.1 - (0.3 + 1.6) / 3) ** 2)
    assert otsu[500] == pytest.approx(0.5 * 0.5 * 0.6**2)
    assert entropy(shares)[500] == pytest.approx(np.log(2))
    floor = 1 / 12e6
    assert minimum_error(shares)[500] == pytest.approx(
        -(0.5 * (np.log(0.1**2) / 2 - np.log(0.5)) + 0.5 * (np.log(floor) / 2 - np.log(0.5)))
    )
    assert cross_entropy(shares)[500] == pytest.approx(0.2 * 0.5 * np.log(0.2) + 0.8 * 0.5 * np.log(0.8))


def test_names_are_known_and_grouped() -> None:
    assert {rule.evidence for rule in RULES.values()} == set(EVIDENCE)
    assert find_rule("otsu").name == "otsu"
    with pytest.raises(ConfigError, match="unknown rule 'otso'; did you mean 'otsu'"):
        find_rule("otso")
    with pytest.raises(ConfigError, match="unknown rule 'agreement'"):
        find_rule("agreement", "histogram")
    assert all(rule.about for rule in RULES.values())


@pytest.fixture
def added() -> Iterator[Rule]:
    """A new rule is one function and one line."""
    rule = Rule("half-full", "histogram", lambda counts: 0.5 if counts.sum() else None, "half of it")
    module.RULES[rule.name] = rule
    yield rule
    del module.RULES[rule.name]


def test_a_new_rule_is_found_by_its_name(added: Rule) -> None:
    assert find_rule("half-full", "histogram") is added
    assert added in rules_of("histogram")


def image(name: str, columns: tuple[int, ...], *values: float) -> ImageEvidence:
    """An image of one row of pixels, the same map for each class."""
    return histogram(name, columns, np.array([[values]] * len(columns), dtype=np.float32))


def test_a_rule_chooses_for_the_data_for_classes_and_for_images() -> None:
    images = [image("a", (0,), 0.1, 0.3), image("b", (0,), 0.2, 0.8), image("c", (2,), 0.4, 0.6)]
    found = choose_thresholds([RULES["otsu"]], images, 4)["otsu"]
    assert found.whole == pytest.approx(0.5)  # of 0.1 0.2 0.3 0.4 | 0.6 0.8: variance between is largest at the gap
    assert list(found.classes) == [pytest.approx(0.55), None, pytest.approx(0.5), None]
    assert found.images == {"a": pytest.approx(0.2), "b": pytest.approx(0.5), "c": pytest.approx(0.5)}
    data, per_class, per_image = (found.threshold(scope) for scope in ("data", "class", "image"))
    assert (data.value, data.kind_text) == (found.whole, "rule(otsu)")
    assert (per_class.value, per_class.kind_text) == (None, "rule(otsu/class)")
    np.testing.assert_allclose(per_class.of("x", (0, 1)), [0.55, 0.5], rtol=1e-6)
    assert per_image.of("a", (0,)) == pytest.approx(0.2)
    assert per_image.of("new", (0,)) == found.whole


def test_only_what_is_requested_is_chosen() -> None:
    found = choose_thresholds([RULES["otsu"]], [image("a", (0,), 0.1, 0.3)], 1, {"data"})["otsu"]
    assert (found.classes, found.images) == ((), {})


def test_a_rule_without_any_evidence_is_left_out() -> None:
    assert choose_thresholds([RULES["otsu"]], [], 2) == {}
    flat = image("a", (0, 1), 0.4, 0.4)
    assert choose_thresholds([RULES["otsu"]], [flat], 2) == {}
    both = choose_thresholds([RULES["otsu"]], [flat, image("b", (0,), 0.2, 0.8)], 2)["otsu"]
    assert both.classes[1] is None
    assert set(both.images) == {"b"}


def test_agreement_is_largest_beyond_chance() -> None:
    evidence = np.zeros((len(GRID), 2))
    evidence[:, 1] = 100
    evidence[30:41, 0] = 60
    evidence[0] = 0  # everything is foreground in both views: nothing beyond chance
    assert RULES["agreement"].choose(evidence) == pytest.approx(0.35)
    assert RULES["agreement"].choose(np.zeros((len(GRID), 2))) is None
    assert RULES["agreement"].choose(-evidence) is None


def test_the_classifier_s_gain_is_taken_beyond_what_the_area_is_worth() -> None:
    areas = 1 - np.asarray(PROBED)
    evidence = np.stack([0.9 * (2 * areas - 1), 0.9 * (2 * areas - 1)], axis=1)
    assert RULES["classifier"].choose(evidence) is None
    evidence[PROBED.index(0.4), 0] += 0.3
    assert RULES["classifier"].choose(evidence) == pytest.approx(0.4)
    assert RULES["classifier-plain"].choose(evidence) == pytest.approx(0.05), "the largest region, whatever it holds"
    assert RULES["classifier-plain"].choose(np.zeros((len(PROBED), 2))) is None
