"""Which images a threshold is chosen on, which threshold a stage cuts at, and the margins around it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tag2mask.core.errors import DataError, StageError
from tag2mask.core.types import Sample, parse_ledger
from tag2mask.data.base import Dataset, Labels
from tag2mask.evaluation.thresholds import Threshold
from tag2mask.label_images.kinds import CutSettings
from tag2mask.label_images.stage import around
from tag2mask.methods.artefact import Artefact, FewMasks
from tag2mask.methods.registry import stage_kind
from tag2mask.segmentation.predict.options import PredictionSettings
from tag2mask.thresholds.kinds import FewMasksSettings, listed
from tag2mask.thresholds.threshold_of import threshold_of
from tests.helpers.refused import refused


class Numbered(Dataset):
    """Images of which those divisible by three have no truth."""

    name, split, classes, has_truth = "numbered", "train", ("a",), True

    def __init__(self, numbers: range) -> None:
        self.samples = [Sample(f"im{i:03}", (0,)) for i in numbers]

    def image(self, sample: Sample) -> Image.Image:
        raise NotImplementedError

    def truth(self, sample: Sample) -> Labels | None:
        return None if int(sample.id[2:]) % 3 == 0 else np.zeros((2, 2), np.uint8)


def ids(dataset: Dataset, n: int) -> list[str]:
    return [s.id for s in listed(FewMasksSettings(n=n), dataset)]


def test_the_list_holds_n_images_with_a_truth_in_order() -> None:
    found = ids(Numbered(range(60)), 10)
    assert len(found) == len(set(found)) == 10
    assert found == sorted(found)
    assert all(int(name[2:]) % 3 for name in found)
    assert found != [s.id for s in Numbered(range(60)).samples if int(s.id[2:]) % 3][:10], "not simply the first ones"


def test_a_longer_list_holds_the_shorter_one_and_order_does_not_matter() -> None:
    dataset = Numbered(range(60))
    assert set(ids(dataset, 5)) < set(ids(dataset, 20))
    backwards = Numbered(range(60))
    backwards.samples = dataset.samples[::-1]
    assert ids(backwards, 20) == ids(dataset, 20)


def test_each_added_image_takes_one_place_at_most() -> None:
    before = ids(Numbered(range(60)), 15)
    for more in (61, 62, 65, 80):
        after = ids(Numbered(range(more)), 15)
        assert len(set(before) - set(after)) <= more - 60
        assert set(after) - set(before) <= {f"im{i:03}" for i in range(60, more)}


def test_the_ledger_entry_is_one_that_the_ledger_knows() -> None:
    entries = stage_kind("few-masks").supervision_of(FewMasksSettings(n=7))
    assert parse_ledger(entries) == {"pixel-masks:threshold(7)"}


def artefact(folder: Path, value: float | None = None, **more: Any) -> Artefact:
    if value is not None:
        FewMasks(value, 2, ("a", "b"), 50.0).write(folder)
    return Artefact("few", folder, "key", lambda dataset, sample: "", **more)


def test_a_threshold_survives_its_file(tmp_path: Path) -> None:
    assert artefact(tmp_path, 0.37).threshold() == FewMasks(0.37, 2, ("a", "b"), 50.0)
    with refused(StageError, "'few' has no", "threshold.json", "tag2mask run"):
        artefact(tmp_path / "none").threshold()


def test_the_threshold_that_is_read_goes_before_the_settings(tmp_path: Path) -> None:
    settings = CutSettings(threshold=0.6, threshold_kind="published")
    few = artefact(tmp_path, 0.37)
    cut = partial(artefact, tmp_path, settings=settings, kind=stage_kind("pseudo-masks"))
    assert threshold_of(cut()) == Threshold(0.6, "published")
    assert threshold_of(cut(reads={"threshold": few})) == Threshold(0.37, "few-masks", 2)
    predictions = artefact(tmp_path, settings=PredictionSettings(), kind=stage_kind("predictions"))
    assert threshold_of(predictions) == Threshold(None, "none")


@pytest.mark.parametrize(("value", "expected"), [(0.4, (0.52, 0.28)), (0.95, (1.0, 0.83)), (0.05, (0.17, 0.0))])
def test_refined_seeds_are_cut_a_margin_on_either_side(value: float, expected: tuple[float, float]) -> None:
    assert around(value, 0.12) == pytest.approx(expected)
    high, low = around(np.array([value, 0.5]), 0.12)
    np.testing.assert_allclose(high, [expected[0], 0.62])
    np.testing.assert_allclose(low, [expected[1], 0.38])


def test_a_list_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read .*none\.txt"):
        listed(FewMasksSettings(n=1, images=tmp_path / "none.txt"), Numbered(range(5)))
