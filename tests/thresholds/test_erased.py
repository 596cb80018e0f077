"""The rule that erases: where the classifier's score has fallen, by hand and on a drawn square."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor

from tag2mask.config.engine import Engine
from tag2mask.config.settings import validate
from tag2mask.core.errors import ConfigError
from tag2mask.core.files import read_json
from tag2mask.core.types import ActivationMaps, Sample
from tag2mask.data.base import Dataset
from tag2mask.evaluation.threshold_rules.erased import SHARES, Erasures, choose_erased, end_of_fall, levels_of
from tag2mask.evaluation.threshold_rules.score_rules import ClassChoice
from tag2mask.methods.artefact import Artefact
from tag2mask.methods.context import StageContext
from tag2mask.methods.registry import stage_kind
from tag2mask.thresholds import by_scores, erased
from tag2mask.thresholds.erased import _of_class, painted_over
from tag2mask.thresholds.kinds import ErasureSettings
from tests.helpers.refused import refused


def erasures(curve: list[float], whole: float = 10.0, levels: tuple[float, ...] = (0.8, 0.6, 0.4, 0.2)) -> Erasures:
    return Erasures(np.array(levels), np.full(3, whole), np.tile(curve, (3, 1)))


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        ([10, 10, 0, 0], 0.42),  # from 10 to 0 between 0.6 and 0.4: a tenth is left at nine tenths of the way
        ([0, 0, 0, 0], 0.8),  # gone at once
        ([9, 5, 2, 0], 0.3),  # a tenth is left halfway from 2 to 0
        ([8, 0, 3, 2], 0.625),  # what is painted over may look like the class again
        ([12, 11, 10.5, 10], None),  # it never falls
    ],
)
def test_the_thing_ends_where_the_score_has_fallen(curve: list[float], expected: float | None) -> None:
    found = end_of_fall(erasures(curve))
    assert found == (None if expected is None else pytest.approx(expected))


def test_levels_leave_the_shares_above() -> None:
    values = np.random.default_rng(0).permutation(1000)
    counts = np.bincount(values, minlength=1001)
    levels = levels_of(counts)
    assert [float((values / 1000 > level).mean()) for level in levels] == pytest.approx(SHARES)
    assert len(levels_of(np.bincount([300] * 50, minlength=1001))) == 1, "all alike: all or nothing"
    assert not len(levels_of(np.zeros(1001, np.int64)))


def test_classes_without_an_answer_have_another_rule() -> None:
    other = ClassChoice(0.5, 0.4, 0.6, "otsu", "by its images", 0.07)
    flat, one = erasures([12, 11, 11, 11]), Erasures(np.array([0.5]), np.array([9.0]), np.array([[0.0]]))
    first, second, third, fourth = choose_erased([erasures([10, 10, 0, 0]), flat, one, None], lambda _: other)
    assert (first.value, first.low, first.high, first.rule) == (0.42, 0.42, 0.42, "erased")
    assert first.spread == 0.07
    for choice, reason in ((second, "as well where it is painted over"), (third, "fewer than two"), (fourth, "fewer")):
        assert (choice.value, choice.low, choice.high, choice.rule) == (0.5, 0.4, 0.6, "otsu")
        assert choice.why.startswith("erased abstains")
        assert reason in choice.why
        assert choice.why.endswith("by its images")


def test_what_is_painted_over_has_the_colours_around_it() -> None:
    pixels = torch.full((3, 32, 48), 0.25)
    mask = torch.zeros(32, 48, dtype=torch.bool)
    mask[10:14, 20:30] = True
    pixels[:, mask] = 5.0
    found = painted_over(pixels, mask)
    torch.testing.assert_close(found, torch.full((3, 32, 48), 0.25), atol=1e-4, rtol=0)
    assert torch.equal(painted_over(pixels, torch.zeros_like(mask)), pixels)
    assert not painted_over(pixels, torch.ones_like(mask)).any(), "nothing is left to take colours from"


@pytest.mark.parametrize("side", [4, 12])
def test_a_square_ends_where_it_ends(side: int) -> None:
    """Scores are far wider than the square, whichever its size; painting over the square alone takes the class away."""
    squares = {}
    for number in range(4):
        picture = np.zeros((64, 64), np.uint8)
        picture[10 + number : 10 + number + side, 20 : 20 + side] = 255
        squares[f"s{number}"] = picture

    def scores(sample: Sample) -> Tensor:
        near = gaussian_filter(squares[sample.id].astype(np.float32), 6)
        return torch.from_numpy(near / near.max())[None] * 0.8

    class Bright:
        """The logit rises with the brightest pixels."""

        def __call__(self, batch: Tensor) -> Tensor:
            return 20 * batch.mean(1).flatten(1).topk(4).values.mean(1, keepdim=True) - 10

    net: Any = SimpleNamespace(
        net=Bright(), device=torch.device("cpu"), size=lambda image: [64, 64],
        tensor=lambda image, size: torch.from_numpy(np.array(image, np.float32) / 255).permute(2, 0, 1),
    )  # fmt: skip
    maps: Any = SimpleNamespace(maps=lambda dataset, sample, form: ActivationMaps((0,), scores(sample)))
    dataset: Any = SimpleNamespace(image=lambda sample: Image.fromarray(squares[sample.id]).convert("RGB"))
    samples = [Sample(name, (0,)) for name in squares]
    value = end_of_fall(_of_class(net, maps, dataset, samples, 0))
    assert value is not None
    for sample in samples:
        above, square = scores(sample)[0].numpy() > value, squares[sample.id] > 0
        assert (above & square).sum() >= 0.9 * square.sum()
        assert above.sum() <= 3 * square.sum(), "not all that is active"


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"rule": "erased"}, ("erased", "scores=raw", "per=class", "raw=true")),
        (
            {"rule": "classifier", "scores": "raw", "per": "class"},
            ("classifier", "expected erased", "scores=normalised"),
        ),
        ({"rule": "erased", "scores": "raw", "per": "class", "fallback": "moments"}, ("moments", "midpoint")),
    ],
)
def test_settings_that_do_not_go_together(changes: dict[str, Any], parts: tuple[str, ...]) -> None:
    with refused(ConfigError, *parts):
        validate(ErasureSettings, changes, "rule")
    assert ErasureSettings(rule="erased", scores="raw", per="class").erases


class Shown(Dataset):
    """One image of one class."""

    name, split, classes, has_truth = "shown", "all", ("a",), False

    def __init__(self, ground: Any) -> None:
        self.samples, self.background = (Sample("a", (0,)),), ground

    def image(self, sample: Sample) -> Image.Image:
        raise NotImplementedError

    def truth(self, sample: Sample) -> None:
        return None


@pytest.mark.parametrize(("ground", "expected"), [("present", 0.7), ("white", 0.4), ("none", 0.4)])
def test_where_no_threshold_decides_anything_nothing_is_erased(
    ground: str, expected: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the background does not compete the best class wins; the spread of the scores is wanted even so."""
    spare = ClassChoice(0.4, None, None, "otsu", "by its images", 0.1)
    monkeypatch.setattr(by_scores, "class_choices", lambda *_: [spare])
    monkeypatch.setattr(erased, "erased_choices", lambda *_: [replace(spare, value=0.7)])
    context: Any = StageContext(
        stage_kind("rule-classifier"), "threshold", ErasureSettings(rule="erased", scores="raw", per="class"),
        {name: Artefact(name, tmp_path, "key", lambda _data, sample: sample.id) for name in ("maps", "classifier")},
        Shown(ground), tmp_path, 0, Engine(device="cpu"),
    )  # fmt: skip
    by_scores.choose_by_scores(context)
    found = read_json(tmp_path / "threshold.json")
    assert (found["classes"], found["spreads"]) == ([["a", expected]], [["a", 0.1]])
