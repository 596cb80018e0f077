"""Keys that stand in stores on disk: a change of one makes everybody compute everything again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tag2mask.config.recipe import load_recipe
from tag2mask.pipeline.keys import ContentHashes
from tag2mask.pipeline.plan import make_plan
from tag2mask.pipeline.runfolder import RunFolder
from tag2mask.pipeline.session import Session
from tag2mask.pipeline.store import Manifest
from tests.helpers.tiny import tiny_overrides

RECORDED = {
    "classifier": "c7c24445ad5332a8",
    "average-precision": "51f5b40cc9e8a2dc",
    "cam": "ea8da9f6f22091aa",
    "prototypes": "e111123660f040e5",
    "lpcam-f": "ef04c0fff71ec48b",
    "lpcam": "02203d1c124aca9c",
    "cam-seeds": "5d7efaefd7783820",
    "lpcam-f-seeds": "f55d6814e8052500",
    "lpcam-seeds": "dd4250aa8170314b",
}
"""Keys of the first release, where every image, truth and trained file has a fixed hash."""


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
        files = {} if stage.kind.makes == "maps" else {"f": "0"}
        session.finish(stage, Manifest(stage.kind.name, key, {}, (), 1, 0, 1, 0, files=files))
    assert found == RECORDED
