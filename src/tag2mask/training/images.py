"""Training images, augmented from (seed, epoch, index) alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from tag2mask.core.prefetch import prefetch
from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset
from tag2mask.data.transforms import TrainTransform, seeded
from tag2mask.training.order import Draw

_DECODERS = 2


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
