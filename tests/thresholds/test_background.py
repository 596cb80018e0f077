"""Whether the data has a background: the cells' evidence by hand, and the decision on drawn scenes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tag2mask.core.errors import DamagedError
from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset
from tag2mask.data.registry import load_dataset
from tag2mask.methods.artefact import Decided
from tag2mask.thresholds.background import by_cells, by_tags
from tag2mask.thresholds.cell_evidence import ImageCells, parted, placed
from tag2mask.thresholds.kinds import BackgroundSettings, single_tagged
from tests.helpers.refused import refused

GRID = 6


def images(
    n: int, classes: int, own: float, *, seed: int = 0, middle: float = 0.0
) -> tuple[list[ImageCells], NDArray[np.float32]]:
    """Images of one class each: a share ``own`` of cells tells the class, the others are alike in all classes."""
    rng = np.random.default_rng(seed)
    y, x = (np.mgrid[:GRID, :GRID] + 0.5) / GRID
    places = np.stack([2 * np.maximum(abs(y - 0.5), abs(x - 0.5)), y], axis=-1).reshape(-1, 2).astype(np.float32)
    found = []
    for number in range(n):
        column = number % classes
        cells = rng.normal(0, 0.3, (GRID * GRID, classes + 2)).astype(np.float32)
        tells = rng.random(GRID * GRID) < own
        cells[tells, column] += 2
        cells[:, -1] += middle * (places[:, 0] < 0.5)
        found.append(ImageCells(column, cells, places))
    return found, places


def test_cells_that_all_tell_their_class_part_every_pair() -> None:
    pairs = parted(images(24, 3, 1.0)[0])
    assert set(pairs) == {(0, 1), (0, 2), (1, 2)}
    assert min(pairs.values()) > 0.98


@pytest.mark.parametrize("own", [0.0, 0.2, 0.5, 0.8])
def test_cells_of_a_shared_background_are_told_by_chance(own: float) -> None:
    """Of the cells that tell nothing half is right: own + (1 - own) / 2."""
    for value in parted(images(40, 3, own)[0]).values():
        assert value == pytest.approx(own + (1 - own) / 2, abs=0.06)


def test_the_worst_pair_is_seen_where_the_others_are_parted() -> None:
    found = images(32, 4, 1.0)[0]
    alike = [ImageCells(i.column, np.where(i.column in (2, 3), i.cells * 0, i.cells), i.places) for i in found]
    pairs = parted(alike)
    assert min(pairs, key=lambda pair: pairs[pair]) == (2, 3)
    assert pairs[2, 3] <= 0.55
    assert pairs[0, 1] > 0.95


def test_where_a_cell_lies_shows_only_in_pictures_with_a_middle() -> None:
    assert placed(images(24, 3, 1.0)[0]) == pytest.approx(0.5, abs=0.1)
    assert placed(images(24, 3, 1.0, middle=3)[0]) > 0.9


class Tagged(Dataset):
    """Tags without images."""

    name, split, has_truth = "tagged", "train", False

    def __init__(self, tags: Sequence[Sequence[int]], classes: int) -> None:
        self.samples = [Sample(f"i{n}", tuple(own)) for n, own in enumerate(tags)]
        self.classes = tuple(f"c{c}" for c in range(classes))

    def image(self, sample: Sample) -> Image.Image:
        raise NotImplementedError

    def truth(self, sample: Sample) -> None:
        return None


def data(tags: Sequence[Sequence[int]], classes: int = 3) -> Dataset:
    return Tagged(tags, classes)


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ([[0]] * 9 + [[1]] * 9 + [[]], ("1 of 19", "no tag")),
        ([[0]] * 20, ("1 classes",)),
        ([[0, 1]] * 9 + [[0]] * 9, ("9 images of 1 classes",)),
        ([[0]] * 3 + [[1]] * 3 + [[2]] * 3, ("0 images of 0 classes",)),
        ([[0]] * 5 + [[1]] * 5 + [[2]], ("10 images of 2 classes",)),
    ],
    ids=["untagged", "one class", "a class in every image", "few images of each", "few images"],
)
def test_tags_alone_say_background(tags: list[list[int]], words: tuple[str, ...]) -> None:
    found = by_tags(data(tags))
    assert found is not None
    assert found.background == "present"
    for word in words:
        assert word in found.reason


def test_tags_leave_open_what_cells_have_to_say() -> None:
    assert by_tags(data([[0]] * 6 + [[1]] * 6 + [[0, 1]] * 9)) is None


def test_the_same_images_are_looked_at_in_every_run() -> None:
    tags = [[n % 3] for n in range(90)] + [[0, 1]] * 5
    whole, settings = data(tags), BackgroundSettings(images=8)
    chosen = [s.id for s in single_tagged(settings, whole)]
    assert len(chosen) == 24
    assert chosen == [s.id for s in single_tagged(settings, whole)]
    many = data([[n % 100] for n in range(2000)], 100)
    assert len(single_tagged(BackgroundSettings(), many)) == 600


@pytest.mark.parametrize(
    ("values", "expected"),
    [({"scenes": "patchwork", "difficulty": "hard"}, "none"), ({}, "present"), ({"scenes": "blobs"}, "present")],
    ids=["patchwork", "toys", "blobs"],
)
def test_drawn_scenes_are_told_apart(values: dict[str, Any], expected: str) -> None:
    dataset = load_dataset("parts", None, "train", images=40, size=96, **values)
    assert by_tags(dataset) is None
    found = by_cells(dataset, "background")
    assert found.background == expected, found.reason
    assert by_cells(dataset, "background") == found
    assert f"data.background={'present' if expected == 'none' else 'none'}" in found.text


def test_a_damaged_decision_is_named(tmp_path: Path) -> None:
    Decided("none", "why", {"parted": 0.9}).write(tmp_path)
    assert Decided.read(tmp_path, "COMMAND") == Decided("none", "why", {"parted": 0.9})
    path = tmp_path / "background.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "background": "present"}))
    with refused(DamagedError, "background.json", "Rerun: COMMAND"):
        Decided.read(tmp_path, "COMMAND")
