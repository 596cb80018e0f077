"""Learning rates of the second stages' papers: poly, set every few steps, with a warm-up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch.optim.lr_scheduler import LambdaLR

from tag2mask.segmentation.settings import SegmentTrainSettings
from tag2mask.training.optimisation import optimiser, rate_factor

_FROM = 1e-6
"""What multiplies the rates in the first step of a warm-up."""


def segment_rate(settings: SegmentTrainSettings, steps: int) -> Callable[[int], float]:
    """What multiplies the rates at step t = 0 .. steps - 1.

    ``(1 - t' / steps)^poly_power`` with t' the last multiple of ``hold``, times ``1 - (1 - t / warmup) (1 - 1e-6)``
    while t is below ``warmup``.
    """
    plain = rate_factor(settings, steps)

    def factor(step: int) -> float:
        value = plain(step - step % settings.hold)
        return value * (1 - (1 - step / settings.warmup) * (1 - _FROM)) if step < settings.warmup else value

    return factor


def segment_optimisation(
    groups: list[dict[str, Any]], settings: SegmentTrainSettings, steps: int
) -> OptimizerLRSchedulerConfig:
    """What ``configure_optimizers`` of the Lightning module returns: update rule and schedule."""
    rule = optimiser(groups, settings)
    schedule = LambdaLR(rule, segment_rate(settings, steps))
    return {"optimizer": rule, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
