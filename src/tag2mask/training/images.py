"""Training images: their order, which gives any number of processes the same batches, and their augmentation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import Sampler

from tag2mask.core.errors import ConfigError
from tag2mask.core.prefetch import prefetch
from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset
from tag2mask.data.transforms import TrainTransform, seeded
from tag2mask.training.settings import ScheduleSettings

Draw = tuple[int, int]
"""(epoch, index): which image, and which of its random augmentations."""
_ORDER = 1
"""Keeps the seeds of permutations apart from other seeds."""
_DECODERS = 2


def derive(*numbers: int) -> int:
    """A seed for torch from whole numbers of at least 0: well mixed, the same everywhere."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]) >> 1


class EpochOrder(Sampler[Draw]):
    """Gives this process its part of each epoch's batches.

    A batch of the whole run is cut into ``accumulate`` parts of equal size, and process ``r`` of ``w`` takes the
    ``r``-th ``accumulate / w`` of them as its share, so that the batch is the same whatever ``w`` is. Where images
    are too few to fill a batch (or ``drop_last`` is off) it is filled with the same images in another order, with
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
        self.batches = settings.batches(n)

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


class AugmentedImages(TorchDataset[tuple[Tensor, ...]], ABC):
    """Images of some samples as augmented tensors, each with what is to be learned from it.

    Args:
        samples: which.
        seed: of the training.
    """

    def __init__(self, samples: Sequence[Sample], seed: int) -> None:
        self.samples, self.seed = samples, seed

    @abstractmethod
    def read(self, sample: Sample) -> Any:
        """What a sample is made of, read from files; called in threads."""

    @abstractmethod
    def augmented(self, sample: Sample, content: Any) -> tuple[Tensor, ...]:
        """The image and what is to be learned from it, from what `read` gave, with torch's random numbers."""

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.samples)

    def __getitem__(self, draw: Draw) -> tuple[Tensor, ...]:
        return self.__getitems__([draw])[0]

    def __getitems__(self, draws: Sequence[Draw]) -> list[tuple[Tensor, ...]]:
        """Images and targets of a batch; threads decode while this one augments."""
        contents = prefetch(lambda draw: self.read(self.samples[draw[1]]), draws, _DECODERS)
        result = []
        for (epoch, index), content in zip(draws, contents, strict=True):
            with seeded(self.seed, epoch, index):
                result.append(self.augmented(self.samples[index], content))
        return result


class TagImages(AugmentedImages):
    """Augmented images (3, crop, crop) with their tags (C,) as 0 and 1.

    Args:
        dataset: opens the images.
        samples: which of its samples.
        transform: augments one image.
        seed: of the training.
    """

    def __init__(self, dataset: Dataset, samples: Sequence[Sample], transform: TrainTransform, seed: int) -> None:
        super().__init__(samples, seed)
        self.dataset, self.transform = dataset, transform

    def read(self, sample: Sample) -> Any:
        """The image."""
        return self.dataset.image(sample)

    def augmented(self, sample: Sample, content: Any) -> tuple[Tensor, Tensor]:
        """The augmented image and the tags."""
        return self.transform(content)[0], tag_vector(sample, len(self.dataset.classes))


def tag_vector(sample: Sample, n_classes: int) -> Tensor:
    """Tags of a sample as float32 (C,): 1 for a class that is present, else 0."""
    tags = torch.zeros(n_classes)
    tags[list(sample.tags)] = 1
    return tags
