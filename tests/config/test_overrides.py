"""Overrides of the command line: what another reader of the data replaces, and what stays."""

from __future__ import annotations

from typing import Any

import pytest

from tag2mask.config.overrides import apply_overrides
from tag2mask.core.errors import ConfigError
from tests.helpers.refused import refused


def test_another_reader_keeps_what_the_recipe_demands_of_any_data() -> None:
    recipe = {"data": {"kind": "folder", "root": "x", "max_side": 640, "min_side": 320, "background": "auto"}}
    changed = apply_overrides(recipe, ["data.root=y", "data=coco"])
    assert changed["data"] == {"kind": "coco", "min_side": 320, "background": "auto", "root": "y"}
    assert recipe["data"]["kind"] == "folder"


def test_a_recipe_that_demands_nothing_keeps_nothing() -> None:
    assert apply_overrides({"data": {"kind": "folder", "max_side": 640}}, ["data=voc"])["data"] == {"kind": "voc"}


@pytest.mark.parametrize("words", [["x.threshold=0.3"], ["stages.x.threshold=0.3"]])
def test_a_threshold_beside_one_that_is_read_is_refused_with_the_words_that_help(words: list[str]) -> None:
    recipe: dict[str, Any] = {
        "stages": {"x": {"kind": "pseudo-masks", "reads": {"maps": "m", "threshold": "rule"}, "threshold": 0.5}}
    }
    with refused(
        ConfigError, "0.3' changes nothing", "'x' reads its threshold from stage 'rule'", '"x.reads={maps: m}"'
    ):
        apply_overrides(recipe, words)
    found = apply_overrides(recipe, [*words, "x.reads={maps: m}"])
    assert found["stages"]["x"] == {"kind": "pseudo-masks", "reads": {"maps": "m"}, "threshold": 0.3}
    del recipe["stages"]["x"]["reads"]
    assert apply_overrides(recipe, words)["stages"]["x"]["threshold"] == 0.3


@pytest.mark.parametrize("word", ["x.foreground=0.6", "x.background=0.1"])
def test_the_two_thresholds_of_refined_seeds_beside_one_that_is_read_are_refused(word: str) -> None:
    recipe: dict[str, Any] = {
        "stages": {"x": {"kind": "refined-seeds", "reads": {"maps": "m", "threshold": "rule"}, "margin": 0.1}}
    }
    with refused(ConfigError, "changes nothing", "x.margin=", '"x.reads={maps: m}"'):
        apply_overrides(recipe, [word])
    name, value = word.removeprefix("x.").split("=")
    assert apply_overrides(recipe, [word, "x.reads={maps: m}"])["stages"]["x"][name] == float(value)


def test_the_rule_of_refined_seeds_is_no_threshold() -> None:
    """It is called ``background`` elsewhere, and holds whatever the threshold is."""
    recipe = {"stages": {"x": {"kind": "refined-seeds", "reads": {"maps": "m", "threshold": "rule"}}}}
    found = apply_overrides(recipe, ["x.background={kind: constant}"])
    assert found["stages"]["x"]["background"] == {"kind": "constant"}


def test_seeds_of_normalised_maps_are_measured_at_both_thresholds() -> None:
    """Beside a threshold from a few masks stands a fixed one; of raw scores none is fixed in advance."""
    seeds: dict[str, Any] = {"kind": "seeds", "reads": {"maps": "m", "threshold": "few"}, "threshold": 0.5}
    assert apply_overrides({"stages": {"x": seeds}}, ["x.threshold=0.3"])["stages"]["x"]["threshold"] == 0.3
    with refused(ConfigError, "changes nothing"):
        apply_overrides({"stages": {"x": {**seeds, "scores": "raw"}}}, ["x.threshold=0.3"])
