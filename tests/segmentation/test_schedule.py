"""Learning rates over the steps of a training."""

from __future__ import annotations

import pytest

from tag2mask.config.settings import validate
from tag2mask.segmentation.settings import SegmentTrainSettings
from tag2mask.segmentation.training import segment_rate


def test_rates_are_set_anew_every_ten_steps_as_published() -> None:
    settings = validate(SegmentTrainSettings, {"hold": 10, "poly_power": 0.9}, "train")
    factor = segment_rate(settings, 20_000)
    assert [factor(step) for step in (0, 9)] == [1, 1]
    assert factor(10) == factor(19) == pytest.approx((1 - 10 / 20_000) ** 0.9, rel=1e-12)
    assert factor(19_999) == pytest.approx((10 / 20_000) ** 0.9, rel=1e-12)


def test_warm_up_rises_from_a_millionth_and_meets_the_linear_decay() -> None:
    settings = validate(SegmentTrainSettings, {"warmup": 1500, "poly_power": 1.0}, "train")
    factor = segment_rate(settings, 40_000)
    assert factor(0) == pytest.approx(1e-6, rel=1e-9)
    assert factor(750) == pytest.approx((1 - 750 / 40_000) * (0.5 + 0.5e-6), rel=1e-12)
    assert factor(1500) == pytest.approx(1 - 1500 / 40_000, rel=1e-12)
    assert factor(39_999) == pytest.approx(1 / 40_000, rel=1e-9)
    rising = [factor(step) for step in range(1400)]
    assert rising == sorted(rising)


def test_constant_rates_do_not_fall() -> None:
    factor = segment_rate(validate(SegmentTrainSettings, {"schedule": "constant"}, "train"), 100)
    assert {factor(step) for step in range(100)} == {1.0}


@pytest.mark.parametrize(
    ("n", "drop_last", "epochs"),
    [(10_582, True, 19), (10_582, False, 19), (25, True, 10_000), (25, False, 6667), (3, True, 20_000)],
)
def test_iterations_become_epochs_that_hold_them(n: int, drop_last: bool, epochs: int) -> None:
    values = {"iterations": 20_000, "batch_size": 10, "accumulate": 2, "drop_last": drop_last}
    assert validate(SegmentTrainSettings, values, "train").for_images(n).epochs == epochs


def test_without_iterations_epochs_stay() -> None:
    settings = validate(SegmentTrainSettings, {"epochs": 5}, "train")
    assert settings.for_images(1000) is settings
