"""Parameter groups, update rules and learning-rate schedules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from tag2mask.training.settings import HeadScheduleSettings, ScheduleSettings


def parameter_groups(
    backbone: Sequence[nn.Parameter], head: Sequence[nn.Parameter], settings: HeadScheduleSettings
) -> list[dict[str, Any]]:
    """Backbone and head at their rates; a group with nothing to train is left out."""
    groups = ((backbone, settings.lr), (head, settings.head_lr))
    return [
        {"params": list(p), "lr": rate, "weight_decay": settings.weight_decay} for p, rate in groups if p
    ]  # fmt: skip


def optimiser(groups: list[dict[str, Any]], settings: ScheduleSettings) -> Optimizer:
    """The update rule over groups that carry their own rate and weight decay."""
    if settings.optimiser == "sgd":
        return SGD(groups, lr=settings.lr, momentum=settings.momentum)
    return (AdamW if settings.optimiser == "adamw" else Adam)(groups, lr=settings.lr)


def rate_factor(settings: ScheduleSettings, steps: int) -> Callable[[int], float]:
    """What multiplies the rates at step t = 0 .. steps - 1: (1 - t / steps)^poly_power, or 1."""
    if settings.schedule == "constant":
        return lambda _step: 1.0
    return lambda step: max(0.0, 1.0 - step / steps) ** settings.poly_power


def optimisation(
    backbone: Sequence[nn.Parameter], head: Sequence[nn.Parameter], settings: HeadScheduleSettings, steps: int
) -> OptimizerLRSchedulerConfig:
    """What ``configure_optimizers`` returns for a backbone with a head.

    Args:
        backbone: parameters at ``settings.lr``.
        head: parameters at ``settings.head_lr``.
        settings: the rest.
        steps: of the whole training.
    """
    return scheduled(parameter_groups(backbone, head, settings), settings, steps)


def scheduled(groups: list[dict[str, Any]], settings: ScheduleSettings, steps: int) -> OptimizerLRSchedulerConfig:
    """What ``configure_optimizers`` of a Lightning module returns: update rule and schedule.

    Args:
        groups: parameters with their rate and weight decay.
        settings: the rest.
        steps: of the whole training.
    """
    rule = optimiser(groups, settings)
    schedule = LambdaLR(rule, rate_factor(settings, steps))
    return {"optimizer": rule, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
