"""Stages that are one in all that they depend on: made once, noted for each of them."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from tag2mask.api import run
from tag2mask.config.recipe import load_recipe
from tag2mask.core.errors import ConfigError
from tag2mask.evaluation.measures.trivial import TRIVIAL
from tag2mask.pipeline.plan import make_plan
from tag2mask.pipeline.run_result import RunResult
from tag2mask.run_report.build import _times
from tests.helpers.drawn_maps import few_masks_recipe, registered
from tests.helpers.tiny import files_of, launch, tiny_overrides, tiny_run
from tests.pipeline.golden import IRN

LONG = 300


@pytest.fixture(autouse=True)
def no_hanging() -> Iterator[None]:
    """A lock that is waited for in vain fails the test instead of stopping all."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TimeoutError("the run waits for itself")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LONG)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def paths(result: RunResult) -> dict[str, Path]:
    """Where each stage of a run is, by its link."""
    return {s.stage.name: (result.path / s.stage.name).resolve() for s in result.stages}


@pytest.mark.slow
def test_maps_of_one_key_in_one_pass_are_made_once(tmp_path: Path) -> None:
    result = tiny_run(tmp_path, "lpcam-f.foreground_only=false", "seeds=[0,1]", "classifier.seed=0")
    found = paths(result)
    assert found["cam@0"] == found["cam@1"]
    assert found["lpcam-f@0"] == found["lpcam@0"] != found["lpcam@1"] == found["lpcam-f@1"]
    assert all(path.is_dir() for path in found.values())
    maps = {f"{name}@{seed}" for name in ("cam", "lpcam-f", "lpcam") for seed in (0, 1)}
    assert {r.stage for r in result.metrics if r.metric == "miou"} == {*maps, *TRIVIAL}
    values = {r.stage: r.value for r in result.metrics if r.metric == "miou" and r.threshold_kind == "oracle"}
    assert values["cam@0"] == values["cam@1"]
    assert values["lpcam-f@1"] == values["lpcam@1"]
    page = result.report.read_text(encoding="utf-8")
    assert all(name in page for name in maps)
    made = {s.stage.name: s.manifest.made for s in result.stages}
    assert made["cam@0"] == made["cam@1"] == 8
    assert [t.name for t in _times(result.stages)].count("lpcam-f@0 + lpcam@0") == 1


@pytest.mark.slow
def test_two_of_every_kind_are_one_of_every_kind(tmp_path: Path) -> None:
    reads = {"maps": "maps", "threshold": "few"}
    twins: dict[str, Any] = {
        "maps-2": {"kind": "drawn-maps"},
        "few-2": {"kind": "few-masks", "reads": {"maps": "maps-2"}, "n": 3},
        "maps-seeds-2": {"kind": "seeds", "reads": {"maps": "maps-2", "threshold": "few-2"}, "threshold": 0.2},
        "refined-2": {"kind": "refined-seeds", "reads": reads},
        "masks-2": {"kind": "pseudo-masks", "reads": {"maps": "maps-2", "threshold": "few"}},
        "irn": IRN["irn"],
        "irn-2": {**IRN["irn"], "reads": {"seeds": "refined-2"}},
    }
    with registered():
        leave = "allow_supervision=[tags,pixel-masks:threshold(3)]"
        result = run(str(few_masks_recipe(tmp_path, twins)), leave, out=tmp_path / "runs" / "run")
    found = paths(result)
    first = [name.removesuffix("-2") for name in twins if name.endswith("-2")]
    assert {name: found[f"{name}-2"] for name in first} == {name: found[name] for name in first}
    assert {r.stage for r in result.metrics if r.metric == "miou"} >= {"maps", "maps-2"}
    assert len({s.artefact.key for s in result.stages}) == len(found) - len(first)


@pytest.mark.parametrize("seeds", ["[0,0]", "[1,0,1]"])
def test_equal_seeds_are_refused(seeds: str) -> None:
    with pytest.raises(ConfigError, match=rf"seeds = \[.*\] names seed {seeds[1]} twice.*seeds=\[{seeds[1]}"):
        make_plan(load_recipe("demo", [f"seeds={seeds}"]))


@pytest.mark.slow
def test_maps_of_one_key_are_made_once_by_two_processes_too(tmp_path: Path) -> None:
    twins = ["lpcam-f.foreground_only=false"]
    alone = tiny_run(tmp_path, *twins)
    out = tmp_path / "other" / "run"
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "tag2mask"]
    done = launch([*words, "run", "demo", *tiny_overrides("demo"), *twins, "--out", str(out)], timeout=LONG)
    assert done.returncode == 0, done.stderr
    assert files_of(out) == files_of(alone.path)
    assert (out / "lpcam").resolve() == (out / "lpcam-f").resolve()
