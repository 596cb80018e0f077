"""A stage whose output changes for the same settings must get a new version: old artefacts would pass for new ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tag2mask.config.recipe import load_recipe
from tag2mask.methods.registry import stage_kinds
from tests.helpers.drawn_maps import few_masks_recipe, registered
from tests.pipeline.golden import ASKED, IRN, RECIPES, RECORD, observe


@pytest.mark.parametrize("recipe", RECIPES)
def test_outputs_are_those_recorded_for_their_version(recipe: str, tmp_path: Path) -> None:
    recorded = json.loads(RECORD.read_text())[recipe]
    found = observe(tmp_path, recipe)
    assert set(found) == set(recorded)
    for name, now in found.items():
        then = recorded[name]
        assert now["version"] == then["version"], f"{name}: record the new version: python -m tests.pipeline.golden"
        # Other processors round differently, and a training carries that along; a change of method is far larger.
        pixels = any(number.startswith("share") for number in then["numbers"])
        assert now["numbers"] == pytest.approx(then["numbers"], rel=0.02, abs=3e-3 if pixels else 1e-6), (
            f"stage '{name}' gives something else under version {then['version']}: raise the version of its StageKind, "
            f"then record it: python -m tests.pipeline.golden"
        )


def test_every_kind_of_stage_is_recorded(tmp_path: Path) -> None:
    recorded = {name for stages in json.loads(RECORD.read_text()).values() for name in stages}
    with registered():
        few = yaml.safe_load(few_masks_recipe(tmp_path, IRN).read_text())["stages"]
    specs = {**load_recipe("demo").stages, **ASKED, **few}
    kinds = {str(spec["kind"]) for name, spec in specs.items() if name in recorded}
    assert kinds >= {name for name, kind in stage_kinds().items() if kind.runner.startswith("tag2mask.")}
