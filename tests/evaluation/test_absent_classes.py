"""Activation of absent classes under right and wrong tags, on numbers made by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tag2mask.core.errors import DataError
from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset, Labels
from tag2mask.evaluation.absent_classes import COLUMNS, MEASURES, analyse_absent
from tag2mask.evaluation.result_tables import Origin
from tests.helpers.refused import refused

CLASSES = ("cow", "horse", "sheep")


class Tagged(Dataset):
    """Samples with tags and nothing else."""

    name, split, classes, has_truth = "tagged", "train", CLASSES, False

    def __init__(self, *tags: tuple[int, ...]) -> None:
        self.samples = tuple(Sample(f"i{n}", t) for n, t in enumerate(tags))

    def image(self, sample: Sample) -> Image.Image:
        raise AssertionError("nothing is read")

    def truth(self, sample: Sample) -> Labels | None:
        return None


def field(*means: float) -> NDArray[np.float32]:
    """Background and classes on a grid of 2 x 2, half of the cells empty and half of them twice the mean."""
    values = np.zeros((4, 2, 2), np.float32)
    values[:, 0] = 2 * np.array(means, np.float32)[:, None]
    return values


def by_tags(sample: Sample, tags: Sequence[int]) -> NDArray[np.float32]:
    """A network that half believes its tags: told cow it sees some horse, told horse it sees much horse."""
    return {
        ("i0", (0,)): field(0.25, 0.3, 0.15, 0.05),
        ("i0", (1,)): field(0.3, 0.1, 0.25, 0.05),
        ("i1", (0, 2)): field(0.2, 0.2, 0.1, 0.4),
        ("i1", (1,)): field(0.25, 0.05, 0.35, 0.15),
    }[sample.id, tuple(tags)]


def test_means_of_present_and_absent_classes_and_under_the_most_active_wrong_one() -> None:
    counted: list[int] = []
    found = analyse_absent(
        Tagged((0,), (0, 2), (), (0, 1, 2)), by_tags, Tagged((0,), (0, 2), (), (0, 1, 2)).samples,
        advance=lambda: counted.append(1),
    )  # fmt: skip
    assert len(counted) == 4
    assert (len(found.images), found.n_left_out) == (2, 2)  # no tag, and no absent class
    cow, both = found.images
    assert (cow.id, cow.wrong, both.wrong) == ("i0", 1, 1)
    assert [getattr(cow, m) for m in MEASURES] == pytest.approx([0.3, 0.1, 0.15, 0.25, 0.1])
    assert [getattr(both, m) for m in MEASURES] == pytest.approx([0.3, 0.1, 0.1, 0.35, 0.1])
    rows = {r.metric: r for r in found.results(Origin("amn", 3, "c"))}
    assert {m: r.value for m, r in rows.items()} == pytest.approx(
        {"present": 0.3, "absent": 0.1, "absent_highest": 0.125, "wrong_tag_wrong": 0.3, "wrong_tag_present": 0.1}
    )
    assert {(r.n_images, r.threshold_kind, r.threshold, r.seed) for r in rows.values()} == {(2, "none", None, 3)}
    lines = [dict(zip(COLUMNS, line, strict=True)) for line in found.lines(CLASSES, stage="amn", seed=3)]
    assert [(line["image"], line["wrong"]) for line in lines] == [("i0", "horse"), ("i1", "horse")]


def test_without_an_absent_class_anywhere_there_is_nothing_to_measure() -> None:
    dataset = Tagged((0, 1, 2), ())
    with refused(DataError, "split 'train'", "some of the 3 classes"):
        analyse_absent(dataset, by_tags, dataset.samples)
