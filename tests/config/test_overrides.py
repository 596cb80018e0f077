"""Overrides of the command line: what another reader of the data replaces, and what stays."""

from __future__ import annotations

from tag2mask.config.overrides import apply_overrides


def test_another_reader_keeps_what_the_recipe_demands_of_any_data() -> None:
    recipe = {"data": {"kind": "folder", "root": "x", "max_side": 640, "min_side": 320, "background": "auto"}}
    changed = apply_overrides(recipe, ["data.root=y", "data=coco"])
    assert changed["data"] == {"kind": "coco", "min_side": 320, "background": "auto", "root": "y"}
    assert recipe["data"]["kind"] == "folder"


def test_a_recipe_that_demands_nothing_keeps_nothing() -> None:
    assert apply_overrides({"data": {"kind": "folder", "max_side": 640}}, ["data=voc"])["data"] == {"kind": "voc"}
