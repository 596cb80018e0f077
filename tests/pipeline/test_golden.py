"""A stage whose output changes for the same settings must get a new version: old artefacts would pass for new ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers.tiny import tiny_run
from tests.pipeline.golden import RECORD, observe


def test_outputs_are_those_recorded_for_their_version(tmp_path: Path) -> None:
    recorded = json.loads(RECORD.read_text())
    found = observe(tiny_run(tmp_path))
    assert set(found) == set(recorded)
    for name, now in found.items():
        then = recorded[name]
        assert now["version"] == then["version"], f"{name}: record the new version: python -m tests.pipeline.golden"
        # Other processors round differently, and a training carries that along; a change of method is far larger.
        assert now["numbers"] == pytest.approx(then["numbers"], rel=0.02, abs=1e-6), (
            f"stage '{name}' gives something else under version {then['version']}: raise the version of its StageKind, "
            f"then record it: python -m tests.pipeline.golden"
        )
