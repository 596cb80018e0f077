"""The pictures of the drawn kinds in the docs are those that this code draws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from docs.make_kinds import GAP, SHOWN, SIZE, sheet
from tag2mask.core.palette import voc_palette
from tag2mask.data.readers.parts import DRAWN, Scenes
from tests.project.source import ROOT


@pytest.mark.parametrize("scenes", DRAWN)
def test_a_picture_in_the_docs_is_todays_with_few_colours_and_small(scenes: Scenes) -> None:
    path: Path = ROOT / "docs" / "figures" / f"{scenes}.png"
    assert path.stat().st_size < 80_000
    now, stored = (np.asarray(image.convert("RGB"), np.float64) for image in (sheet(scenes), Image.open(path)))
    assert now.shape == stored.shape
    assert np.abs(now - stored).mean() < 8, "python docs/make_kinds.py draws them anew"


@pytest.mark.parametrize("scenes", DRAWN)
def test_below_each_picture_is_its_ground_truth_in_the_palette_of_the_masks(scenes: Scenes) -> None:
    page, height = np.asarray(sheet(scenes)), SIZE[0]
    palette = {tuple(colour) for colour in np.array(voc_palette()).reshape(256, 3)[: len(DRAWN[scenes].classes) + 1]}
    below = page[height + GAP :].reshape(-1, 3)
    gaps = GAP * (len(SHOWN[scenes]) - 1) * height
    found = {tuple(colour) for colour in np.unique(below, axis=0).tolist()}
    assert found <= palette | {(255, 255, 255)}
    assert (below == 255).all(axis=1).sum() == gaps
    classes = {kind for number in SHOWN[scenes] for kind in sheet_tags(scenes, number)}
    assert classes == set(range(len(DRAWN[scenes].classes))), "each class is shown"


def sheet_tags(scenes: Scenes, number: int) -> tuple[int, ...]:
    drawing = DRAWN[scenes].lay_out(np.random.default_rng(0), "medium", SIZE, number)
    return drawing.tags
