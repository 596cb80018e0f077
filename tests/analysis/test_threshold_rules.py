"""Thresholds without the truth on finished runs: numbers that agree with the evaluation, views, parts, few masks."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from benchmarks import rules as benchmark
from benchmarks.common import write_rows
from tag2mask.analysis.base import Analysis
from tag2mask.analysis.evaluate_run import evaluate_run
from tag2mask.analysis.few_masks import MEASURES, analyse_few
from tag2mask.analysis.threshold_rules import LOSS, RuleOptions, analyse_rules, classifier_behind, in_part, view_of
from tag2mask.api import run
from tag2mask.cli.options import fixed_thresholds, part_of, sizes
from tag2mask.config.recipe import load_recipe
from tag2mask.core.errors import ConfigError, DataError
from tag2mask.evaluation.result_tables import ResultRow
from tag2mask.evaluation.threshold_rules.rules import rules_of
from tag2mask.inference.settings import MapsSettings
from tag2mask.methods.artefact import Artefact
from tag2mask.methods.registry import stage_kind
from tag2mask.methods.stage_kinds import Makes
from tag2mask.pipeline.plan import make_plan
from tag2mask.pipeline.run_result import RunResult
from tests.helpers.draw import draw_folder
from tests.helpers.drawn_maps import drawn_maps_kind  # noqa: F401  a fixture
from tests.helpers.refused import refused
from tests.helpers.results import read_results

HISTOGRAM = [rule.name for rule in rules_of("histogram")]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    folder = tmp_path_factory.mktemp("rules")
    draw_folder(folder / "data", 10)
    content = {
        "name": "ruled",
        "data": {"kind": "folder", "root": str(folder / "data"), "tags": "tags.csv", "images": "images", "val": None},
        "engine": {"device": "cpu", "threads": 1},
        "stages": {
            "sharp": {"kind": "drawn-maps", "blur": 1},
            "blurred": {"kind": "drawn-maps", "blur": 3},
            "sharp-seeds": {"kind": "seeds", "reads": {"maps": "sharp"}, "threshold": 0.35},
            "sharp-masks": {"kind": "pseudo-masks", "reads": {"maps": "sharp"}, "threshold": 0.6},
            "sharp-rule": {"kind": "rule", "reads": {"maps": "sharp"}, "rule": "entropy"},
        },
    }
    path = folder / "ruled.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return run(str(path), out=folder / "runs" / "run")


@pytest.fixture(scope="module")
def found(done: RunResult) -> Analysis:
    return analyse_rules([done.path], options=RuleOptions(other="blurred", fixed={"blurred": [0.5, 0.25]}))


def by_kind(found: Analysis, stage: str) -> dict[str, list[ResultRow]]:
    kinds: dict[str, list[ResultRow]] = {}
    for name, (miou, loss, *_) in found.numbers:
        if name == stage:
            kinds.setdefault(miou.threshold_kind, []).append(miou)
            assert (miou.metric, loss.metric) == ("miou", LOSS)
    return kinds


def test_every_rule_stands_beside_fixed_and_oracle(found: Analysis) -> None:
    scopes = ("", "/class", "/image")
    rules = {f"rule({name}{scope})" for name in (*HISTOGRAM, "agreement") for scope in scopes}
    assert set(by_kind(found, "sharp")) == {*rules, "fixed", "oracle"}
    assert [row.threshold for row in by_kind(found, "sharp")["fixed"]] == [0.35, 0.6], "of seeds and of pseudo-masks"
    assert [row.threshold for row in by_kind(found, "blurred")["fixed"]] == [0.5, 0.25]
    assert not any("agreement" in kind for kind in by_kind(found, "blurred")), "not with itself"


def test_numbers_are_those_of_the_evaluation(done: RunResult, found: Analysis) -> None:
    kinds = by_kind(found, "sharp")
    (otsu,) = kinds["rule(otsu)"]
    assert otsu.threshold is not None
    measured = evaluate_run(done.path, stages=["sharp"], thresholds=[otsu.threshold, 0.6])
    rows = [r for r in measured if r.metric == "miou" and r.method == "sharp"]
    fixed, other, oracle = rows
    assert otsu.value == fixed.value
    assert kinds["fixed"][1].value == other.value
    assert (kinds["oracle"][0].threshold, kinds["oracle"][0].value) == (oracle.threshold, oracle.value)
    losses = {miou.threshold_kind: (miou, loss) for name, (miou, loss, *_) in found.numbers if name == "sharp"}
    for miou, loss in losses.values():
        assert oracle.value is not None
        assert miou.value is not None
        assert loss.value == pytest.approx(oracle.value - miou.value, abs=2e-4)
    assert losses["oracle"][1].value == 0


def test_a_rule_s_threshold_is_that_of_its_stage(done: RunResult, found: Analysis) -> None:
    chosen = next(s.artefact for s in done.stages if s.stage.name == "sharp-rule").threshold()
    (row,) = by_kind(found, "sharp")["rule(entropy)"]
    assert row.threshold == chosen.value


def test_files_hold_the_numbers_and_the_figure_names_them(done: RunResult, found: Analysis) -> None:
    assert [p.name for p in found.files] == ["threshold-rules.csv", "threshold-rules.svg"]
    assert found.files[0].parent == done.path / "analysis"
    assert read_results(found.files[0]) == [row for _, rows in found.numbers for row in rows]
    svg = found.files[1].read_text()
    for text in ("rule(otsu)", "rule(beta-mixture/class)", "sharp", "blurred", "points of mIoU lost", "10 images"):
        assert text in svg
    commands = {row.method: row.command for _, rows in found.numbers for row in rows}
    assert commands["sharp"] == f"tag2mask analyse threshold-rules {done.path} --stage sharp --other=blurred"
    assert commands["blurred"].endswith("--stage blurred --other=blurred --fixed=blurred=0.5 --fixed=blurred=0.25")


def test_a_fixed_threshold_of_no_stage_is_refused(done: RunResult, tmp_path: Path) -> None:
    with refused(ConfigError, "'sharpe'", "sharp"):
        analyse_rules([done.path], stages=["sharp"], options=RuleOptions(fixed={"sharpe": [0.3]}), out=tmp_path)


def test_parts_hold_every_image_once(done: RunResult, tmp_path: Path) -> None:
    ids = [f"photo {i:02d}" for i in range(40)]
    for count in (2, 3):
        parts = [[i for i in ids if in_part(i, (k, count))] for k in range(1, count + 1)]
        assert sorted(i for part in parts for i in part) == ids
        assert all(parts)
    assert all(in_part(i, None) for i in ids)
    with refused(ConfigError, "part = 3/2", "i/k", "from 1 to k"):
        in_part("x", (3, 2))
    sizes_found = []
    for k in (1, 2):
        one = analyse_rules([done.path], stages=["sharp"], options=RuleOptions(part=(k, 2)), out=tmp_path)
        sizes_found.append(one.numbers[0][1][0].n_images)
        assert one.numbers[0][1][0].command.endswith(f"--part={k}/2")
    assert sum(sizes_found) == 10
    empty = next(k for k in range(1, 60) if not any(in_part(i, (k, 59)) for i in ids[:10]))
    with refused(DataError, "sharp", "'all'", "take fewer parts"):
        analyse_rules([done.path], stages=["sharp"], options=RuleOptions(part=(empty, 59)), out=tmp_path)


def stage(name: str, reads: str = "classifier", **settings: Any) -> Any:
    return SimpleNamespace(
        name=name,
        kind=SimpleNamespace(name="cam"),
        reads={"classifier": reads},
        seed=0,
        settings=MapsSettings(**settings),
    )


def test_a_view_is_the_same_maps_at_fewer_scales() -> None:
    full = stage("cam", scales=(1.0, 0.5), mirror=True)
    one, two = stage("one", scales=(1.0,), mirror=False), stage("two", scales=(1.0,), mirror=True)
    stranger = stage("x", "other", scales=(1.0,), mirror=False)
    names = [getattr(view_of(s, [full, two, one, stranger]), "name", None) for s in (full, two, one, stranger)]
    assert names == ["one", "one", None, None]


def test_the_classifier_is_found_however_far_up(tmp_path: Path) -> None:
    def made(name: str, **reads: Artefact) -> Artefact:
        kind = stage_kind(name) if name == "classifier" else None
        return Artefact(name, tmp_path, name, lambda dataset, sample: "", reads=reads, kind=kind)

    classifier = made("classifier")
    masks = made("refined", maps=made("cam", classifier=classifier))
    assert classifier_behind(made("maps", amn=made("amn", seeds=masks))) is classifier
    assert classifier_behind(made("maps")) is None


def test_few_masks_are_drawn_and_measured_on_the_others(done: RunResult, tmp_path: Path) -> None:
    found = analyse_few(done.path, n=[2, 5], draws=12, stages=["sharp"], out=tmp_path)
    assert [p.name for p in found.files] == ["few-masks.csv", "few-masks-draws.csv", "few-masks.svg"]
    rows = {(r.threshold_kind, r.metric): r for _, rows in found.numbers for r in rows}
    assert {metric for _, metric in rows} == set(MEASURES)
    assert [rows[f"few-masks({n})", "miou"].n_images for n in (2, 5)] == [8, 5]
    with found.files[1].open(encoding="utf-8", newline="") as stream:
        lines = [line for line in csv.DictReader(stream) if line["threshold_kind"] == "few-masks(2)"]
    assert len(lines) == 12
    losses = [float(line["loss_to_oracle"]) for line in lines]
    assert rows["few-masks(2)", LOSS].value == pytest.approx(sum(losses) / 12, abs=1e-4)
    assert min(losses) >= 0
    mean = sum(float(line["threshold"]) for line in lines) / 12
    assert rows["few-masks(2)", LOSS].threshold == pytest.approx(mean, abs=1e-4)
    assert "2 masks" in found.files[2].read_text()
    assert read_results(found.files[0]) == [row for _, rows in found.numbers for row in rows]
    again = analyse_few(done.path, n=[2, 5], draws=12, stages=["sharp"], out=tmp_path)
    assert again.numbers == found.numbers
    with refused(DataError, "n = 10", "10 images", "leave none"):
        analyse_few(done.path, n=[10], draws=2, stages=["sharp"], out=tmp_path)


def test_options_are_read() -> None:
    assert sizes("5,10,5,20") == [5, 10, 20]
    assert fixed_thresholds(["cam=0.3", "lpcam=1", "cam=0.25"]) == {"cam": [0.3, 0.25], "lpcam": [1]}
    assert (part_of(None), part_of("2/3")) == (None, (2, 3))
    for text in ("", "0", "5,x", "-1"):
        with pytest.raises(ConfigError, match=f"--n {text}: expected numbers of masks"):
            sizes(text)
    for text in ("cam", "cam=x", "=0.3", "cam=1.5", "cam=nan"):
        with pytest.raises(ConfigError, match=f"--fixed {text}: expected STAGE=THRESHOLD"):
            fixed_thresholds(["x=0.5", text])
    for text in ("1", "0/2", "3/2", "a/b", "1/2/3"):
        with pytest.raises(ConfigError, match=f"--part {text}: expected i/k"):
            part_of(text)


def test_the_benchmark_adds_a_view_of_every_maps_stage() -> None:
    recipe = benchmark.with_views(load_recipe("light", ["data.root=photos"]))
    plan = make_plan(recipe)
    maps = [s for s in plan.stages if s.kind.makes is Makes.MAPS]
    views = {s.name: view.name for s in maps if (view := view_of(s, maps))}
    assert views == {name: f"{name}-view" for name in ("cam", "lpcam-f", "lpcam", "amn-lpcam-maps")}
    assert "segmenter" not in recipe.stages
    for fixed in benchmark.FIXED.values():
        assert set(fixed) == {*views, "amn-maps"}


def analysis(losses: dict[str, dict[str, float]], n_images: int) -> Analysis:
    rows = [
        (stage, (ResultRow(stage, "all", n_images, kind, 0.3 if kind == "fixed" else None, LOSS, value, 0, "x"),))
        for kind, values in losses.items()
        for stage, value in values.items()
    ]
    return Analysis(tuple(rows), ())


FIXED = {"seeds": {"x": 0.3, "y": 0.3, "sharp": 0.3}, "refined seeds": {"x": 0.3, "y": 0.4, "sharp": 0.4}}


def test_the_benchmark_measures_the_rule_of_one_half_on_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "FIXED", FIXED)
    first = {
        "rule(a)": {"x": 1.0, "y": 2.0}, "rule(b)": {"x": 0.5, "y": 3.5}, "rule(c)": {"x": 0.1},
        "fixed": {"x": 2.0, "y": 3.0}, "oracle": {"x": 0.0, "y": 0.0},
    }  # fmt: skip
    second = {**first, "rule(a)": {"x": 4.0, "y": 5.0}}
    one, two = benchmark.halves([analysis(first, 7), analysis(second, 9)], "made so")
    assert (one.chosen_on, one.rule, one.n_images, one.stages) == ("1/2", "rule(a)", 9, "x+y")
    assert (one.loss_chosen, one.loss, one.loss_seeds, one.loss_refined) == (1.5, 4.5, 2.5, 2.0)
    assert (two.chosen_on, two.rule, two.loss_chosen, two.loss) == ("2/2", "rule(b)", 2.0, 2.0)


def test_the_benchmark_s_losses_are_sorted_by_their_mean_and_say_what_they_are_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(benchmark, "FIXED", FIXED)
    found = analysis(
        {
            "rule(a/class)": {"x": 1.0, "y": 2.0}, "rule(b)": {"x": 0.5}, "rule(c-d)": {"x": 0.5, "y": 0.0},
            "fixed": {"x": 2.0, "y": 2.0}, "oracle": {"x": 0.0, "y": 0.0},
        },
        7,
    )  # fmt: skip
    lines = benchmark.loss_lines(found, "2/2", "made so")
    assert [(line.chosen_by, line.per, line.metric, line.value) for line in lines] == [
        ("c-d", "data", "x", 0.5), ("c-d", "data", "y", 0.0), ("c-d", "data", "mean", 0.25),
        ("a", "class", "x", 1.0), ("a", "class", "y", 2.0), ("a", "class", "mean", 1.5),
        ("fixed: seeds", "data", "x", 2.0), ("fixed: seeds", "data", "y", 2.0), ("fixed: seeds", "data", "mean", 2.0),
        ("b", "data", "x", 0.5), ("fixed: refined seeds", "data", "x", 2.0),
    ]  # fmt: skip
    assert {(line.half, line.n_images, line.seed, line.command) for line in lines} == {("2/2", 7, 0, "made so")}


def test_the_benchmark_writes_numbers_losses_and_halves(
    done: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark, "FIXED", FIXED)
    benchmark.measure([done.path], ["sharp"], tmp_path, 0, None)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "threshold-rules-halves.csv", "threshold-rules-losses.csv", "threshold-rules.csv", "threshold-rules.svg",
    ]  # fmt: skip
    lines = (tmp_path / "threshold-rules-halves.csv").read_text().splitlines()
    heads = [line.split(",")[:3] for line in lines[1:]]
    assert heads == [["1/2", "2/2", "sharp"], ["2/2", "1/2", "sharp"]]
    rows = read_results(tmp_path / "threshold-rules.csv")
    assert {row.command[-5:] for row in rows} == {"t=1/2", "t=2/2"}
    assert sum({row.command: row.n_images for row in rows}.values()) == 10, "every image in one half"
    with (tmp_path / "threshold-rules-losses.csv").open(encoding="utf-8", newline="") as stream:
        otsu = [r for r in csv.DictReader(stream) if (r["half"], r["chosen_by"], r["per"]) == ("1/2", "otsu", "image")]
    (number,) = [
        row for row in rows if (row.threshold_kind, row.metric) == ("rule(otsu/image)", LOSS) and "=1/2" in row.command
    ]
    assert [row["metric"] for row in otsu] == ["sharp", "mean"]
    assert all(float(row["value"]) == pytest.approx(number.value, abs=6e-3) for row in otsu)


def test_the_benchmark_takes_the_means_over_data_sets_of_what_all_of_them_have(tmp_path: Path) -> None:
    def line(half: str, chosen_by: str, value: float, metric: str = "mean") -> benchmark.Loss:
        return benchmark.Loss(half, 5, chosen_by, "data", metric, value, 0, "x")

    one = [line("1/2", "a", 2.0), line("2/2", "a", 4.0), line("1/2", "b", 1.0), line("2/2", "b", 1.0)]
    other = [line("1/2", "a", 0.0), line("2/2", "a", 1.0), line("1/2", "b", 1.5), line("2/2", "b", 9.0)]
    write_rows(tmp_path / "one" / "threshold-rules-losses.csv", [*one, line("1/2", "a", 50.0, "cam")])
    write_rows(tmp_path / "two" / "threshold-rules-losses.csv", [*other, line("1/2", "c", 0.0)])
    benchmark.together([tmp_path / "one", tmp_path / "two"], tmp_path)
    with (tmp_path / "threshold-rules.csv").open(encoding="utf-8", newline="") as stream:
        rows = [(r["chosen_by"], r["per"], float(r["half_1"]), float(r["half_2"])) for r in csv.DictReader(stream)]
    assert rows == [("a", "data", 1.0, 2.5), ("b", "data", 1.25, 5.0)], "sorted by the first half; c is not in both"
