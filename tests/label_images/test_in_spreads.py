"""Classes of one image compete for seeds in deviations of their own scores."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError

from tag2mask.config.engine import Engine
from tag2mask.core.types import ActivationMaps, Sample
from tag2mask.data.base import Dataset
from tag2mask.label_images import cutting
from tag2mask.methods.artefact import Ruled
from tag2mask.methods.context import StageContext
from tag2mask.methods.registry import stage_kind

WIDE, NARROW = 0, 1
CHOSEN = Ruled(
    0.5, "erased", "class", 2, (("wide", 0.5), ("narrow", 0.5)), spreads=(("wide", 0.1), ("narrow", 0.01))
)  # fmt: skip
ONE_CLASS = {"dim": {WIDE: [0.44, 0.44, 0.3, 0.3]}, "alike": {WIDE: [0.6] * 4}}


class Photos(Dataset):
    """One photo of both classes, one of the wide one alone."""

    name, split, classes, has_truth, background = "photos", "all", ("wide", "narrow"), False, "present"

    def __init__(self) -> None:
        self.samples = (Sample("both", (WIDE, NARROW)), Sample("one", (WIDE,)))

    def image(self, sample: Sample) -> Image.Image:
        return Image.new("RGB", (16, 4))

    def truth(self, sample: Sample) -> None:
        return None


def maps(_: Dataset, sample: Sample, scores: str) -> ActivationMaps:
    """Cells 0 to 3 of a row: both high, the wide one further by its score, the narrow one by its spread; then less."""
    rows = {WIDE: [0.6, 0.6, 0.56, 0.3], NARROW: [0.54, 0.502, 0.49, 0.45]} | ONE_CLASS.get(sample.id, {})
    assert scores == "raw"
    return ActivationMaps(sample.tags, torch.tensor([[rows[c]] for c in sample.tags]))


class Same:
    """A CRF that leaves labels as they are."""

    @classmethod
    def batch(cls, _images: Any, _preset: Any, *, device: str) -> Same:
        return cls()

    def refine_labels(self, labels: Any, *_: Any) -> list[torch.Tensor]:
        return [torch.from_numpy(each).long() for each in labels]


@pytest.fixture(autouse=True)
def same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting, "DenseCRF", Same)


def seeds(sample: Sample, **values: Any) -> NDArray[np.uint8]:
    kind = stage_kind("refined-seeds")
    settings = kind.settings(margin=0.5, margin_in="spread", scores="raw", **values)
    reads: Any = {
        "maps": SimpleNamespace(name="maps", maps=maps),
        "threshold": SimpleNamespace(name="threshold", threshold=lambda: CHOSEN),
    }
    program = kind.load()(StageContext(kind, "x", settings, reads, Photos(), Path(), 0, Engine(device="cpu")))
    (labels,) = program.compute([program.prepare(sample)])
    found: NDArray[np.uint8] = labels
    return found


def test_a_class_of_wide_scores_does_not_take_what_one_of_narrow_scores_is_surer_of() -> None:
    """In the first cell the wide class lies one deviation above its threshold, the narrow one four."""
    found = seeds(Photos().samples[0])
    assert found[0, 0] == NARROW + 1
    assert found[0, 5] == WIDE + 1, "there the wide one is surer"
    assert found[0, -1] == 0, "below both by more than half a deviation"


def test_with_one_class_it_is_the_threshold_and_its_margin() -> None:
    """0.55 and 0.45: the third cell lies above, the last below."""
    found = seeds(Photos().samples[1])
    assert found[0, 0] == found[0, 9] == WIDE + 1
    assert found[0, -1] == 0
    assert set(np.unique(found)) <= {0, WIDE + 1, 255}


@pytest.mark.parametrize(
    ("share", "bright", "dark"),
    [
        (0.0, 0, 0),  # the threshold that was read, 0.5: all lies below 0.45
        (0.5, 255, 0),  # 0.435: 0.44 lies within half a deviation of it
        (1.0, WIDE + 1, 0),  # 0.37, half way between its two scores
    ],
)
def test_the_split_of_a_dim_image_moves_its_threshold(share: float, bright: int, dark: int) -> None:
    found = seeds(Sample("dim", (WIDE,)), per_image=share)
    assert (found[0, 0], found[0, -1]) == (bright, dark)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_an_image_whose_scores_are_all_alike_has_no_split(share: float) -> None:
    assert (seeds(Sample("alike", (WIDE,)), per_image=share) == WIDE + 1).all(), "0.6, above 0.55"


def test_a_share_of_the_image_needs_scores_in_spreads() -> None:
    with pytest.raises(ValidationError, match="per_image 0.5 .* set margin_in=spread too"):
        stage_kind("refined-seeds").settings(per_image=0.5)
