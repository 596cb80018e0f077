"""The finished output of a stage, as later stages read it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tag2mask.core.errors import DamagedError, StageError
from tag2mask.core.files import read_json, write_json
from tag2mask.core.palette import read_keyed
from tag2mask.core.types import ActivationMaps, Sample
from tag2mask.data.base import Dataset
from tag2mask.data.split_views import resized_labels, shrunk_size
from tag2mask.evaluation.thresholds import Levels, Threshold
from tag2mask.inference.maps_file import check_maps, read_maps

T = TypeVar("T")
THRESHOLD = "threshold.json"
FOLDERS = {"maps": ("maps", ".npz"), "masks": ("masks", ".png")}
"""Folder and ending of the files of a stage that makes one file an image, by what it makes."""


@dataclass(frozen=True, slots=True)
class FewMasks:
    """A threshold that was chosen on a few hand-made masks.

    Attributes:
        value: 0..1.
        n: number of images it was chosen on.
        ids: of those images; what is measured with this threshold leaves them out.
        miou: percent, of seeds cut from these images' maps at the threshold.
    """

    value: float
    n: int
    ids: tuple[str, ...]
    miou: float

    def write(self, folder: Path) -> None:
        """Write ``threshold.json``."""
        write_json(folder / THRESHOLD, asdict(self))

    def as_threshold(self) -> Threshold:
        """What stages cut at."""
        return Threshold(self.value, "few-masks", self.n)


@dataclass(frozen=True, slots=True)
class Ruled:
    """A threshold that a rule has chosen from maps alone, or one for each class or image.

    Attributes:
        value: 0..1, of the data set: what a class or an image without a threshold of its own is cut at.
        rule: name of the rule.
        per: what there is a threshold for: ``data``, ``class`` or ``image``.
        n: number of images it was chosen from.
        classes: (name, threshold or None) by class column, for ``class`` only.
        images: (id, threshold), for ``image`` only.
    """

    value: float
    rule: str
    per: str
    n: int
    classes: tuple[tuple[str, float | None], ...] = ()
    images: tuple[tuple[str, float], ...] = ()

    @property
    def ids(self) -> tuple[str, ...]:
        """No image: a rule has seen no truth, and nothing is left out of what is measured with it."""
        return ()

    def write(self, folder: Path) -> None:
        """Write ``threshold.json``."""
        write_json(folder / THRESHOLD, asdict(self))

    def as_threshold(self) -> Threshold:
        """What stages cut at."""
        if self.per == "data":
            return Threshold(self.value, "rule", rule=self.rule)
        levels = Levels(self.value, tuple(value for _, value in self.classes), dict(self.images))
        return Threshold(None, "rule", rule=f"{self.rule}/{self.per}", levels=levels)


@dataclass(frozen=True, slots=True)
class Artefact:
    """The finished output of another stage.

    Attributes:
        name: the instance's name in the recipe.
        path: its folder in the store.
        key: its stage key.
        sample_key: for maps and masks, the key that the file of a sample must carry.
        settings: of the stage that made it.
        reads: what that stage read, by role.
        command: makes what is missing of it.
    """

    name: str
    path: Path
    key: str
    sample_key: Callable[[Dataset, Sample], str]
    settings: Any = None
    reads: Mapping[str, Artefact] = field(default_factory=dict)
    command: str = "tag2mask run RECIPE --out RUN"

    def maps(self, dataset: Dataset, sample: Sample) -> ActivationMaps:
        """The maps of one sample, stride 4, float32.

        Raises:
            StageError: they are missing or damaged, or were made from another image, other tags or in another run.
            DataError: they hold NaN or values outside 0..1, are of no class of the data, or of the wrong size.
        """
        found = self._whole(read_maps, self._existing("maps", dataset, sample))
        self._check_key(found.key, "maps", dataset, sample)
        check_maps(found.maps, found.size, len(dataset.classes), f"'{sample.id}' in stage '{self.name}'")
        return found.maps

    def labels(self, dataset: Dataset, sample: Sample) -> NDArray[np.uint8]:
        """The label image of one sample at the size of its image, (H, W) uint8, 255 where not confident.

        Raises:
            StageError: it is missing or damaged, or was made from another image, other tags or in another run.
        """
        labels = self.stored_labels(dataset, sample)
        if dataset.max_side is None:
            return labels
        height, width = labels.shape
        return resized_labels(labels, *shrunk_size(height, width, dataset.max_side))

    def stored_labels(self, dataset: Dataset, sample: Sample) -> NDArray[np.uint8]:
        """The label image of one sample as it was made: predictions have the photo's size, not the working size."""
        labels, key = self._whole(read_keyed, self._existing("masks", dataset, sample))
        self._check_key(key, "masks", dataset, sample)
        return labels

    def threshold(self) -> FewMasks | Ruled:
        """The threshold that a stage has chosen, on a few masks or by a rule.

        Raises:
            StageError: there is none, or it is damaged.
        """
        path = self.path / THRESHOLD
        if not path.is_file():
            raise StageError(f"stage '{self.name}' has no {path}; make it: {self.command}")
        try:
            values = read_json(path)
            if "rule" not in values:
                return FewMasks(**{**values, "ids": tuple(values["ids"])})
            pairs = {name: tuple((key, value) for key, value in values[name]) for name in ("classes", "images")}
            return Ruled(**{**values, **pairs})
        except (DamagedError, KeyError, TypeError, ValueError) as error:
            raise DamagedError(f"{path} is not what was chosen ({error}). Make it again: {self.command}") from error

    def masks_seen(self) -> frozenset[str]:
        """Ids of the images on whose truth a threshold was chosen, of this stage or of any that it was made from."""
        own = frozenset(self.threshold().ids) if (self.path / THRESHOLD).is_file() else frozenset()
        return own.union(*(artefact.masks_seen() for artefact in self.reads.values()))

    def _whole(self, read: Callable[[Path], T], path: Path) -> T:
        """What is read of a file; where it is damaged, the error names the command that makes it again."""
        try:
            return read(path)
        except DamagedError as error:
            raise DamagedError(f"{error}: {self.command}") from error

    def _existing(self, makes: str, dataset: Dataset, sample: Sample) -> Path:
        folder, ending = FOLDERS[makes]
        path = self.path / folder / f"{sample.id}{ending}"
        if not path.exists():
            raise StageError(
                f"stage '{self.name}' has no {makes} of image '{sample.id}' ({path}). Make them: {self.command}. If "
                f"that is what you ran, the stage does not go over split '{dataset.split}': set {self.name}.split "
                "where it has that setting, else the split of the data that it goes over (data.val for predictions, "
                "data.infer for others), to one that holds the image"
            )
        return path

    def _check_key(self, key: str | None, makes: str, dataset: Dataset, sample: Sample) -> None:
        if key != self.sample_key(dataset, sample):
            raise StageError(
                f"the {makes} of image '{sample.id}' in stage '{self.name}' ({self.path}) were made from another "
                f"image, with other tags or in another run. Make them again: {self.command}"
            )
