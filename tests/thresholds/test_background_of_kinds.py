"""``data.background=auto`` on the drawn kinds: there is none in the patchwork, and a background in all others."""

from __future__ import annotations

from typing import Any

import pytest

from tag2mask.data.readers.parts import PartsDataset, PartsSettings, Scenes, open_split
from tag2mask.thresholds.background import by_cells, by_tags


def drawn(scenes: Scenes, **settings: Any) -> PartsDataset:
    values: dict[str, Any] = {"scenes": scenes, "images": 40, "size": 96, **settings}
    return open_split(PartsSettings(**values), "train")


@pytest.mark.parametrize("scenes", ["lines", "defects", "lookalikes"])
def test_pictures_without_any_class_show_a_background(scenes: Scenes) -> None:
    decided = by_tags(drawn(scenes))
    assert decided is not None
    assert decided.background == "present"
    assert "no tag" in decided.reason


def test_a_patchwork_of_easy_colours_has_none() -> None:
    dataset = drawn("patchwork", difficulty="easy")
    assert by_tags(dataset) is None, "every image has a tag, and many have one"
    decided = by_cells(dataset, "background")
    assert decided.background == "none", decided.reason
    assert "tell" in decided.reason


def test_two_kinds_of_plants_have_a_background_even_where_each_image_has_a_tag() -> None:
    """Without the images of bare soil the tags settle nothing, and the cells have to tell."""
    dataset = drawn("lookalikes", images=80)
    dataset.samples = tuple(sample for sample in dataset.samples if sample.tags)
    decided = by_tags(dataset) or by_cells(dataset, "background")
    assert decided.background == "present", decided.reason
