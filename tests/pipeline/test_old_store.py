"""A store that an earlier version made is used as it is: its keys are those of today, its files are read."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tag2mask import run
from tag2mask.config.recipe import load_recipe
from tests.pipeline.old_store import HALF, PACKED, RECIPE, OldStore, unpack

NEW_VERSION: dict[str, str] = {
    "predictions": "they take the way of `tag2mask predict`: tiles above 4 megapixels, and the photo's own size where "
    "data.max_side shrinks it",
    "seeds": "F1 of the foreground, IoU of thin classes with a tolerance, and trivial answers stand beside mIoU",
    "masks": "as for seeds; refined seeds that are confident of the background alone have no miou_sure",
}
"""Kind of stage -> why its version rose since the store was made: its artefacts, and all made from them, are made anew.

They are the only ones that may be. Raise a version only where the output of a kind changes; this list says where.
"""


@pytest.fixture
def old(tmp_path: Path) -> OldStore:
    return unpack(tmp_path)


def made_anew() -> set[str]:
    """Instances that may be: those of the kinds in `NEW_VERSION`, and what reads them, however far down."""
    found: set[str] = set()
    for name, spec in load_recipe(RECIPE).stages.items():
        if spec["kind"] in NEW_VERSION or found & {*spec.get("reads", {}).values()}:
            found.add(name)
    return found


def test_it_is_small() -> None:
    assert PACKED.stat().st_size < 2_000_000


@pytest.mark.parametrize("begun_with", ["the name of the recipe", "the file that the run wrote"])
def test_every_stage_is_found_and_nothing_is_made(begun_with: str, old: OldStore) -> None:
    before, folders = old.state(), {p.name for p in old.store.iterdir()}
    if begun_with == "the name of the recipe":
        result = run(RECIPE, *old.words, out=old.root / "runs" / "new")
    else:
        recipe = old.root / "runs" / "old" / "recipe.yaml"
        result = run(str(recipe), f"data.root={old.root / 'photos'}", out=recipe.parent)
    found, anew = {name: (result.path / name).resolve().name for name in old.artefacts}, made_anew()
    assert {name for name, artefact in found.items() if artefact != old.artefacts[name]} == anew
    assert old.state() == before
    made = {p.name for p in old.store.iterdir() if p.is_dir() and p.name not in folders | {"runs"}}  # which use it
    assert made == {found[name] for name in anew}
    assert {row.stage for row in result.metrics} >= {"classifier", "lpcam", "amn-lpcam-masks", "predictions"}


def test_a_training_stopped_half_way_begins_anew_and_says_so(old: OldStore, caplog: pytest.LogCaptureFixture) -> None:
    """Its checkpoint is one of Lightning's Trainer, of which the loop of today knows nothing."""
    checkpoint = old.store / old.half / "checkpoint.ckpt"
    assert {p.name for p in checkpoint.parent.iterdir()} == {checkpoint.name}
    caplog.set_level(logging.INFO, "tag2mask")
    result = run(RECIPE, *old.words, *HALF, out=old.root / "runs" / "half", only=["classifier"])
    said = [r.getMessage() for r in caplog.records if str(checkpoint) in r.getMessage()]
    assert said == [f"classifier: {checkpoint} is of an earlier version of tag2mask; the training starts anew"]
    assert (result.path / "classifier").resolve() == checkpoint.parent
    assert {p.name for p in checkpoint.parent.iterdir()} >= {"weights.safetensors", "manifest.json"}
    assert not checkpoint.exists()
