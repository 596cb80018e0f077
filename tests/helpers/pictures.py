"""Pictures of images as they are drawn: what a figure was given, before matplotlib makes pixels of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from tag2mask.data.base import Dataset
from tag2mask.report import examples as drawing
from tag2mask.report.examples import Example


class Drawn(NamedTuple):
    """A figure: its rows, its title and its file."""

    examples: Sequence[Example]
    title: str
    path: Path

    def check(self, dataset: Dataset) -> list[str]:
        """Ids of its rows; each has to begin with its own photo, and the file has to be a picture of so many."""
        samples = {sample.id: sample for sample in dataset.samples}
        for example in self.examples:
            shown, photo = example.pictures[0][1].convert("RGB"), dataset.image(samples[example.id])
            assert np.array_equal(np.asarray(shown), np.asarray(photo)), example.id
        with Image.open(self.path) as picture:
            wide = max(len(example.pictures) for example in self.examples)
            assert picture.width / picture.height == pytest.approx(2.6 * wide / (2.7 * len(self.examples)), rel=0.02)
        return [example.id for example in self.examples]


def drawn_by(module: ModuleType, patch: pytest.MonkeyPatch) -> list[Drawn]:
    """What a module draws from now on, figure by figure; it is drawn all the same."""
    found: list[Drawn] = []

    def draw(examples: Sequence[Example], title: str, out: Path) -> None:
        found.append(Drawn(examples, title, out))
        drawing.draw_examples(examples, title, out)

    patch.setattr(module, "draw_examples", draw)
    return found
