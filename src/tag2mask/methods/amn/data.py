"""Training images with their tags and refined seeds on the grid of the logits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tag2mask.core.errors import DataError
from tag2mask.core.types import IGNORE, Sample
from tag2mask.data.base import Dataset, Labels
from tag2mask.data.transforms import TrainTransform
from tag2mask.methods.irn.data import SeedImages, Seeds
from tag2mask.training.images import tag_vector


class TaggedSeedImages(SeedImages):
    """Augmented images (3, crop, crop), tags (C,) as 0 and 1, and labels (h, w) uint8, 255 outside the image.

    Args:
        dataset: opens the images.
        samples: which of its samples.
        seeds: gives their refined seeds.
        transform: augments image and seeds together.
        seed: of the training.
        grid: rows and columns (h, w) of the logits of a crop.
    """

    def __init__(
        self,
        dataset: Dataset,
        samples: Sequence[Sample],
        seeds: Seeds,
        transform: TrainTransform,
        seed: int,
        grid: tuple[int, int],
    ) -> None:
        super().__init__(dataset, samples, seeds, transform, seed)
        self.grid = grid

    def augmented(self, sample: Sample, content: object) -> tuple[Tensor, ...]:
        """The augmented image, its tags and the reduced labels."""
        image, labels = self.transform(*content)  # type: ignore[misc]  # what `read` gave
        assert labels is not None  # there were seeds
        return image, tag_vector(sample, len(self.dataset.classes)), at_grid(labels, *self.grid).to(torch.uint8)


def at_grid(labels: Tensor, height: int, width: int) -> Tensor:
    """Labels on a smaller grid, as Pillow's nearest does it: index floor((i + 1/2) H / height), in whole numbers.

    Where that is a whole number before rounding, Pillow's sum of fractions may fall just below it.

    Args:
        labels: (..., H, W).
        height: rows of the result.
        width: columns of the result.

    Returns:
        (..., height, width).
    """
    rows, columns = (
        (2 * torch.arange(n, device=labels.device) + 1) * side // (2 * n)
        for n, side in zip((height, width), labels.shape[-2:], strict=True)
    )
    return labels[..., rows[:, None], columns]


def checked(seeds: Seeds, classes: Sequence[str]) -> Seeds:
    """Refined seeds that refuse what cannot belong to their sample.

    Args:
        seeds: gives labels.
        classes: of the data.

    Returns:
        ``seeds`` that raises a DataError for a label above the class list, and for classes none of which the sample is
        tagged with.
    """

    def give(sample: Sample) -> Labels:
        labels = seeds(sample)
        check_labels(np.flatnonzero(np.bincount(labels.ravel())).tolist(), sample.tags, classes, f"image '{sample.id}'")
        return labels

    return give


def check_labels(found: Sequence[int], tags: Sequence[int], classes: Sequence[str], what: str) -> None:
    """Refuse labels that cannot belong to an image of these tags.

    Args:
        found: the labels that occur: 0, c + 1 for class column c, 255.
        tags: class columns present.
        classes: of the data.
        what: the image, for the error text.

    Raises:
        DataError: a label above the class list, or foreground labels none of which is of a tag.
    """
    present = [label for label in found if label not in (0, IGNORE)]
    beyond = [label for label in present if not 1 <= label <= len(classes)]
    if beyond:
        raise DataError(
            f"the refined seeds of {what} hold the label {beyond[0]}, but the data has {len(classes)} classes: "
            f"expected 0 (background), 1 to {len(classes)}, and 255 (unsure). Make them again with these classes"
        )
    if present and not {label - 1 for label in present} & set(tags):
        seen, named = ([classes[c] for c in columns] for columns in ((label - 1 for label in present), tags))
        raise DataError(
            f"the refined seeds of {what} show {', '.join(seen)}, but its tags are "
            f"{', '.join(named) or 'none'}: they have no class in common. Make the seeds from maps of these tags"
        )
