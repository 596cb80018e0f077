"""Background rules: constant by hand, rules of one's own cut and swept against a slow reference, and their names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tag2mask.core.errors import ConfigError
from tag2mask.data.base import Dataset
from tag2mask.data.registry import load_dataset
from tag2mask.evaluation.background import (
    BACKGROUNDS,
    CONSTANT,
    NOTHING,
    Background,
    Constant,
    Given,
    Learned,
    Level,
    Maps,
    Sides,
    background_rule,
    register_background,
    rule_on,
)
from tag2mask.evaluation.confusion import confusion_matrix
from tag2mask.evaluation.threshold_sweep import ThresholdSweep
from tag2mask.evaluation.thresholds import Threshold, cut
from tests.helpers.refused import refused
from tests.helpers.seam_kinds import Dim, Inside, NoBackground, registered


class Power(Background):
    """PSA's, with the level as exponent: it rises as the level does, and is no threshold."""

    sweepable: ClassVar[bool] = False
    kind: Literal["power"] = "power"

    def values(self, maps: Maps, level: Level, sides: Sides) -> Maps:
        """(1 - max)^(1 / level)."""
        exponent = np.float32(1 / max(float(np.max(level)), 1e-3))
        found: Maps = np.power(1 - maps.max(axis=0), exponent)
        return found


class TwoThresholds(Background):
    """EDAM's: the level where the image is salient, ``beta`` elsewhere."""

    sidecars: ClassVar[tuple[str, ...]] = ("saliency",)
    kind: Literal["two"] = "two"
    beta: float = 0.9

    def values(self, maps: Maps, level: Level, sides: Sides) -> Maps:
        """As the class says."""
        return np.where(sides["saliency"] > 0.5, np.float32(level), np.float32(self.beta))


RULES = [CONSTANT, Learned(), Inside(), Dim(), NoBackground(), Power(), TwoThresholds()]


@pytest.fixture(autouse=True, scope="module")
def kinds() -> Iterator[None]:
    with registered():
        yield


def drawn(seed: int, classes: int = 2) -> tuple[Maps, Sides]:
    rng = np.random.default_rng(seed)
    maps = np.round(rng.random((classes, 9, 7), dtype=np.float32), 2)  # many lie on a threshold
    return maps, {role: rng.random((9, 7), dtype=np.float32) for role in ("saliency", "foreground")}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.kind)
def test_a_rule_is_a_background_map_that_competes(rule: Background) -> None:
    maps, sides = drawn(1)
    labels = rule.labels(maps, (1, 4), 0.4, sides)
    ground = np.broadcast_to(np.float32(rule.values(maps, 0.4, sides)), (9, 7))
    for y, x in np.ndindex(9, 7):
        column = (1, 4)[int(maps[:, y, x].argmax())]
        assert labels[y, x] == (column + 1 if maps[:, y, x].max() > ground[y, x] else 0)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.kind}-{rule.sweepable}")
def test_a_sweep_gives_what_cutting_at_each_threshold_gives(rule: Background) -> None:
    grid = [i / 20 for i in range(21)]
    sweep = ThresholdSweep(["a", "b", "c"], grid, rule)
    slow = {t: np.zeros((4, 4), np.int64) for t in grid}
    for seed, classes in enumerate([(0, 1), (1, 2), (2,)]):
        maps, sides = drawn(seed, len(classes))
        truth = np.random.default_rng(seed).integers(0, 4, (9, 7), np.uint8)
        sweep.update(maps, classes, truth, "x", sides)
        for t in grid:
            slow[t] += confusion_matrix(rule.labels(maps, classes, t, sides), truth, 4)
    for t in grid:
        np.testing.assert_array_equal(sweep.matrix(t), slow[t])


def test_levels_of_classes_go_through_a_rule_too() -> None:
    maps, sides = drawn(3)
    level = np.array([0.3, 0.7], np.float32)
    inside = sides["foreground"] >= 0.5
    np.testing.assert_array_equal(
        Inside().labels(maps, (1, 4), level, sides), np.where(inside, cut(maps, (1, 4), level), 0)
    )
    np.testing.assert_array_equal(CONSTANT.labels(maps, (1, 4), level), cut(maps, (1, 4), level))


def test_data_without_background_has_no_label_0() -> None:
    maps = np.zeros((2, 3, 3), np.float32)
    maps[1, 0, 0] = 0.1
    assert NoBackground().labels(maps, (1, 4), 1.0).tolist() == [[5, 2, 2], [2, 2, 2], [2, 2, 2]]
    assert (NoBackground().labels(maps[:0], (), 0.5) == 255).all()
    assert (CONSTANT.labels(maps[:0], (), 0.5) == 0).all()


def test_a_threshold_carries_its_rule() -> None:
    maps, sides = drawn(4)
    at = Threshold(0.4, background=Inside())
    np.testing.assert_array_equal(at.cut(maps, (1, 4), "x", sides), Inside().labels(maps, (1, 4), 0.4, sides))
    np.testing.assert_array_equal(Threshold(0.4).cut(maps, (1, 4), "x"), cut(maps, (1, 4), 0.4))
    assert at != Threshold(0.4)


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ("constant", Constant()),
        ({"kind": "learned"}, Learned()),
        ("nowhere", NoBackground()),
        ({"kind": "inside", "least": 0.25}, Inside(least=0.25)),
        (Inside(), Inside()),
    ],
)
def test_a_setting_names_a_rule(given: object, rule: Background) -> None:
    assert background_rule(given) == rule


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("constnat", "'constnat' … did you mean 'constant'"),
        ({"least": 0.2}, "expected a kind, of constant, learned"),
        (0.25, "background = 0.25: expected a kind"),
        ({"kind": "inside", "leest": 0.2}, "unknown setting 'background.leest': did you mean 'least'"),
        ({"kind": "constant", "threshold": 0.2}, "unknown setting 'background.threshold'"),
    ],
)
def test_a_setting_that_names_none_is_refused(given: object, message: str) -> None:
    with refused(ConfigError, message):
        background_rule(given)


def test_a_name_that_is_taken_is_refused() -> None:
    with refused(ConfigError, "'constant' is Constant already", "choose another name"):
        register_background("constant", Inside)
    assert BACKGROUNDS["constant"] is Constant


def data_of(folder: Path, photo: NDArray[np.uint8], foreground: NDArray[np.uint8] | None = None) -> Dataset:
    """One image of the class ``a``, with a sidecar where one is given."""
    (folder / "a").mkdir(parents=True)
    Image.fromarray(photo).save(folder / "a" / "x.png")
    more = {}
    if foreground is not None:
        (folder / "where").mkdir()
        Image.fromarray(foreground).save(folder / "where" / "a__x.png")
        more = {"sidecars": {"foreground": "where"}}
    return load_dataset("folder", folder, "all", **more)


def test_white_black_and_the_sidecar_give_what_is_of_no_class(tmp_path: Path) -> None:
    photo = np.full((4, 4, 3), 100, np.uint8)
    photo[0], photo[1, :2] = 250, (255, 255, 30)  # white as JPEG leaves it, and yellow
    photo[3] = 5
    maps, classes = np.full((2, 4, 4), 0.0, np.float32), (0, 1)
    maps[1, :, 2:] = 0.1
    data = data_of(tmp_path / "plain", photo)
    for colour, row in (("white", 0), ("black", 3)):
        rule = rule_on(colour, CONSTANT)  # type: ignore[arg-type]
        sides = rule.read(data, data.samples[0], (4, 4))
        expected = np.tile([1, 1, 2, 2], (4, 1))
        expected[row] = 0
        assert rule.labels(maps, classes, 0.9, sides).tolist() == expected.tolist()
    where = np.zeros((4, 4), np.uint8)
    where[1:3, 1:3] = 255
    given = data_of(tmp_path / "given", photo, where)
    rule = rule_on("foreground", CONSTANT)
    found = rule.labels(maps, classes, 0.9, rule.read(given, given.samples[0], (4, 4)))
    assert found.tolist() == [[0, 0, 0, 0], [0, 1, 2, 0], [0, 1, 2, 0], [0, 0, 0, 0]]
    assert rule.sidecars == ("foreground",)
    assert rule.supervision == {"foreground"}


def test_the_data_decides_before_the_stage() -> None:
    own = Learned()
    assert rule_on("present", own) is own
    assert rule_on("none", own) is NOTHING
    assert not NOTHING.competes
    assert own.competes


@pytest.mark.parametrize("rule", [NOTHING, Given()])
def test_no_threshold_matters_where_the_background_does_not_compete(rule: Background) -> None:
    rng = np.random.default_rng(3)
    maps = rng.random((3, 9, 8), dtype=np.float32)
    sides = {"foreground": (rng.random((9, 8)) < 0.7).astype(np.float32)}
    truth = rng.integers(0, 4, (9, 8)).astype(np.uint8)
    sweep = ThresholdSweep(["a", "b", "c"], background=rule)
    sweep.update(maps, (0, 1, 2), truth, sides=sides)
    slow = confusion_matrix(rule.labels(maps, (0, 1, 2), 0.5, sides), truth, 4)
    for threshold in (0.0, 0.37, 1.0):
        assert (sweep.matrix(threshold) == slow).all()
