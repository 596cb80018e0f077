"""Training images with their tags, augmented from (seed, epoch, index) alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from tag2mask.core.ahead import ahead
from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset
from tag2mask.data.transforms import TrainTransform, seeded
from tag2mask.training.order import Draw

_DECODERS = 2


class TagImages(TorchDataset[tuple[Tensor, Tensor]]):
    """Images of some samples as augmented tensors, with their tags as 0 and 1.

    Args:
        dataset: opens the images.
        samples: which of its samples.
        transform: augments one image.
        seed: of the training.
    """

    def __init__(self, dataset: Dataset, samples: Sequence[Sample], transform: TrainTransform, seed: int) -> None:
        self.dataset, self.samples, self.transform, self.seed = dataset, samples, transform, seed

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.samples)

    def __getitem__(self, draw: Draw) -> tuple[Tensor, Tensor]:
        return self.__getitems__([draw])[0]

    def __getitems__(self, draws: Sequence[Draw]) -> list[tuple[Tensor, Tensor]]:
        """Images (3, crop, crop) and tags (C,) of a batch; threads decode while this one augments."""
        images = ahead(lambda draw: self.dataset.image(self.samples[draw[1]]), draws, _DECODERS)
        result = []
        for (epoch, index), image in zip(draws, images, strict=True):
            with seeded(self.seed, epoch, index):
                result.append((self.transform(image)[0], tag_vector(self.samples[index], len(self.dataset.classes))))
        return result


def tag_vector(sample: Sample, n_classes: int) -> Tensor:
    """Tags of a sample as float32 (C,): 1 for a class that is present, else 0."""
    tags = torch.zeros(n_classes)
    tags[list(sample.tags)] = 1
    return tags
