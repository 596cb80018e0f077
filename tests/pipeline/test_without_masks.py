"""Ground truth measures and does nothing else: the default recipe gives the same bytes with and without masks."""

from __future__ import annotations

import shutil

import pytest

from tag2mask.api import run
from tag2mask.evaluation.measures.trivial import TRIVIAL
from tag2mask.evaluation.result_tables import read_metrics
from tag2mask.methods.stage_kinds import MetricStage
from tag2mask.pipeline.run_result import RunResult
from tests.helpers.draw import draw_folder
from tests.helpers.tiny import files_of, tiny_overrides


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunResult, RunResult]:
    """The recipe on drawn data with masks, and on a copy whose masks were removed; a store each."""
    folder = tmp_path_factory.mktemp("without-masks")
    draw_folder(folder / "with" / "data", 12)
    shutil.copytree(folder / "with" / "data", folder / "without" / "data")
    shutil.rmtree(folder / "without" / "data" / "masks")
    made = [
        run("own-data", *tiny_overrides("own-data", folder / side / "data"), out=folder / side / "runs" / "run")
        for side in ("with", "without")
    ]
    return made[0], made[1]


def made_by(result: RunResult) -> dict[str, str]:
    """SHA-256 of the files of every stage but those that measure."""
    measuring = {d.stage.name for d in result.stages if isinstance(d.stage.kind, MetricStage)}
    return {name: value for name, value in files_of(result.path).items() if name.split("/")[0] not in measuring}


def test_masks_change_no_byte_of_what_is_made(runs: tuple[RunResult, RunResult]) -> None:
    first, second = map(made_by, runs)
    masks = [name for name in first if name.endswith(".png")]
    assert len([name for name in masks if "masks" in name]) >= 12
    assert any(name.endswith(".safetensors") for name in first), "the networks too"
    assert first == second


def test_every_ledger_reads_tags(runs: tuple[RunResult, RunResult]) -> None:
    for result in runs:
        for done in result.stages:
            if not isinstance(done.stage.kind, MetricStage):
                assert done.manifest.ledger == ("tags",), done.stage.name
    assert {done.manifest.ledger for done in runs[1].stages} == {("tags",)}


def test_only_the_run_with_masks_has_measured(runs: tuple[RunResult, RunResult]) -> None:
    measured, bare = ({row.metric for row in result.metrics} for result in runs)
    assert {"miou", "miou_foreground", "f1_foreground"} <= measured
    assert not any("iou" in metric or "f1" in metric for metric in bare), "average precision is of the tags"


def test_trivial_answers_stand_once_at_the_end_of_the_run_s_numbers(runs: tuple[RunResult, RunResult]) -> None:
    rows = read_metrics(runs[0].path / "metrics.jsonl")
    trivial = [(r.stage, r.split, r.n_images, r.metric) for r in rows if r.stage in TRIVIAL]
    assert len(trivial) == len(set(trivial)), "not once for each stage that measures"
    assert [(r.stage, r.split, r.n_images, r.metric) for r in rows[-len(trivial) :]] == trivial
    measured = {(r.split, r.n_images) for r in rows if r.metric == "miou"}
    assert {(split, n) for _, split, n, _ in trivial} == measured, "on every set of images that was measured"
    nothing = next(r for r in rows if (r.stage, r.metric) == ("all background", "miou_foreground"))
    assert (nothing.value, nothing.threshold, nothing.threshold_kind) == (0, None, "none")
