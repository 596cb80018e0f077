"""Keys that stand in stores on disk: a change of one makes everybody compute everything again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tag2mask.config.recipe import load_recipe
from tag2mask.core.manifest import Manifest
from tag2mask.core.palette import write_labels
from tag2mask.core.types import Sample
from tag2mask.methods.stage_kinds import Makes
from tag2mask.pipeline.keys import ContentHashes, SampleKeys
from tag2mask.pipeline.plan import make_plan
from tag2mask.pipeline.run_folder import RunFolder
from tag2mask.pipeline.session import Session
from tests.helpers.drawn_maps import few_masks_recipe, registered
from tests.helpers.held_maps import Held
from tests.helpers.tiny import tiny_overrides

RECORDED = {
    "classifier": "c7c24445ad5332a8",
    "average-precision": "51f5b40cc9e8a2dc",
    "cam": "ea8da9f6f22091aa",
    "prototypes": "e111123660f040e5",
    "lpcam-f": "ef04c0fff71ec48b",
    "lpcam": "02203d1c124aca9c",
    "cam-seeds": "b2bb5382ce5cb999",
    "lpcam-f-seeds": "aab2e1a76890af0f",
    "lpcam-seeds": "aecb512083c3e805",
}
"""Keys of the first release, where every image, truth and trained file has a fixed hash; of seeds those of version 2,
which has more measures."""


def test_keys_of_the_first_release_still_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ContentHashes, "image", lambda self, dataset, sample: "i")
    monkeypatch.setattr(ContentHashes, "truth", lambda self, dataset, sample: "t")
    folder = RunFolder(tmp_path / "runs" / "run")
    folder.prepare()
    session = Session(make_plan(load_recipe("demo", tiny_overrides("demo"))), folder)
    found = {}
    for stage in session.plan.stages:
        key = session.key(stage)
        found[stage.name] = key[:16]
        files = {} if stage.kind.makes is Makes.MAPS else {"f": "0"}
        session.finish(stage, Manifest(stage.kind.name, key, {}, (), 1, 0, 1, 0, files=files))
    assert found == RECORDED


def test_a_selection_of_nothing_is_not_the_whole_split(tmp_path: Path) -> None:
    keys, split = SampleKeys(ContentHashes(tmp_path / "hashes.json")), Named("a")
    assert keys.all(split, []) != keys.all(split)
    assert keys.all(split, split.samples) == keys.all(split)


def test_a_split_does_not_inherit_the_contents_of_one_that_is_gone(tmp_path: Path) -> None:
    """Python gives a new object the number of one that is gone, so a number does not tell splits apart."""
    keys = SampleKeys(ContentHashes(tmp_path / "hashes.json"))
    found = set()
    for name in "abcdefgh":
        split = Named(name)
        found.add(keys.content(split, split.samples[0]))
        del split
    assert len(found) == 8


class Named(Held):
    """One image whose content is a name."""

    def __init__(self, name: str) -> None:
        super().__init__(("a",), [(np.zeros((1, 2, 2), np.float32), (0,), None)])
        self.content_name = name

    def content_hash(self, sample: Sample) -> str:
        return self.content_name


def test_ground_truth_is_in_the_keys_of_the_kinds_that_read_it(tmp_path: Path) -> None:
    with registered():
        plan = make_plan(load_recipe(str(few_masks_recipe(tmp_path))))
    maps = plan.stage("maps")
    reading = replace(maps, kind=replace(maps.kind, reads_ground_truth=True))

    def keys() -> tuple[str, str]:
        session = Session(plan, RunFolder(tmp_path / "run"))
        return session.key(maps), session.key(reading)

    before = keys()
    write_labels(tmp_path / "data" / "masks" / "photo 00.png", np.ones((48, 64), np.uint8))
    after = keys()
    assert after[0] == before[0]
    assert after[1] not in {*before, after[0]}
