"""Every shipped recipe resolves to the values recorded for it, however it is written."""

from __future__ import annotations

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


def test_a_changed_value_is_found() -> None:
    then = {"seeds": [0], "stages": {"cam": {"kind": "cam", "scales": [1.0]}, "masks": {"threshold": 0.3}}}
    now = {"seeds": [0], "stages": {"masks": {"threshold": 0.3, "power": 1}, "cam": {"kind": "cam", "scales": [1]}}}
    assert list(differences(then, now)) == [
        "the order of the stages was ['cam', 'masks'], is ['masks', 'cam']",
        "stages.cam.scales was [1.0], is [1]",
        "stages.masks.power = 1 is new",
    ]
    assert list(differences(now, {"seeds": [0]})) == [f"stages = {now['stages']!r} is missing"]
