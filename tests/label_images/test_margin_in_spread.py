"""A margin in standard deviations of each class's scores: thresholds of refined seeds, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from tag2mask.core.errors import ConfigError
from tag2mask.evaluation.threshold_rules.score_evidence import spread
from tag2mask.evaluation.thresholds import Levels, Threshold
from tag2mask.label_images.kinds import RefinedSeedsSettings
from tag2mask.label_images.stage import around
from tag2mask.methods.artefact import Ruled
from tests.helpers.refused import refused


def test_spread_is_the_standard_deviation_of_the_cells() -> None:
    cells = np.zeros(1001)
    cells[[200, 400]] = 3, 1  # 0.2 three times and 0.4 once: mean 0.25, deviation sqrt(3) / 20
    assert spread(cells) == pytest.approx(3**0.5 / 20, abs=1e-4)
    assert spread(np.zeros(1001)) is None


def test_each_class_has_the_margin_of_its_own_spread() -> None:
    chosen = Ruled(
        0.5, "compared", "class", 9, (("a", 0.5), ("b", 0.4), ("c", None)), (), (("a", 0.1), ("b", 0.02), ("c", None))
    )
    threshold = chosen.as_threshold()
    high, low = around(threshold.of("x", (0, 1)), 0.5 * threshold.spread((0, 1)))
    assert high == pytest.approx([0.55, 0.41])
    assert low == pytest.approx([0.45, 0.39])
    assert threshold.spread((2,)) == pytest.approx(0.06)  # none of its own: the median of the others
    assert np.size(threshold.spread(())) == 0


def test_a_threshold_without_spread_is_refused() -> None:
    for threshold in (Threshold(0.4), Threshold(None, "rule", rule="otsu/class", levels=Levels(0.4, (0.4,)))):
        with refused(ConfigError, "margin_in", threshold.kind_text, "margin_in=scores"):
            threshold.spread((0,))


def test_a_margin_above_the_range_is_of_spreads_alone() -> None:
    assert RefinedSeedsSettings(margin=1.5, margin_in="spread").margin == 1.5
    with pytest.raises(ValueError, match=r"1\.5.*margin_in=spread"):
        RefinedSeedsSettings(margin=1.5)
