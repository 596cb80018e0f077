"""Sweeps on maps drawn from the truth: what is made again, resume, failures, the table, the best point, figures."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from tag2mask.api import run
from tag2mask.core.errors import ConfigError, StageError
from tag2mask.evaluation.result_tables import COLUMNS, MetricRow
from tag2mask.sweep.result import Series, SweepPoint, SweepResult, series_of
from tag2mask.sweep.run import sweep, write_sweep
from tests.helpers.drawn_maps import drawn_maps_kind, few_masks_recipe  # noqa: F401  a fixture
from tests.helpers.refused import refused


def recipe(folder: Path) -> str:
    """Maps drawn from the truth of 12 images, their seeds at 0.2 and at the oracle, and seeds at a threshold of few."""
    path = few_masks_recipe(folder)
    content = yaml.safe_load(path.read_text())
    content["allow_supervision"] = ["tags", "pixel-masks:threshold(3)"]
    content["stages"] = {
        "maps": {"kind": "drawn-maps"},
        "maps-seeds": {"kind": "seeds", "reads": {"maps": "maps"}, "threshold": 0.2},
        "few": {"kind": "few-masks", "reads": {"maps": "maps"}, "n": 3},
        "few-seeds": {"kind": "seeds", "reads": {"maps": "maps", "threshold": "few"}},
    }
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sweep")


@pytest.fixture(scope="module")
def done(folder: Path) -> SweepResult:
    return sweep(recipe(folder), {"maps.blur": ["0", "4", "2"]}, out=folder / "runs" / "blur", only=["maps-seeds"])


def stored(folder: Path, kind: str) -> set[str]:
    return {p.name for p in (folder / "runs" / ".store").glob(f"{kind}-*") if p.is_dir()}


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_point_is_the_run_with_its_setting(done: SweepResult, folder: Path) -> None:
    alone = run(recipe(folder), "maps.blur=4", out=folder / "runs" / "alone", only=["maps-seeds"])
    point = done.points[1]
    assert point.values == ("4",)
    assert [replace(r, time="") for r in point.metrics] == [replace(r, time="") for r in alone.metrics]
    assert point.path == folder / "runs" / "blur" / "maps.blur=4"
    assert (point.path / "maps").resolve() == (alone.path / "maps").resolve(), "one store serves both"
    assert point.command == f"tag2mask run {recipe(folder)} maps.blur=4 --only maps-seeds"
    assert not done.failed


def test_the_table_has_the_swept_setting_and_every_number(done: SweepResult) -> None:
    table, figure = done.files
    assert table.read_text().splitlines()[0] == ",".join(["maps.blur", *COLUMNS])
    found = lines(table)
    assert len(found) == sum(len(p.metrics) for p in done.points)
    first = next(line for line in found if line["metric"] == "miou" and line["threshold_kind"] == "fixed")
    row = next(r for r in done.points[0].metrics if r.metric == "miou" and r.threshold_kind == "fixed")
    assert (first["maps.blur"], float(first["value"]), first["command"]) == ("0", row.value, done.points[0].command)
    svg = figure.read_text()
    for text in ("threshold: fixed", "threshold: oracle", "maps.blur", "12 images"):
        assert text in svg


def test_sharper_maps_are_best_and_the_kinds_are_apart(done: SweepResult) -> None:
    fixed, oracle = series_of(done)
    assert [(s.method, s.split, s.kind) for s in (fixed, oracle)] == [
        ("maps", "all", "fixed"),
        ("maps", "all", "oracle"),
    ]
    means = [cell.mean for cell in oracle.cells if cell]
    assert means[0] > means[2] > means[1]  # blur 0, 2, 4
    assert oracle.best == 0
    assert oracle.spread == pytest.approx(means[0] - means[1])
    assert all(c and f and c.mean >= f.mean for c, f in zip(oracle.cells, fixed.cells, strict=True))
    assert all(cell and (cell.n_images, cell.sd, cell.threshold) == (12, None, 0.2) for cell in fixed.cells)


def test_the_same_sweep_again_makes_nothing_and_a_further_value_only_its_own(done: SweepResult, folder: Path) -> None:
    before = stored(folder, "drawn-maps")
    files = {p: p.stat().st_mtime_ns for p in (folder / "runs" / ".store").rglob("*.npz")}
    again = sweep(
        recipe(folder), {"maps.blur": ["0", "1", "2", "4"]}, out=folder / "runs" / "blur", only=["maps-seeds"]
    )
    assert len(stored(folder, "drawn-maps") - before) == 1
    assert all(p.stat().st_mtime_ns == time for p, time in files.items())
    assert again.points[0].metrics == done.points[0].metrics
    assert len(lines(again.files[0])) == 4 * len(done.points[0].metrics)


def test_thresholds_share_one_set_of_maps(folder: Path, done: SweepResult) -> None:
    before = stored(folder, "drawn-maps")
    found = sweep(
        recipe(folder), {"maps-seeds.threshold": ["0.1", "0.4"]}, out=folder / "runs" / "at", only=["maps-seeds"],
        overrides=["maps.blur=4"],
    )  # fmt: skip
    assert stored(folder, "drawn-maps") == before
    fixed, oracle = series_of(found)
    assert [cell.threshold for cell in fixed.cells if cell] == [0.1, 0.4]
    assert len({cell.mean for cell in oracle.cells if cell}) == 1


def test_two_settings_make_a_heat_map_and_three_a_table(folder: Path, done: SweepResult) -> None:
    grid = {"maps.blur": ["0", "2"], "maps-seeds.threshold": ["0.1", "0.2", "0.4"]}
    found = sweep(recipe(folder), grid, out=folder / "runs" / "two", only=["maps-seeds"])
    assert [p.values for p in found.points][:4] == [("0", "0.1"), ("0", "0.2"), ("0", "0.4"), ("2", "0.1")]
    (fixed, _) = series_of(found)
    svg = found.files[1].read_text()
    assert all(f">{cell.mean:.1f}<" in svg for cell in fixed.cells if cell)
    assert fixed.cells[1] == next(s for s in series_of(done) if s.kind == "fixed").cells[0]
    three = sweep(
        recipe(folder), {**grid, "maps-seeds.oracle": ["true", "false"]}, out=folder / "runs" / "three",
        only=["maps-seeds"],
    )  # fmt: skip
    assert [p.name for p in three.files] == ["sweep.csv"]
    assert len(three.points) == 12


def test_a_point_that_fails_leaves_the_others(
    folder: Path, done: SweepResult, caplog: pytest.LogCaptureFixture
) -> None:
    found = sweep(
        recipe(folder), {"few.n": ["3", "50", "4"]}, out=folder / "runs" / "few", only=["few-seeds"],
        overrides=["allow_supervision=[tags]"],
    )  # fmt: skip
    assert [p.values for p in found.failed] == [("50",)]
    error = found.failed[0].error
    assert error is not None
    assert error.startswith("a threshold was to be chosen on 50 masks, but 12 images of split 'all' have one")
    assert "few.n=50: a threshold was to be chosen on 50 masks" in caplog.text
    few = next(s for s in series_of(found) if s.kind == "few-masks")
    assert [cell and cell.n_images for cell in few.cells] == [9, None, 8]
    assert few.best is None  # numbers of 9 and of 8 images
    assert few.spread is None
    assert {line["few.n"] for line in lines(found.files[0])} == {"3", "4"}


def test_mistakes_are_reported_before_anything_runs(folder: Path) -> None:
    out, words = folder / "runs" / "wrong", recipe(folder)
    with pytest.raises(ConfigError, match="unknown setting 'maps.blurr': did you mean 'blur'"):
        sweep(words, {"maps.blurr": ["0", "1"]}, out=out)
    with refused(ConfigError, "'maps-seeds.threshold' = 1.5", "less than or equal to 1"):
        sweep(words, {"maps-seeds.threshold": ["0.5", "1.5"]}, out=out)
    with refused(ConfigError, "stage 'maps' is made", "name what does") as error:
        sweep(words, {"maps.blur": ["0", "1"]}, out=out, only=["maps"])
    assert str(error.value).endswith("--stage maps-seeds --stage few-seeds")
    with pytest.raises(ConfigError, match="unknown stage 'maps-seed'; did you mean 'maps-seeds'"):
        sweep(words, {"maps.blur": ["0", "1"]}, out=out, only=["maps-seed"])
    with pytest.raises(ConfigError, match=r"'seeds' cannot be swept: .*seeds=\[0,1\]"):
        sweep(words, {"seeds": ["0", "1"]}, out=out)
    assert not out.exists()


def test_folders_of_others_are_refused(folder: Path, done: SweepResult) -> None:
    grid, words = {"maps.blur": ["0", "1"]}, recipe(folder)
    with refused(StageError, "is not empty", "no sweep.json", "nothing was"):
        sweep(words, grid, out=folder / "data")
    with refused(StageError, "drawn.yaml is a file", "name a new folder"):
        sweep(words, grid, out=folder / "drawn.yaml")
    own = folder / "own"
    (own / ".store").mkdir(parents=True)
    with refused(StageError, "a store of its own", "a link to "):
        sweep(words, grid, out=own)


def test_an_unknown_metric_is_reported_and_the_table_kept(folder: Path, done: SweepResult) -> None:
    out = folder / "runs" / "metric"
    with refused(ConfigError, "'miuo'", "did you mean 'miou'", "sweep.csv"):
        sweep(recipe(folder), {"maps.blur": ["0", "2"]}, out=out, only=["maps-seeds"], metric="miuo")
    assert lines(out / "sweep.csv")


def row(seed: int, value: float, kind: str = "oracle", at: float = 0.3, metric: str = "miou") -> MetricRow:
    return MetricRow("cam", "cam", "train", 9, metric, value, at, kind, seed, "")


def made(*points: list[MetricRow]) -> SweepResult:
    found = tuple(SweepPoint((str(i),), Path(str(i)), "x", tuple(rows)) for i, rows in enumerate(points))
    return SweepResult(Path(), ("k",), "miou", found, ())


def test_seeds_are_a_mean_with_its_deviation() -> None:
    (series,) = series_of(made([row(0, 50.0), row(1, 54.0, at=0.4)], [row(0, 52.0), row(1, 52.0)]))
    first, second = series.cells
    assert first is not None
    assert second is not None
    assert (first.mean, first.n_seeds, first.threshold) == (52.0, 2, None)
    assert first.sd == pytest.approx(8**0.5)
    assert (second.sd, second.threshold) == (0.0, 0.3)
    assert series.best == 0  # the first of equal means
    assert series.spread == 0


def test_two_thresholds_of_one_kind_are_two_series() -> None:
    found = series_of(made([row(0, 50.0, "fixed", 0.2), row(0, 40.0, "fixed", 0.5)]))
    assert [(s.method, s.cells[0] and s.cells[0].mean) for s in found] == [("cam", 50.0), ("cam (2)", 40.0)]


def test_shares_of_errors_are_best_where_they_are_small() -> None:
    result = replace(made([row(0, 20.0, metric="fp/cat")], [row(0, 10.0, metric="fp/cat")]), metric="fp/cat")
    (series,) = series_of(result)
    assert series.best == 1


def test_one_number_alone_is_no_best() -> None:
    (series,) = series_of(made([row(0, 50.0)], []))
    assert (series.best, series.spread) == (None, None)
    assert series.cells[1] is None
    assert isinstance(series, Series)


def test_a_sweep_without_any_number_has_a_table_alone(tmp_path: Path) -> None:
    result = write_sweep(replace(made([], []), path=tmp_path), "demo")
    assert [p.name for p in result.files] == ["sweep.csv"]


def test_a_metric_that_is_undefined_everywhere_is_no_misspelt_one(tmp_path: Path) -> None:
    undefined = replace(row(0, 1.0), value=None)
    with refused(ConfigError, "metric = miou", "undefined at every point", "sweep.csv"):
        write_sweep(replace(made([undefined], [undefined]), path=tmp_path), "demo")
