"""`Task`, which each method hands to the training loop: a network, the loss of a batch, update rule and rates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from tag2mask.training.plateau import Plateau
from tag2mask.training.settings import HeadScheduleSettings, ScheduleSettings

Groups = list[dict[str, Any]]
"""Parameter groups, each with its own rate and weight decay."""
Batch = Sequence[Tensor]
"""Tensors with the same first axis."""


def rate_factor(settings: ScheduleSettings, steps: int) -> Callable[[int], float]:
    """What multiplies the rates at step t = 0 .. steps - 1: (1 - t / steps)^poly_power, or 1."""
    if settings.schedule == "constant":
        return lambda _step: 1.0
    return lambda step: max(0.0, 1.0 - step / steps) ** settings.poly_power


class Task(nn.Module):
    """A network and how it is trained.

    A loss that is a mean over images is averaged over the parts of a batch, and over processes. One that is a ratio
    over a whole batch, such as a mean over labelled pixels, has ``counts``: its parts then add up to the loss.

    Args:
        net: is trained in place.
        schedule: of the training.
        groups: the trained parameters.
        loss: from a part of a batch, and what ``counts`` gave for the whole, to the part's loss, a scalar.
        counts: what the loss of this process's share of a batch is divided by; None where it is a mean over images.
        rate: from schedule and number of steps to what multiplies the rates at step t = 0 .. steps - 1.
        plateau: decides instead when the rates fall and the training ends; None where the schedule says it.
    """

    def __init__(
        self,
        net: nn.Module,
        schedule: ScheduleSettings,
        groups: Groups,
        loss: Callable[[Batch, Tensor | None], Tensor],
        counts: Callable[[Batch], Tensor | None] = lambda _batch: None,
        rate: Callable[[Any, int], Callable[[int], float]] = rate_factor,
        plateau: Plateau | None = None,
    ) -> None:
        super().__init__()
        self.net, self.schedule, self.groups = net, schedule, groups
        self.loss, self.counts, self.rate, self.plateau = loss, counts, rate, plateau
        if plateau is not None:
            self.schedule = schedule.model_copy(update={"epochs": plateau.most})
            self.rate = lambda _schedule, _steps: plateau.factor

    def forward(self, part: Batch, counts: Tensor | None) -> Tensor:
        """The loss of a part of a batch."""
        return self.loss(part, counts)


def parameter_groups(
    backbone: Sequence[nn.Parameter], head: Sequence[nn.Parameter], settings: HeadScheduleSettings
) -> Groups:
    """Backbone and head at their rates; a group with nothing to train is left out."""
    groups = ((backbone, settings.lr), (head, settings.head_lr))
    return [
        {"params": list(p), "lr": rate, "weight_decay": settings.weight_decay} for p, rate in groups if p
    ]  # fmt: skip


def optimiser(groups: Groups, settings: ScheduleSettings) -> Optimizer:
    """The update rule over groups that carry their own rate and weight decay."""
    if settings.optimiser == "sgd":
        return SGD(groups, lr=settings.lr, momentum=settings.momentum)
    return (AdamW if settings.optimiser == "adamw" else Adam)(groups, lr=settings.lr)
