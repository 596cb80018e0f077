"""A data set of image files: subset of the classes, safe ids, masks in the upright frame of their image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated

import numpy as np
from PIL import Image
from pydantic import Field

from tag2mask.core.errors import DataError
from tag2mask.core.files import value_hash
from tag2mask.core.types import IGNORE, Sample
from tag2mask.data.base import Dataset, DataSettings, Labels
from tag2mask.data.image_names import check_ids
from tag2mask.data.images import read_image, upright_size
from tag2mask.data.layout import check_classes, columns
from tag2mask.data.mask_files import Palette, align_labels, array_size, is_array, read_array, read_labels

PixelValue = Annotated[int, Field(ge=0, le=65535)]
MaskLabel = Annotated[int, Field(ge=0, le=IGNORE)]


class MaskFileSettings(DataSettings):
    """Settings of readers whose ground truth is mask files."""

    mask_values: dict[PixelValue, MaskLabel] | None = Field(
        None,
        description="label of each value in the mask files that is not the label itself, such as {255: 1} where 255 "
        "is the object; 0 is background, 1 the first class, 255 ignored",
    )


class FileDataset(Dataset):
    """One split whose images are files.

    An image with none of the chosen classes stays, as a verified negative.

    Args:
        name: the reader's name.
        split: the split's name.
        found: the samples in any order, their tags as columns of ``all_classes``.
        all_classes: every class of the data set; ``all_classes[i]`` is index ``i + 1`` in the mask files.
        classes: the classes to keep, in the order to keep them; None keeps all.
        palette: label index of each colour, for masks stored in colour.
        mask_values: label index of values in the mask files that are not the index themselves.
    """

    def __init__(
        self,
        name: str,
        split: str,
        found: Iterable[Sample],
        all_classes: Sequence[str],
        classes: Sequence[str] | None = None,
        palette: Palette | None = None,
        mask_values: Mapping[int, int] | None = None,
    ) -> None:
        self.name, self.split, self._palette, self._mask_values = name, split, palette, dict(mask_values or {})
        self._all_classes = check_classes(all_classes, f"the class list of data={name}")
        self.tag_names = self._all_classes
        self.classes = self._all_classes if classes is None else check_classes(classes, "data.classes")
        columns(self.classes, self._all_classes, "data.classes")
        for value, label in self._mask_values.items():
            if len(self._all_classes) < label != IGNORE:
                raise DataError(f"data.mask_values: {value} is to be {label}, {self._expected()}")
        kept = {self._all_classes.index(c): column for column, c in enumerate(self.classes)}
        self.samples = tuple(sorted((_chosen(s, kept) for s in found), key=lambda s: s.id))
        if not self.samples:
            raise DataError(f"split '{split}' of data={name} holds no images")
        check_ids(s.id for s in self.samples)
        self._relabel = np.full(256, IGNORE, dtype=np.uint8)
        self._relabel[0] = 0
        for old, new in kept.items():
            self._relabel[old + 1] = new + 1

    def image(self, sample: Sample) -> Image.Image:
        """The image in RGB, upright; see `read_image`."""
        assert sample.image is not None
        return read_image(sample.image)

    def truth(self, sample: Sample) -> Labels | None:
        """The ground truth as `Dataset.truth` says; pixels of classes that were not chosen are 255."""
        labels = self.stored_labels(sample)
        if labels is None:
            return None
        assert sample.image is not None
        what = f"mask {sample.truth}" if sample.truth else f"the mask of '{sample.id}'"
        labels = align_labels(labels, sample.image, what)
        strange = np.unique(labels[(labels > len(self._all_classes)) & (labels != IGNORE)])
        if strange.size:
            raise DataError(
                f"{what} holds {'index' if strange.size == 1 else 'indices'} {', '.join(map(str, strange))}: "
                f"{self._expected()}. If a value stands for another, say so: 'data.mask_values={{{strange[0]}: 1}}'"
            )
        return self._relabel[labels]

    def _expected(self) -> str:
        return f"expected 0 (background), 1..{len(self._all_classes)} (classes in their order) or 255 (ignored)"

    @property
    def truth_reading(self) -> str:
        """Hash of what mask files mean where that is not their indices as they are; see `Dataset.truth_reading`."""
        palette = sorted([*colour, label] for colour, label in (self._palette or {}).items())
        values = sorted(self._mask_values.items())
        labels = self._relabel[: len(self._all_classes) + 1].tolist()
        plain = not (palette or values) and labels == list(range(len(labels)))
        return "" if plain else value_hash([palette, values, labels])

    def stored_labels(self, sample: Sample) -> Labels | None:
        """The mask as stored, (H, W) uint8 with indices of the full class list, or None without one."""
        if sample.truth is None:
            return None
        if is_array(sample.truth):
            return read_array(sample.truth, self._mask_values)
        return read_labels(sample.truth, self._palette, self._mask_values)

    def mask_size(self, sample: Sample) -> tuple[int, int] | None:
        """(H, W) of the mask file, by its header."""
        if sample.truth is None:
            return None
        return array_size(sample.truth) if is_array(sample.truth) else upright_size(sample.truth)

    @property
    def has_truth(self) -> bool:
        """Whether any sample has a mask file."""
        return any(s.truth is not None for s in self.samples)


def _chosen(sample: Sample, kept: dict[int, int]) -> Sample:
    return replace(sample, tags=tuple(sorted(kept[t] for t in sample.tags if t in kept)))
