"""The analyses of finished runs: the same images for all maps, files, numbers that agree with others, errors."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest
import yaml

from tag2mask.analysis import map_thresholds
from tag2mask.analysis.evaluate_run import evaluate_run
from tag2mask.analysis.map_thresholds import analyse_activation, analyse_curves, analyse_thresholds
from tag2mask.api import run
from tag2mask.core.errors import ConfigError, DataError, StageError
from tag2mask.core.files import read_json
from tag2mask.evaluation.result_tables import ResultRow
from tag2mask.pipeline.opened_run import OpenedRun
from tag2mask.pipeline.run_result import RunResult
from tests.helpers.drawn_maps import drawn_maps_kind, few_masks_recipe  # noqa: F401  a fixture
from tests.helpers.pictures import drawn_by
from tests.helpers.refused import refused
from tests.helpers.results import read_results


def recipe(folder: Path, stages: dict[str, dict[str, object]]) -> str:
    """A recipe of these stages on 12 drawn images, three of which a threshold may be chosen on."""
    path = few_masks_recipe(folder)
    content = yaml.safe_load(path.read_text())
    content["stages"] = stages
    content["allow_supervision"] = ["tags", "pixel-masks:threshold(3)"]
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return str(path)


SHARP = {"kind": "drawn-maps", "blur": 0}
BLURRED = {"kind": "drawn-maps", "blur": 4}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    folder = tmp_path_factory.mktemp("analyse")
    return run(recipe(folder, {"sharp": SHARP, "blurred": BLURRED}), out=folder / "runs" / "run")


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def numbers(rows: tuple[ResultRow, ...]) -> dict[str, float]:
    return {row.metric: row.value for row in rows if row.value is not None}


def test_thresholds_agree_with_eval_and_are_on_disk(done: RunResult, tmp_path: Path) -> None:
    found = analyse_thresholds(done.path, out=tmp_path)
    assert [p.name for p in found.files[:3]] == [
        "optimum-threshold.csv", "optimum-threshold-images.csv", "optimum-threshold.svg",
    ]  # fmt: skip
    assert set(found.files) == set(tmp_path.iterdir())
    oracle = {r.stage: r for r in evaluate_run(done.path) if r.metric == "miou"}
    for name, rows in found.numbers:
        assert (rows[0].threshold, rows[0].value) == (oracle[name].threshold, oracle[name].value)
        assert numbers(rows)["miou_own"] >= numbers(rows)["miou"]
        assert rows[0].command == f"tag2mask analyse optimum-threshold {done.path} --stage {name}"
    assert read_results(found.files[0]) == [row for _, rows in found.numbers for row in rows]
    images = lines(found.files[1])
    assert [(i["stage"], i["threshold_kind"]) for i in images] == [("sharp", "oracle")] * 12 + [
        ("blurred", "oracle")
    ] * 12
    mean = sum(float(i["threshold"]) for i in images[:12]) / 12
    assert numbers(found.numbers[0][1])["optimum_mean"] == pytest.approx(mean, abs=1e-4)
    svg = found.files[2].read_text()
    for text in ("sharp", "blurred", "12 images, seed 0", "(oracle)", "global: "):
        assert text in svg


def test_far_images_are_drawn(done: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = drawn_by(map_thresholds, monkeypatch)
    found = analyse_thresholds(done.path, stages=["blurred"], out=tmp_path)
    images = lines(found.files[1])
    far = {
        side: {i["image"] for i in images if float(i["distance"]) * sign > 0.1}
        for side, sign in (("below", -1), ("above", 1))
    }
    assert {p.name for p in found.files[3:]} == {
        f"optimum-threshold-blurred-{side}.png" for side, ids in far.items() if ids
    }
    dataset = OpenedRun(done.path).maps("blurred").dataset
    shown = {figure.path: set(figure.check(dataset)) for figure in drawn}
    assert set(shown) == set(found.files[3:])
    assert all(ids <= far[path.stem.rpartition("-")[2]] for path, ids in shown.items())


def test_curves_of_several_runs_share_a_figure(done: RunResult, tmp_path: Path) -> None:
    alone = analyse_curves([done.path])
    assert alone.files[0].parent == done.path / "analysis"
    assert [name for name, _ in alone.numbers] == ["sharp", "blurred"]
    other = run(recipe(done.path.parents[1], {"soft": BLURRED}), out=done.path.parent / "other")
    found = analyse_curves([done.path, other.path], stages=["sharp", "soft"], out=tmp_path)
    names = [f"{done.path}/sharp", f"{other.path}/soft"]
    assert [name for name, _ in found.numbers] == names
    assert all(name in found.files[2].read_text() for name in names)
    both = dict(alone.numbers)
    for (_, rows), twin in zip(found.numbers, ("sharp", "blurred"), strict=True):  # soft is blurred by another name
        assert numbers(rows) == numbers(both[twin])
    points = lines(found.files[1])
    assert len(points) == 2 * 101
    best = max(float(p["miou"]) for p in points if p["stage"] == names[0])
    assert best == numbers(found.numbers[0][1])["miou"]
    assert {(p["split"], p["n_images"], p["seed"]) for p in points} == {("all", "12", "0")}


def test_sharp_maps_have_the_larger_gap(done: RunResult, tmp_path: Path) -> None:
    found = analyse_activation(done.path, out=tmp_path)
    sharp, blurred = (numbers(rows) for _, rows in found.numbers)
    assert sharp["gap"] > blurred["gap"]
    assert sharp["margin"] > blurred["margin"]
    images = lines(found.files[1])
    assert len(images) == 24
    for measure in ("spread", "inside", "outside", "gap", "margin"):
        mean = sum(float(i[measure]) for i in images if i["stage"] == "blurred") / 12
        assert blurred[measure] == pytest.approx(mean, abs=1e-4)
    assert "spread inside the object" in found.files[2].read_text()


def test_images_of_a_threshold_are_left_out_for_all_maps(tmp_path: Path) -> None:
    few = {"kind": "few-masks", "reads": {"maps": "sharp"}, "n": 3}
    behind = {**BLURRED, "reads": {"threshold": "few"}}
    made = run(recipe(tmp_path, {"sharp": SHARP, "few": few, "behind": behind}), out=tmp_path / "runs" / "run")
    alone = analyse_activation(made.path, stages=["sharp"], out=tmp_path / "out")
    assert alone.numbers[0][1][0].n_images == 12  # nothing of these maps hangs on the threshold
    seen = set(read_json(made.path / "few" / "threshold.json")["ids"])
    assert len(seen) == 3
    for analyse in (analyse_thresholds, analyse_activation):
        found = analyse(made.path, out=tmp_path / "out")
        assert {rows[0].n_images for _, rows in found.numbers} == {9}
        assert {line["image"] for line in lines(found.files[1])}.isdisjoint(seen)
    assert {p["n_images"] for p in lines(analyse_curves([made.path], out=tmp_path / "out").files[1])} == {"9"}


def test_stages_that_cannot_be_analysed(tmp_path: Path) -> None:
    few = {"kind": "few-masks", "reads": {"maps": "sharp"}, "n": 3}
    made = run(recipe(tmp_path, {"sharp": SHARP, "few": few}), out=tmp_path / "runs" / "run")
    with refused(ConfigError, "'sharb'", "did you mean 'sharp'"):
        analyse_thresholds(made.path, stages=["sharb"])
    with refused(ConfigError, "'few' makes threshold", "maps are needed", "Stages of maps: sharp"):
        analyse_activation(made.path, stages=["few"])
    with refused(ConfigError, "'sharb'", "did you mean 'sharp'"):
        analyse_curves([made.path], stages=["sharp", "sharb"])
    with refused(StageError, "is not a run", "recipe.yaml"):
        analyse_curves([made.path, tmp_path / "nothing"])
    (made.path / "sharp").unlink()
    with refused(StageError, "'sharp'", "not finished", "tag2mask run"):
        analyse_thresholds(made.path)
    assert not (made.path / "analysis").exists()


def test_a_run_without_a_truth_or_without_maps(tmp_path: Path) -> None:
    made = run(recipe(tmp_path, {"sharp": SHARP}), out=tmp_path / "runs" / "run")
    shutil.rmtree(tmp_path / "data" / "masks")
    for analyse in (analyse_thresholds, analyse_activation):
        with refused(DataError, "'all'", "no image", "ground truth"):
            analyse(made.path)
    with refused(DataError, "'all'", "no image", "ground truth"):
        analyse_curves([made.path])
    without = tmp_path / "runs" / "without"
    without.mkdir()
    shutil.copy(recipe(tmp_path, {"classifier": {"kind": "classifier"}}), without / "recipe.yaml")
    with refused(ConfigError, "without", "no stage that makes maps", "tag2mask ls recipes"):
        analyse_thresholds(without)
    with refused(ConfigError, "no stage that makes maps", "tag2mask ls recipes"):
        analyse_curves([without], stages=["cam"])


def test_runs_on_other_images_are_not_compared(done: RunResult, tmp_path: Path) -> None:
    few_masks_recipe(tmp_path, n=5)
    other = run(recipe(tmp_path, {"sharp": SHARP}), out=tmp_path / "runs" / "run")
    with refused(ConfigError, "cannot be compared", "'all' has 12 images of 3 classes"):
        analyse_curves([done.path, other.path])
    soft = run(recipe(tmp_path, {"soft": BLURRED}), out=tmp_path / "runs" / "soft")
    with refused(ConfigError, "none of the stages sharp", "maps soft", "Leave the run"):
        analyse_curves([other.path, soft.path], stages=["sharp"])
