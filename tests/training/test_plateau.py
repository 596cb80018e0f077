"""A training that ends by the loss of images held out."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import default_collate

from tag2mask.config.settings import key_values, validate
from tag2mask.core.errors import ConfigError, TrainingError
from tag2mask.core.types import Sample
from tag2mask.training.fit import fit
from tag2mask.training.losses import multilabel_soft_margin
from tag2mask.training.plateau import Plateau, held_out
from tag2mask.training.settings import StopSettings, TrainSettings
from tests.helpers.refused import refused
from tests.training.toy import Toy, engine, images, train_settings, weights

STOP: dict[str, Any] = {"every": 3, "patience": 2, "gain": 0.1, "decay": 0.5, "most_steps": 60}


def plateau(losses: list[float], epochs: int = 2, **values: Any) -> Plateau:
    """Over 13 images in batches of 4, three steps an epoch and a look after each."""
    left = iter(losses)
    stop = validate(StopSettings, {**STOP, **values}, "stop")
    return Plateau(stop, train_settings(epochs=epochs, poly_power=1.0), 13, lambda: next(left))


def looked(found: Plateau, epochs: int) -> Plateau:
    for epoch in range(1, epochs + 1):
        found.check(epoch)
    return found


def test_rates_fall_once_the_loss_has_gained_nothing_at_some_looks() -> None:
    found = plateau([1.0, 0.8, 0.75, 0.74, 9.0])
    looked(found, 3)
    assert found.fall is None
    assert [found.factor(step) for step in (0, 5, 8)] == [1, 1, 1]
    found.check(4)
    assert found.losses == [1.0, 0.8, 0.75, 0.74], "0.75 and 0.74 are no tenth below 0.8"
    assert found.state()["fall"] == [4, 6]
    assert found.end == 6
    assert [found.factor(step) for step in range(12, 19)] == pytest.approx([1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0])
    found.check(5)
    assert len(found.losses) == 4, "what is decided stays"


def test_epochs_and_least_steps_come_first() -> None:
    found = looked(plateau([1.0] * 9, epochs=7), 6)
    assert found.fall is None
    assert looked(plateau([1.0] * 9, epochs=7), 7).fall == (7, 11)


def test_a_loss_that_falls_for_ever_ends_at_the_most_steps() -> None:
    found = plateau([0.5**n for n in range(99)])
    assert found.most == 20
    looked(found, 20)
    assert found.fall == (13, 20)
    assert found.factor(60) == 0


def test_looks_are_whole_epochs_apart() -> None:
    found = plateau([1.0, 2.0, 3.0], every=4)
    assert found.every == 2
    assert looked(found, 4).losses == [1.0, 2.0]


def test_a_loss_that_is_nan_is_no_gain() -> None:
    assert looked(plateau([1.0, math.nan, math.nan]), 3).fall == (3, 5)


def test_the_first_process_decides_for_all() -> None:
    found = plateau([1.0] * 4)
    for epoch in range(1, 5):
        found.check(epoch, lambda _own, epoch=epoch: 1.0 / epoch)  # type: ignore[misc]
    assert found.fall is None
    assert found.losses == [1, 1 / 2, 1 / 3, 1 / 4]


def test_images_held_out_leave_two_of_each_class() -> None:
    samples = [Sample(f"{i:02d}", tags) for i, tags in enumerate([(0,)] * 10 + [(1,)] * 2 + [(0, 2)] * 3 + [()] * 5)]
    kept, out = held_out(samples, 0.5, seed=1)
    assert sorted(s.id for s in kept + out) == [s.id for s in samples]
    assert [s.id for s in kept] == sorted(s.id for s in kept)
    for c in range(3):
        assert sum(c in s.tags for s in kept) >= 2
    assert len(out) == 10
    assert held_out(samples, 0.5, seed=1) == (kept, out)
    assert held_out(samples, 0.5, seed=2) != (kept, out)
    assert len(held_out(samples, 0.1, seed=1)[1]) == 2
    assert held_out([Sample("a", (0,)), Sample("b", (1,))], 0.5, 0)[1] == []


class Ending(Toy):
    """The toy, which ends by its loss on five images."""

    def __init__(self, settings: TrainSettings, **stop: Any) -> None:
        super().__init__(settings)
        data = images()
        batch = default_collate([data[(99, i)] for i in range(5)])

        def loss() -> float:
            with torch.no_grad():
                return float(multilabel_soft_margin(self.eval().logits(batch[0]), batch[1]))

        self.plateau = Plateau(validate(StopSettings, {**STOP, **stop}, "stop"), settings, 13, loss)
        self.schedule = settings.model_copy(update={"epochs": self.plateau.most})
        self.rate = lambda _settings, _steps: self.plateau.factor  # type: ignore[union-attr]


def trained(out: Path, poison: int = -1, **stop: Any) -> Ending:
    module = Ending(train_settings(epochs=2), **stop)
    module.poison_step = poison
    fit(module, images(), out=out, seed=3, engine=engine())
    return module


@pytest.mark.parametrize("step", [7, 10, 14])
def test_interrupted_before_or_while_rates_fall_it_resumes_bit_for_bit(tmp_path: Path, step: int) -> None:
    whole = trained(tmp_path / "whole")
    assert whole.plateau is not None
    assert whole.plateau.fall is not None
    first, last = whole.plateau.fall
    assert whole.steps == 3 * last < 60
    assert 7 < 3 * first <= 10 < 14 < 3 * last, "the first step is before the rates fall, the others while they do"
    with pytest.raises(TrainingError):
        trained(tmp_path / "cut", poison=step)
    resumed = trained(tmp_path / "cut")
    assert resumed.plateau is not None
    assert resumed.plateau.state() == whole.plateau.state()
    assert all(torch.equal(v, weights(resumed)[k]) for k, v in weights(whole).items())
    assert resumed.steps == whole.steps - step // 3 * 3


def test_no_stop_is_in_no_key_and_wrong_ones_are_refused() -> None:
    assert "stop" not in key_values(TrainSettings())
    assert "stop" not in TrainSettings().model_dump()
    for name, value in {"held_out": 0, "patience": 0, "gain": 1, "decay": 0, "most_steps": 0}.items():
        with refused(ConfigError, f"train.stop.{name}", str(value)):
            validate(TrainSettings, {"stop": {name: value}}, "train")
