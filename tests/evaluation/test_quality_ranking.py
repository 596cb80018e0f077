"""Ranks and rank correlation: against SciPy with ties, by hand, and under changes that keep the order."""

import math

import numpy as np
import pytest
from scipy import stats

from tag2mask.core.errors import DataError
from tag2mask.evaluation.quality_ranking import rank_average, ranks, spearman
from tests.helpers.refused import refused


@pytest.mark.parametrize("seed", range(6))
def test_equals_scipy_with_and_without_ties(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 4 + 40 * (seed % 2), (2, 25)).astype(float)
    np.testing.assert_array_equal(ranks(x), stats.rankdata(x))
    assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)


def test_ranks_by_hand() -> None:
    assert ranks([30, 10, 20, 20]).tolist() == [4, 1, 2.5, 2.5]
    np.testing.assert_array_equal(ranks([3, math.nan, 1]), [2, math.nan, 1])


def test_only_the_order_counts() -> None:
    rng = np.random.default_rng(9)
    x, y = rng.random((2, 30))
    found = spearman(x, y)
    assert spearman(np.exp(5 * x), y**3) == pytest.approx(found)
    assert spearman(-x, y) == pytest.approx(-found)
    assert spearman(y, x) == pytest.approx(found)
    assert spearman(x, 2 * x + 1) == 1
    assert spearman(x, -x) == -1


def test_pairs_with_nan_are_left_out_before_ranking() -> None:
    x, y = [1, 2, math.nan, 4, 0], [1, 3, 9, 2, math.nan]
    assert spearman(x, y) == pytest.approx(stats.spearmanr([1, 2, 4], [1, 3, 2]).statistic)


def test_nothing_to_correlate_is_nan() -> None:
    assert math.isnan(spearman([1], [2]))
    assert math.isnan(spearman([1, 1, 1], [1, 2, 3]))
    assert math.isnan(spearman([math.nan, 1], [1, 2]))
    with refused(DataError, "rank correlation", "(2,) and (3,)"):
        spearman([1, 2], [1, 2, 3])


def test_an_average_of_ranks_by_hand() -> None:
    found = rank_average([[1, 2, 3], [30, 10, 10]])
    np.testing.assert_allclose(found, [(0 + 1) / 2, (0.5 + 0.25) / 2, (1 + 0.25) / 2])


def test_an_average_is_over_the_scores_that_there_are() -> None:
    nan = math.nan
    np.testing.assert_allclose(rank_average([[1, 2, 3, nan], [nan, 5, 1, nan]]), [0, (0.5 + 1) / 2, (1 + 0) / 2, nan])
    np.testing.assert_allclose(rank_average([[1, 2], [7, 7]]), [0, 1])  # a constant says nothing
    assert np.isnan(rank_average([[7, 7]])).all()
    with refused(DataError, "cannot average the ranks", "columns of shapes"):
        rank_average([[1, 2], [1]])
    with pytest.raises(DataError, match="cannot average the ranks"):
        rank_average([])
