"""One whole run of the default recipe on each drawn kind of data, from tags to masks: slow, each with a floor.

``python -m tests.pipeline.test_drawn_kinds FOLDER [KIND …]`` prints what the masks reach now, for new floors.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tag2mask.api import run
from tag2mask.config.recipe import load_recipe
from tag2mask.data.readers.parts import DRAWN, Scenes

RECIPE = "own-data"
DATA = ["data=parts", "data.images=24", "data.size=128", "data.difficulty=easy"]
KEPT = ("min_side", "max_side", "background")
"""Settings of the recipe's data that hold for drawn pictures too."""
GIVEN: dict[Scenes, list[str]] = {"patchwork": ["data.background=none"]}
"""What a user says of a kind: in 24 images no class stands alone, and ``auto`` has too little to go by."""
FLOORS: dict[Scenes, float] = {"lines": 45, "defects": 50, "patchwork": 85, "blobs": 75, "lookalikes": 60}
"""Least ``miou_foreground`` of the masks, in percent, of each kind.

Of the last three they reached 99, 92 and 75; another machine rounds a training to a somewhat different end.
"""
STEPS, LAST = 60, 20
"""Of a training at most, where the recipe asks for more; and of the last, which no mask here comes from."""


def small(scenes: Scenes) -> list[str]:
    """Overrides that make it fast: small crops, and so few images at once that 24 are steps enough."""
    recipe = load_recipe(RECIPE)
    words = [*DATA, f"data.scenes={scenes}", "engine.device=cpu", "engine.threads=1"]
    words += [f"data.{name}={recipe.data[name]}" for name in KEPT if recipe.data.get(name) is not None]
    words += GIVEN.get(scenes, [])
    for name, stage in recipe.stages.items():
        train = stage.get("train")
        if train is not None:
            words += [f"{name}.train.crop=192", f"{name}.train.batch_size=8"]
            most = LAST if stage["kind"] == "segmenter" else STEPS
            if (train.get("min_steps") or 0) > most:
                words.append(f"{name}.train.min_steps={most}")
            if train.get("long_side"):
                words.append(f"{name}.train.long_side=[200,320]")
    return words


def measured(scenes: Scenes, runs: Path) -> float:
    """``miou_foreground`` of the masks that the network of the default recipe learns from, in percent."""
    result = run(RECIPE, *small(scenes), out=runs / scenes)
    masks = load_recipe(RECIPE).stages["segmenter"]["reads"]["masks"]
    (found,) = (r.value for r in result.metrics if (r.stage, r.metric) == (masks, "miou_foreground"))
    assert found is not None
    return found


@pytest.mark.slow
@pytest.mark.parametrize("scenes", FLOORS)
def test_the_default_recipe_finds_what_is_there(scenes: Scenes, tmp_path: Path) -> None:
    assert measured(scenes, tmp_path / "runs") >= FLOORS[scenes]


def main() -> None:
    """Print what the masks of each kind, or of those named, reach."""
    folder, *named = sys.argv[1:]
    for scenes in (kind for kind in DRAWN if kind in named or not named):
        sys.stdout.write(f"{scenes}: {measured(scenes, Path(folder)):.1f}\n")


if __name__ == "__main__":
    main()
