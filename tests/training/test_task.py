"""Rates, schedules and parameter groups are those of the settings."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from tag2mask.config.settings import validate
from tag2mask.core.errors import ConfigError
from tag2mask.core.files import value_hash
from tag2mask.training.settings import TrainSettings
from tag2mask.training.task import optimiser, parameter_groups, rate_factor
from tests.helpers.refused import refused
from tests.training.toy import train_settings

STEPS = 10


def rates(**values: object) -> list[tuple[float, float]]:
    """Rates of backbone and head before each of ten steps."""
    settings = train_settings(lr=0.1, head_lr=1.0, **values)
    groups = parameter_groups([nn.Parameter(torch.zeros(2))], [nn.Parameter(torch.zeros(3))], settings)
    rule = optimiser(groups, settings)
    schedule = LambdaLR(rule, rate_factor(settings, STEPS))
    found = []
    for _ in range(STEPS):
        found.append((rule.param_groups[0]["lr"], rule.param_groups[1]["lr"]))
        rule.step()
        schedule.step()
    return found


def test_poly_is_the_papers_formula() -> None:
    expected = [((1 - t / STEPS) ** 0.9) for t in range(STEPS)]
    found = rates(schedule="poly", optimiser="sgd")
    assert [backbone for backbone, _ in found] == pytest.approx([0.1 * e for e in expected], rel=1e-12)
    assert [head for _, head in found] == pytest.approx(expected, rel=1e-12)


def test_poly_power_and_end() -> None:
    factor = rate_factor(train_settings(poly_power=2.0), 4)
    assert [factor(t) for t in range(6)] == [1.0, 0.5625, 0.25, 0.0625, 0.0, 0.0]


def test_constant_stays() -> None:
    assert rates(schedule="constant") == [(0.1, 1.0)] * STEPS


def test_groups_carry_rate_and_weight_decay() -> None:
    backbone, head = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.ones(1))], [nn.Parameter(torch.zeros(3))]
    first, second = parameter_groups(backbone, head, train_settings(lr=0.1, head_lr=1.0, weight_decay=3e-4))
    assert first["params"] == backbone
    assert second["params"] == head
    assert (first["lr"], first["weight_decay"], second["lr"], second["weight_decay"]) == (0.1, 3e-4, 1.0, 3e-4)


def test_a_group_without_parameters_is_left_out() -> None:
    (group,) = parameter_groups([], [nn.Parameter(torch.zeros(3))], train_settings(head_lr=0.5))
    assert group["lr"] == 0.5


@pytest.mark.parametrize("kind", ["sgd", "adamw", "adam"])
def test_update_rules_against_a_slow_reference(kind: str) -> None:
    """Three steps on one weight with gradients 1, -2, 3, in plain numbers."""
    settings = train_settings(optimiser=kind, lr=0.1, weight_decay=0.01)
    weight = nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
    rule = optimiser(parameter_groups([weight], [], settings), settings)
    w, m, v = 2.0, 0.0, 0.0
    for t, g in enumerate([1.0, -2.0, 3.0], start=1):
        weight.grad = torch.tensor([g], dtype=torch.float64)
        rule.step()
        if kind == "sgd":
            w -= 0.1 * (g + 0.01 * w)
            continue
        if kind == "adamw":
            w -= 0.1 * 0.01 * w
        else:
            g += 0.01 * w
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        w -= 0.1 * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)) ** 0.5 + 1e-8)
    assert weight.item() == pytest.approx(w, rel=1e-9)


def test_sgd_has_no_momentum_unless_set() -> None:
    for momentum in (0.0, 0.9):
        settings = train_settings(optimiser="sgd", **({"momentum": momentum} if momentum else {}))
        groups = parameter_groups([nn.Parameter(torch.zeros(1))], [], settings)
        assert optimiser(groups, settings).param_groups[0]["momentum"] == momentum


def test_the_settings_in_the_keys_of_trained_classifiers_have_not_changed() -> None:
    """A field more, less or of another default would make every classifier of every store be trained again."""
    assert value_hash(TrainSettings().model_dump(mode="json")) == (
        "f6de60dcba246fee273f016a5c5abc776bcbc109bae690ccd543b57655754fa8"
    )


def test_defaults_are_the_light_schedule() -> None:
    s = TrainSettings()
    assert (s.epochs, s.batch_size, s.optimiser, s.lr, s.head_lr, s.weight_decay) == (6, 16, "adamw", 2e-4, 2e-3, 1e-4)
    assert (s.momentum, s.schedule, s.poly_power, s.long_side, s.crop) == (0.0, "poly", 0.9, (240, 480), 288)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"batch_size": 6, "accumulate": 4}, "batch_size = 6 … accumulate = 4 parts"),
        ({"long_side": (40, 30)}, "long_side = [40, 30] … [smallest, largest] … both at least 1"),
        ({"long_side": (0, 30)}, "long_side = [0, 30]: expected"),
        ({"momentum": 0.9}, "momentum = 0.9 … only optimiser = sgd … not adamw"),
        ({"epoch": 3}, "unknown setting 'train.epoch': did you mean 'epochs'"),
        ({"optimiser": "rmsprop"}, "setting 'train.optimiser' = 'rmsprop'"),
        ({"lr": 0}, "setting 'train.lr' = 0"),
    ],
)
def test_settings_that_make_no_sense(values: dict[str, object], text: str) -> None:
    with refused(ConfigError, text):
        validate(TrainSettings, values, "train")
