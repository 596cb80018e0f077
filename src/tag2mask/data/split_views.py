"""Views of a split: the images that a text file lists (``SPLIT@FILE``), and all images at a working size."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
from PIL import Image

from tag2mask.core.errors import DataError, nearest
from tag2mask.core.names import is_utf8, shown
from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset, Ground, Labels
from tag2mask.data.image_names import JOINT, without_suffix
from tag2mask.data.images import upright_size
from tag2mask.data.layout import read_lines

MARK = "@"


def on_ground(dataset: Dataset, background: Ground) -> Dataset:
    """The split on data whose pixels of no class are of another kind; all else stays."""
    if dataset.background == background:
        return dataset
    changed = copy.copy(dataset)
    changed.background = background
    return changed


def part_of(dataset: Dataset, path: Path) -> Dataset:
    """The samples whose ids or file names a text file lists, one a line, in the data set's order; all else stays."""
    if not is_utf8(path):
        raise DataError(f"the name of the list {shown(path)} is not UTF-8, and results carry it: rename it")
    lines = read_lines(path)
    if not lines:
        raise DataError(f"{path} lists no image: expected ids of split '{dataset.split}', one a line")
    known = {sample.id for sample in dataset.samples}
    lines = [(number, name if name in known else _as_id(name)) for number, name in lines]
    for number, name in lines:
        if name not in known:
            near = nearest(name, known)
            hint = f"; did you mean '{near}'?" if near else ""
            raise DataError(f"{path}, line {number}: split '{dataset.split}' has no image '{name}'{hint}")
    names = {name for _, name in lines}
    part = copy.copy(dataset)
    part.samples = tuple(sample for sample in dataset.samples if sample.id in names)
    part.split = f"{dataset.split}{MARK}{path}"
    return part


def _as_id(name: str) -> str:
    """The id of the image that a line names by its file, in a sub-folder perhaps."""
    return without_suffix(name).replace("/", JOINT)


class ResizedImages(Dataset):
    """A split whose images have ``min_side`` to ``max_side`` pixels on their longest side, see `fitted_size`.

    Maps and masks made of it have the working size too; predictions that of the photo, as those of new photos.
    """

    def __init__(self, dataset: Dataset, max_side: int | None = None, min_side: int | None = None) -> None:
        self.name, self.split, self.classes, self.samples = (
            dataset.name, dataset.split, dataset.classes, dataset.samples,
        )  # fmt: skip
        self.findings, self.tag_names, self.sources = dataset.findings, dataset.tag_names, dataset.sources
        self.sidecar_folders, self.background = dataset.sidecar_folders, dataset.background
        self.max_side, self.min_side = max_side, min_side
        self._whole = dataset

    def image(self, sample: Sample) -> Image.Image:
        """The image in RGB, shrunk with antialiasing or enlarged."""
        image = self._whole.image(sample)
        height, width = self._fitted(image.height, image.width)
        return image if image.size == (width, height) else image.resize((width, height), Image.Resampling.BICUBIC)

    def photo(self, sample: Sample) -> Image.Image:
        """The image as it is."""
        return self._whole.photo(sample)

    def truth(self, sample: Sample) -> Labels | None:
        """The ground truth at the size of the image, nearest pixels."""
        labels = self._whole.truth(sample)
        if labels is None:
            return None
        height, width = labels.shape
        return resized_labels(labels, *self._fitted(height, width))

    def mask_size(self, sample: Sample) -> tuple[int, int] | None:
        """(H, W) of the ground truth as stored, before it is resized."""
        return self._whole.mask_size(sample)

    def enlargement(self, sample: Sample) -> float:
        """Longest side of the ground truth over that of its file, at least 1."""
        stored = None if self.min_side is None else self.mask_size(sample)  # else no file has to be opened
        return 1.0 if stored is None else max(1.0, max(self._fitted(*stored)) / max(stored))

    def remarks(self, sample: Sample) -> tuple[str, ...]:
        """What is doubtful about a sample."""
        return self._whole.remarks(sample)

    @property
    def has_truth(self) -> bool:
        """Whether any sample has ground truth."""
        return self._whole.has_truth

    @property
    def truth_reading(self) -> str:
        """How mask files become labels."""
        return self._whole.truth_reading

    def content_hash(self, sample: Sample) -> str:
        """SHA-256 of what the image is made of before it is resized."""
        return self._whole.content_hash(sample)

    def working_size(self, sample: Sample) -> tuple[int, int] | None:
        """(H, W) that the image is brought to; None where it stays as it is."""
        whole = self._whole.image(sample).size[::-1] if sample.image is None else upright_size(sample.image)
        size = self._fitted(*whole)
        return None if size == whole else size

    def _fitted(self, height: int, width: int) -> tuple[int, int]:
        return fitted_size(height, width, self.max_side, self.min_side)


def fitted_size(height: int, width: int, max_side: int | None, min_side: int | None) -> tuple[int, int]:
    """(H, W) with the longest side at most ``max_side`` and at least ``min_side``, the shape kept.

    Each side is at least 1; None leaves that side of it open; a size that is fitted already stays.
    """
    longest = max(height, width)
    factor = max(min(longest, max_side or longest), min_side or 0) / longest
    return max(1, round(height * factor)), max(1, round(width * factor))


def shrunk_size(height: int, width: int, max_side: int) -> tuple[int, int]:
    """(H, W) with the longest side at most ``max_side``, the shape kept, each side at least 1."""
    return fitted_size(height, width, max_side, None)


def resized_labels(labels: Labels, height: int, width: int) -> Labels:
    """(H, W) uint8 to another size, each pixel from the nearest one."""
    if labels.shape == (height, width):
        return labels
    return np.asarray(Image.fromarray(labels).resize((width, height), Image.Resampling.NEAREST))
