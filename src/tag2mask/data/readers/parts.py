"""Reader ``parts``: drawn scenes made for what the methods are about, with exact ground truth and no download.

Each scene of ``toys`` holds one to three pull-along toys. All toys share their body and wheels; the head alone shows
the class (the discriminative part, on which a classifier's maps stop short). Trains come with rails and boats with
water (the context that a classifier takes for the class), which are background in the masks.
`tag2mask.data.scenes.layout.RULES` says what the three difficulties mean. The other kinds (`DRAWN`) are thin lines,
tiny defects, a patchwork without background, one thing on plain ground, and two classes that look alike.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from tag2mask.config.settings import UNPRINTED
from tag2mask.core.errors import DataError
from tag2mask.core.files import value_hash
from tag2mask.core.types import IGNORE, Sample
from tag2mask.data.base import Dataset, DataSettings, Labels
from tag2mask.data.layout import check_classes, columns
from tag2mask.data.scenes import marks, paint, patchwork, things
from tag2mask.data.scenes.drawing import Drawing, Kind
from tag2mask.data.scenes.layout import CLASSES, RULES, Difficulty, lay_out, sides
from tag2mask.data.scenes.model import Scene

VERSION = 1
"""Raise it whenever a pixel changes: it is in the content hash and in the seed."""

Side = Annotated[int, Field(ge=64, le=1024)]
Scenes = Literal["toys", "lines", "defects", "patchwork", "blobs", "lookalikes"]
DRAWN: dict[Scenes, Kind] = {
    "lines": marks.LINES_KIND,
    "defects": marks.DEFECTS_KIND,
    "patchwork": patchwork.KIND,
    "blobs": things.BLOBS_KIND,
    "lookalikes": things.ALIKE_KIND,
}
"""What ``scenes`` may name beside the toys."""
_SPLIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


class PartsSettings(DataSettings):
    """Settings of the drawn scenes; ``root`` is not used."""

    images: int = Field(300, ge=1, le=100_000, description="scenes in each split")
    size: Side | tuple[Side, Side] = Field(128, description="long side with varying aspect, or [height, width]; pixels")
    difficulty: Difficulty = Field("medium", description="easy, medium or hard, as the rule in docs/parts.md says")
    seed: int = Field(0, ge=0, lt=2**32, description="of the scenes, not of a training")
    scenes: Scenes = Field(
        "toys",
        description="what is drawn: toys, lines, defects, patchwork (no background), blobs or lookalikes",
        json_schema_extra=UNPRINTED,
    )


SETTINGS = PartsSettings


class PartsDataset(Dataset):
    """One split of drawn scenes.

    A scene depends on settings (without ``images`` and ``classes``), split and index alone; the split may have any name
    of letters, digits, ``-`` and ``_``.
    """

    name = "parts"
    has_truth = True

    def __init__(self, settings: PartsSettings, split: str) -> None:
        if not _SPLIT.fullmatch(split):
            raise DataError(
                f"split '{split}' of the drawn scenes: use letters, digits, '-' and '_', such as data.train=train"
            )
        self.settings, self.split, self._drawn = settings, split, split  # a part of a split is named otherwise
        self._kind = DRAWN.get(settings.scenes)
        self._every = self._kind.classes if self._kind else CLASSES
        self.classes = self._every if settings.classes is None else check_classes(settings.classes, "data.classes")
        columns(self.classes, self._every, "data.classes")
        self.samples = tuple(self._sample(index) for index in range(settings.images))

    def image(self, sample: Sample) -> Image.Image:
        """The picture in RGB."""
        if self._kind is not None:
            drawing, rng = self._drawing(self._kind, self._index(sample))
            return Image.fromarray(paint.exposed(drawing.paint(rng), drawing.noise, rng), mode="RGB")
        scene, rng = self._scene(self._index(sample))
        return Image.fromarray(paint.picture(scene, rng), mode="RGB")

    def truth(self, sample: Sample) -> Labels:
        """The exact ground truth, (H, W) uint8."""
        return self._columns()[self._labels(self._index(sample))]

    def scene(self, sample: Sample) -> Scene:
        """What stands where in a sample of toys, with class columns of `CLASSES`.

        Raises:
            DataError: the scenes are of another kind.
        """
        if self._kind is not None:
            raise DataError(f"data.scenes = {self.settings.scenes} has no toys to lay out; only data.scenes=toys has")
        return self._scene(self._index(sample))[0]

    def content_hash(self, sample: Sample) -> str:
        """SHA-256 of all that the picture depends on."""
        shared = self.settings.model_dump(mode="json", include={"size", "difficulty", "seed", "scenes"})
        return value_hash(["parts", VERSION, shared, self._drawn, self._index(sample)])

    def _sample(self, index: int) -> Sample:
        tags = self._drawing(self._kind, index)[0].tags if self._kind else self._scene(index)[0].tags
        columns = {int(self._columns()[kind + 1]) for kind in tags} - {IGNORE}
        return Sample(f"{self._drawn}-{index:05d}", tuple(sorted(c - 1 for c in columns)))

    def _index(self, sample: Sample) -> int:
        return int(sample.id.rpartition("-")[2])

    def _labels(self, index: int) -> NDArray[np.uint8]:
        """The ground truth as drawn, with class columns of all classes."""
        return self._drawing(self._kind, index)[0].labels if self._kind else paint.truth(self._scene(index)[0])

    def _scene(self, index: int) -> tuple[Scene, np.random.Generator]:
        """The toys of a number and the generator that then draws their pixels."""
        rng, s = self._generator(index), self.settings
        return lay_out(rng, RULES[s.difficulty], s.size, first=index % len(CLASSES)), rng

    def _drawing(self, kind: Kind, index: int) -> tuple[Drawing, np.random.Generator]:
        """The picture of a number, of another kind than toys, and the generator that then draws its pixels."""
        rng, s = self._generator(index), self.settings
        return kind.lay_out(rng, s.difficulty, sides(rng, s.size), index), rng

    def _generator(self, index: int) -> np.random.Generator:
        s = self.settings
        kind = () if s.scenes == "toys" else (256, *s.scenes.encode())
        return np.random.Generator(np.random.PCG64([VERSION, s.seed, index, *self._drawn.encode(), *kind]))

    def _columns(self) -> NDArray[np.uint8]:
        """Label index as drawn -> label index under ``classes``; other classes become 255."""
        wanted = [self.classes.index(name) + 1 if name in self.classes else IGNORE for name in self._every]
        return np.array([0, *wanted], np.uint8)


def open_split(settings: PartsSettings, split: str) -> PartsDataset:
    """Open one split.

    Raises:
        DataError: the split's name cannot be used, or ``classes`` names a class that is not drawn.
    """
    return PartsDataset(settings, split)
