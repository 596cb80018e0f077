"""Divisions that may be of nothing by nothing."""

from __future__ import annotations

import warnings

import numpy as np

from tag2mask.core.ratios import known_mean, percent, ratio


def test_nothing_of_nothing_is_nan_and_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(ratio([1, 0, 3], [2, 0, 4]), [0.5, np.nan, 0.75])
        np.testing.assert_array_equal(percent([[1, 2], [0, 0]], [[4], [0]]), [[25, 50], [np.nan, np.nan]])
        assert float(percent(1, 8)) == 12.5
        assert np.isnan(float(percent(0, 0)))


def test_the_mean_is_over_what_is_known_along_an_axis() -> None:
    values = [[1.0, np.nan, 4.0], [np.nan, np.nan, 2.0]]
    np.testing.assert_array_equal(known_mean(values), [2.5, 2.0])
    np.testing.assert_array_equal(known_mean(values, axis=0), [1.0, np.nan, 3.0])
