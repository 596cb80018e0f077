"""Every shipped recipe resolves to the values recorded for it, however it is written."""

from __future__ import annotations

import hashlib
import json

import pytest
import yaml

from tag2mask.config.recipe import shipped
from tests.pipeline.resolved_recipes import differences, recorded, resolved


def test_every_shipped_recipe_is_recorded() -> None:
    assert set(shipped()) == set(recorded()), "record new ones: python -m tests.pipeline.resolved_recipes NAME"


@pytest.mark.parametrize("name", recorded())
def test_a_recipe_resolves_to_what_is_recorded(name: str) -> None:
    then = yaml.safe_load(recorded()[name].read_text(encoding="utf-8"))
    assert list(differences(then, yaml.safe_load(resolved(name)))) == []


FROZEN = {
    "light": "a40f52d8a4eede03",
    "light-irn": "0f8ec95e86d5a06f",
    "light-amn": "5e4a8fa4e835afe9",
    "light-irn-few-masks": "4103d18b3af8914c",
    "light-amn-few-masks": "4f37f74c29fa9d35",
}
"""Digests of what own-data, own-data-irn … resolved to at commit 6d33c77, before own-data left the papers' way."""


@pytest.mark.parametrize("name", FROZEN)
def test_what_the_experiments_rest_on_stays_as_it_was_when_own_data_left_the_papers_way(name: str) -> None:
    recipe = yaml.safe_load(resolved(name))
    settings = {key: value for key, value in recipe.items() if key not in {"name", "description"}}
    listed = [settings, list(settings["stages"])]  # the order of the stages counts, that of their settings does not
    assert hashlib.sha256(json.dumps(listed, sort_keys=True).encode()).hexdigest()[:16] == FROZEN[name], (
        "no number of these recipes may change: give own-data a line of its own, with 'if own-data'"
    )


def test_a_changed_value_is_found() -> None:
    then = {"seeds": [0], "stages": {"cam": {"kind": "cam", "scales": [1.0]}, "masks": {"threshold": 0.3}}}
    now = {"seeds": [0], "stages": {"masks": {"threshold": 0.3, "power": 1}, "cam": {"kind": "cam", "scales": [1]}}}
    assert list(differences(then, now)) == [
        "the order of the stages was ['cam', 'masks'], is ['masks', 'cam']",
        "stages.cam.scales was [1.0], is [1]",
        "stages.masks.power = 1 is new",
    ]
    assert list(differences(now, {"seeds": [0]})) == [f"stages = {now['stages']!r} is missing"]
