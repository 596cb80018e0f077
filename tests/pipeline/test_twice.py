"""The same run twice, one seed, one thread: equal in every byte, trained networks included; another seed is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tag2mask.api import run
from tag2mask.evaluation.measures.trivial import TRIVIAL
from tag2mask.evaluation.result_tables import MetricRow
from tag2mask.pipeline.run_result import RunResult
from tests.helpers.drawn_maps import drawn_maps_kind, few_masks_recipe  # noqa: F401  a fixture
from tests.helpers.tiny import files_of
from tests.pipeline.golden import IRN

CHAIN: dict[str, dict[str, Any]] = {
    "maps": {"kind": "drawn-maps"},
    "refined": {"kind": "refined-seeds", "reads": {"maps": "maps"}},
    **IRN,
    "masks": {"kind": "pseudo-masks", "reads": {"maps": "walk"}},
    "amn-seeds": {"kind": "seeds", "reads": {"maps": "amn-maps"}},
    "predictions-score": {"kind": "masks", "reads": {"masks": "predictions"}, "split": "all"},
}
"""All that trains after a classifier: boundary network, AMN, segmenter; drawn maps stand for the classifier's."""


def chain(folder: Path, *words: str, only: tuple[str, ...] = ()) -> RunResult:
    path = few_masks_recipe(folder, n=8)
    content = yaml.safe_load(path.read_text())
    split = {"predictions": {**CHAIN["predictions"], "split": "all"}}
    path.write_text(yaml.safe_dump({**content, "stages": {**CHAIN, **split}}, sort_keys=False))
    return run(str(path), *words, out=folder / "runs" / "run", only=only)


def timeless(rows: tuple[MetricRow, ...]) -> list[MetricRow]:
    return [replace(row, time="") for row in rows]


@pytest.mark.slow
def test_two_runs_of_one_seed_are_equal_bit_for_bit(tmp_path: Path) -> None:
    first, second = chain(tmp_path / "a"), chain(tmp_path / "b")
    files = files_of(first.path)
    assert files == files_of(second.path)
    assert timeless(first.metrics) == timeless(second.metrics)
    assert {row.stage for row in first.metrics} == {"amn-maps", "masks", "predictions", *TRIVIAL}
    networks = [name for name in ("irn", "amn", "segmenter") if any(file.startswith(f"{name}/") for file in files)]
    assert networks == ["irn", "amn", "segmenter"]
    other = files_of(chain(tmp_path / "b", "seeds=[1]", only=("segmenter", "amn-maps")).path)
    assert {name for name, content in other.items() if files[name] == content and name.startswith("maps/")}
    for name in ("segmenter/", "amn/", "amn-maps/"):
        assert any(files[file] != content for file, content in other.items() if file.startswith(name)), name
