"""A training whose batches are computed in parts that cannot be averaged: the loss counts over whole batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from tag2mask.core.ranks import rank, world_size
from tag2mask.training.order import derive
from tag2mask.training.settings import ScheduleSettings

_PART = 3
"""Keeps the seeds of parts apart from other seeds."""


class PartedTraining(LightningModule, ABC):
    """Takes each step itself: what the loss is divided by is counted over the batch, then its parts' gradients add up.

    Lightning would average the losses of a batch's parts, each over its own count. Use it with ``whole_batches`` of
    `fit`. Torch is seeded before each part, so dropout is that of one process for any number of them.

    Args:
        schedule: parts of a batch.
        seed: of the training, at least 0.
    """

    def __init__(self, schedule: ScheduleSettings, seed: int) -> None:
        super().__init__()
        self.schedule, self.seed = schedule, seed
        self.automatic_optimization = False

    @abstractmethod
    def counts(self, batch: Sequence[Tensor]) -> Tensor:
        """What the loss of this process's share of a batch is divided by, not yet summed over the processes."""

    @abstractmethod
    def part_loss(self, part: Sequence[Tensor], counts: Tensor) -> Tensor:
        """The share of the loss that a part has, with `counts` of the batch; the shares add up to the loss."""

    def training_step(self, batch: Sequence[Tensor], batch_idx: int) -> None:
        """One step on this process's share of a batch: tensors with the same first axis."""
        rule, rates = self.optimizers(), self.lr_schedulers()
        assert isinstance(rule, LightningOptimizer)
        assert isinstance(rates, LambdaLR)
        parts = max(1, self.schedule.accumulate // world_size())
        first = batch_idx * self.schedule.accumulate + rank() * parts
        size = -(-len(batch[0]) // parts)
        counts = self.counts(batch)
        rule.zero_grad()
        for number, part in enumerate(zip(*(torch.split(t, size) for t in batch), strict=True), start=first):
            torch.manual_seed(derive(_PART, self.seed, self.current_epoch, number))
            self.manual_backward(self.part_loss(part, counts))
        rule.step()
        rates.step()
