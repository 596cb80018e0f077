"""The order of training images: from seed and epoch alone, the same batches for any number of processes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import Sampler

from tag2mask.core.errors import ConfigError
from tag2mask.training.settings import ScheduleSettings

Draw = tuple[int, int]
"""(epoch, index): which image, and which of its random augmentations."""
_ORDER = 1
"""Keeps the seeds of permutations apart from other seeds."""


def derive(*numbers: int) -> int:
    """A seed for torch from whole numbers of at least 0: well mixed, the same everywhere."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]) >> 1


class EpochOrder(Sampler[Draw]):
    """Gives this process its part of each epoch's batches.

    A batch of the whole run is cut into ``accumulate`` parts of equal size, and process ``r`` of ``w`` takes the
    ``r``-th ``accumulate / w`` of them as its share, so that the batch is the same whatever ``w`` is. Where images
    are too few to fill a batch (or ``drop_last`` is off) it is filled by going round again in another order, with
    other augmentations.

    Args:
        n: number of images, at least 1.
        settings: batch size, parts, epochs.
        seed: of the training.
        rank: r.
        world: w.

    Attributes:
        share: images of a batch that this process takes.
        batches: of an epoch.
    """

    def __init__(self, n: int, settings: ScheduleSettings, seed: int, rank: int = 0, world: int = 1) -> None:
        check_parts(settings, world)
        self.n, self.settings, self.seed, self.rank, self.epoch = n, settings, seed, rank, 0
        self.share = settings.batch_size // world
        rounding = n // settings.batch_size if settings.drop_last else -(-n // settings.batch_size)
        self.batches = max(1, rounding)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, counted from 0."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Images this process takes in an epoch."""
        return self.batches * self.share

    def __iter__(self) -> Iterator[Draw]:
        order = self.whole_epoch()
        for batch in range(self.batches):
            start = batch * self.settings.batch_size + self.rank * self.share
            yield from order[start : start + self.share]

    def whole_epoch(self) -> list[Draw]:
        """The epoch's images in the order of all processes together."""
        wanted = self.batches * self.settings.batch_size
        order: list[Draw] = []
        for lap in range(-(-wanted // self.n)):
            generator = torch.Generator().manual_seed(derive(_ORDER, self.seed, self.epoch, lap))
            draw = self.epoch + lap * self.settings.epochs  # an image seen again looks different
            order += [(draw, i) for i in torch.randperm(self.n, generator=generator).tolist()]
        return order[:wanted]


def check_parts(settings: ScheduleSettings, world: int) -> None:
    """Refuse parts of a batch that processes cannot share."""
    if settings.accumulate % world:
        raise ConfigError(
            f"train.accumulate = {settings.accumulate} cannot be shared by {world} processes: set it to a multiple "
            f"of {world} that divides train.batch_size = {settings.batch_size}"
        )
