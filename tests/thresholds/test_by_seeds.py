"""The stage that cuts maps where they give back refined seeds: what it writes, with and without a background."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from tag2mask.config.engine import Engine
from tag2mask.core.errors import DataError
from tag2mask.core.files import read_json
from tag2mask.core.types import ActivationMaps, Sample
from tag2mask.data.base import Dataset
from tag2mask.evaluation.threshold_rules.by_seeds import SeedAgreement
from tag2mask.methods.context import StageContext
from tag2mask.methods.registry import stage_kind
from tag2mask.methods.stage_kinds import Makes
from tag2mask.thresholds.by_scores import read_choices
from tests.helpers.refused import refused

SIDE = 16


class Corners(Dataset):
    """Two images of a class each, and one of nothing; a third class is in none."""

    name, split, classes, has_truth = "corners", "all", ("wide", "faint", "never"), False

    def __init__(self, ground: Any = "present") -> None:
        self.samples, self.background = (Sample("a", (0,)), Sample("b", (1,)), Sample("c", ())), ground

    def image(self, sample: Sample) -> Image.Image:
        raise NotImplementedError

    def truth(self, sample: Sample) -> None:
        return None


class Reads:
    """Maps that fall from the left, or the labels of what is confident: the left half, and the right eighth."""

    name, path = "given", Path()

    def maps(self, dataset: Dataset, sample: Sample, scores: str = "normalised") -> ActivationMaps:
        fall = torch.linspace(1, 0, SIDE // 4).repeat(SIDE // 4, 1)
        planes = [fall if c == 0 else 0.2 * fall for c in sample.tags]
        return ActivationMaps(sample.tags, torch.stack(planes) if planes else torch.zeros(0, SIDE // 4, SIDE // 4))

    def labels(self, dataset: Dataset, sample: Sample) -> NDArray[np.uint8]:
        found = np.full((SIDE, SIDE), 255, np.uint8)
        found[:, -SIDE // 8 :] = 0
        for column in sample.tags:
            found[:, : SIDE // 2] = column + 1
        return found


class Unlearned(Reads):
    """Maps that tell of the second class nothing: as high everywhere."""

    def maps(self, dataset: Dataset, sample: Sample, scores: str = "normalised") -> ActivationMaps:
        found = super().maps(dataset, sample, scores)
        return found if sample.tags != (1,) else ActivationMaps((1,), torch.full_like(found.maps, 0.02))

    def labels(self, dataset: Dataset, sample: Sample) -> NDArray[np.uint8]:
        """Of the second class an eighth."""
        found = super().labels(dataset, sample)
        if sample.tags == (1,):
            found[:, SIDE // 8 : SIDE // 2] = 0
        return found


class Nothing(Reads):
    """Seeds that are confident of no class."""

    def labels(self, dataset: Dataset, sample: Sample) -> NDArray[np.uint8]:
        return np.zeros((SIDE, SIDE), np.uint8)


def chosen(out: Path, ground: Any = "present", seeds: Reads | None = None) -> dict[str, Any]:
    kind, reads = stage_kind("rule-seeds"), {"maps": seeds or Reads(), "seeds": seeds or Reads()}
    kind.load()(StageContext(kind, "x", kind.settings(), reads, Corners(ground), out, 0, Engine(device="cpu")))  # type: ignore[arg-type]
    return dict(read_json(out / "threshold.json"))


def test_the_kind_says_what_it_reads_and_makes() -> None:
    kind = stage_kind("rule-seeds")
    assert (kind.makes, kind.reads) == (Makes.THRESHOLD, {"maps": Makes.MAPS, "seeds": Makes.MASKS})
    assert not kind.reads_ground_truth


def test_each_class_is_cut_where_its_maps_give_back_the_seeds(tmp_path: Path) -> None:
    """A map of a fifth of the scores is cut at a fifth, between the left half and the last eighth."""
    found = chosen(tmp_path)
    classes = dict(found["classes"])
    assert 0 < classes["wide"] < 0.5
    assert classes["faint"] == pytest.approx(0.2 * classes["wide"], abs=0.02)
    assert classes["never"] is None
    assert (found["rule"], found["per"], found["n"]) == ("seeds", "class", 2)
    assert found["value"] == pytest.approx((classes["wide"] + classes["faint"]) / 2)


def test_a_class_that_was_not_learned_is_cut_as_the_others_are(tmp_path: Path) -> None:
    """Maps that agree no better cut than whole would cover all images with the tag."""
    found = chosen(tmp_path, seeds=Unlearned())
    classes = dict(found["classes"])
    assert classes["faint"] is None
    assert found["value"] == classes["wide"]
    why = read_choices(tmp_path)
    assert "IoU: they tell nothing" in why["faint"].why
    assert "IoU 100.0 %" in why["wide"].why


def test_a_class_that_fills_its_images_may_be_cut_nowhere() -> None:
    """Flat maps over seeds of which two thirds are the class: whole is right."""
    counts = SeedAgreement(1)
    seeds = np.ones((6, 6), np.uint8)
    seeds[:, 4:] = 0
    counts.update(np.full((1, 6, 6), 0.3, np.float32), (0,), seeds)
    (found,) = counts.best()
    assert found.tells
    assert found.iou == found.everywhere == pytest.approx(2 / 3)
    assert found.level < 0.3


@pytest.mark.parametrize("ground", ["none", "white"])
def test_where_no_threshold_decides_anything_nothing_is_looked_at(ground: str, tmp_path: Path) -> None:
    found = chosen(tmp_path, ground, Nothing())
    assert found["classes"] == [["wide", 0.5], ["faint", 0.5], ["never", 0.5]]


def test_maps_and_seeds_that_agree_nowhere_are_refused(tmp_path: Path) -> None:
    with refused(DataError, "'given'", "on 2 images", "no confident pixel", "fixed threshold"):
        chosen(tmp_path, seeds=Nothing())
    assert not (tmp_path / "threshold.json").exists()
