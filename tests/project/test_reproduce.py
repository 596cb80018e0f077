"""``benchmarks.reproduce``: which commands are rerun, how numbers are compared, the folder, the words, a real run."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.reproduce import __main__ as module
from benchmarks.reproduce.__main__ import Reproduction, main, reproduce
from benchmarks.reproduce.commands import Command, accept, check_overrides, collect, rerun
from benchmarks.reproduce.published_tables import PublishedNumber, choose, of_metrics, read_table
from benchmarks.reproduce.verdicts import Judged, Verdict, judge, with_spread
from tag2mask.core.errors import ConfigError, DataError, StageError
from tag2mask.core.files import read_json
from tag2mask.evaluation.result_tables import MetricRow, ResultRow, write_metrics, write_results
from tests.helpers.refused import refused
from tests.helpers.tiny import tiny_overrides, tiny_run
from tests.project.source import ROOT

ROW = ResultRow("lpcam", "train", 900, "oracle", 0.32, "miou", 54.3315, 0, "tag2mask run demo")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "tag2mask run demo 'a.b=[1, 2]' --out runs/x --only cam",
            ("tag2mask", "run", "demo", "a.b=[1, 2]", "--only", "cam"),
        ),
        ("tag2mask run demo --out=x", ("tag2mask", "run", "demo")),
        ("tag2mask sweep demo a.b=1,2", ("tag2mask", "sweep", "demo", "a.b=1,2")),
        ("tag2mask experiment run L1 --out --out", ("tag2mask", "experiment", "run", "L1")),
        ("tag2mask analyse imbalance runs/x --out y", ("tag2mask", "analyse", "imbalance", "runs/x")),
        ("python -m benchmarks.rules --out results/x.csv -n 3", ("python", "-m", "benchmarks.rules", "-n", "3")),
    ],
)
def test_commands_of_ours_are_accepted_without_the_folder_they_wrote_to(text: str, words: tuple[str, ...]) -> None:
    assert accept(text, "line 2 of x.csv") == Command(text, words)


@pytest.mark.parametrize(
    "text",
    [
        "rm -rf /", "tag2mask export runs/x", "tag2mask analyse", "tag2mask run", "tag2mask", "",
        "python docs/make_toy.py", "python -m os", "python -m benchmarks.a.b", "python -m benchmarks",
        "bash -c tag2mask", "python -c 'import os'", "env X=1 tag2mask run demo", "tag2mask run demo && rm x",
        "tag2mask run demo ; rm x", "tag2mask experiment show L1", "./tag2mask run demo", "tag2mask run demo > x",
    ],
)  # fmt: skip
def test_no_other_command_is_run(text: str) -> None:
    with refused(ConfigError, "line 2 of x.csv", "not rerun", "only tag2mask run, tag2mask sweep"):
        accept(text, "line 2 of x.csv")


def test_a_command_that_cannot_be_read() -> None:
    with refused(ConfigError, "line 2 of x.csv", "'tag2mask run \"x'", "cannot be read"):
        accept('tag2mask run "x', "line 2 of x.csv")


def test_overrides_must_not_change_the_number() -> None:
    check_overrides(["data.root=photos", "engine.device=cpu"])
    for word in ("lpcam.tau=0.1", "data.images=3", "data.root", "seeds=[1]"):
        with pytest.raises(
            ConfigError, match=f"'{word.replace('[', '.').replace(']', '.')}' would make another number"
        ):
            check_overrides([word])


def table(path: Path, rows: Sequence[ResultRow]) -> Path:
    write_results(path, rows)
    return path


def test_a_table_is_read_with_its_further_columns(tmp_path: Path) -> None:
    plain = table(tmp_path / "plain.csv", [ROW, replace(ROW, threshold=None, threshold_kind="none", value=None)])
    assert [r.result for r in read_table(plain)] == [
        ROW,
        replace(ROW, threshold=None, threshold_kind="none", value=None),
    ]
    lines = list(csv.reader(plain.read_text().splitlines()))
    more = tmp_path / "more.csv"
    with more.open("w", newline="") as stream:
        extra = [["lpcam.tau", "tolerance"], ["0.1", "0.5"], ["0.2", ""]]
        csv.writer(stream).writerows(a[:1] + line + a[1:] for a, line in zip(extra, lines, strict=True))
    first, second = read_table(more)
    assert first == PublishedNumber(2, ROW, {"lpcam.tau": "0.1"}, 0.5)
    assert (second.line, second.more, second.tolerance) == (3, {"lpcam.tau": "0.2"}, None)


def test_tables_that_say_too_little(tmp_path: Path) -> None:
    speed = tmp_path / "speed.csv"
    speed.write_text("benchmark,variant,seconds\nx,y,1\n")
    with pytest.raises(
        DataError,
        match="speed.csv lacks the columns method, .*python -m benchmarks.NAME",
    ):
        read_table(speed)
    costs = tmp_path / "stages.csv"
    costs.write_text("stage,seconds,command\ncam,1,tag2mask run demo\n")
    with pytest.raises(DataError, match="stages.csv lacks .* Its command, tag2mask run demo,"):
        read_table(costs)
    table(tmp_path / "seeds.csv", [ROW])
    with pytest.raises(DataError, match="speed.csv lacks .*: seeds.csv"):
        read_table(speed)
    assert read_table(speed, required=False) == []
    with pytest.raises(DataError, match="cannot read .*absent.csv"):
        read_table(tmp_path / "absent.csv")
    good = table(tmp_path / "good.csv", [ROW])
    good.write_text(good.read_text().replace("54.3315", "54,3"))
    with pytest.raises(DataError, match="line 2 of .*good.csv has 10 cells; expected 9"):
        read_table(good)
    good.write_text(good.read_text().replace("54,3", "much"))
    with refused(DataError, "line 2", "good.csv", "value is 'much'", "expected a number"):
        read_table(good)
    good.write_text(good.read_text().replace("900", "9.5"))
    with refused(DataError, "line 2", "good.csv", "n_images is '9.5'", "expected a whole number"):
        read_table(good)


def test_rows_are_chosen_by_columns() -> None:
    rows = [
        PublishedNumber(i, r, {"tau": t})
        for i, r, t in [(2, ROW, "1"), (3, replace(ROW, metric="fp"), "1"), (4, ROW, "2")]
    ]
    path = Path("x.csv")
    assert [r.line for r in choose(rows, [], path)] == [2, 3, 4]
    assert [r.line for r in choose(rows, ["metric=miou"], path)] == [2, 4]
    assert [r.line for r in choose(rows, ["metric=miou", "tau=2"], path)] == [4]
    assert [r.line for r in choose(rows, ["line=2", "line=3"], path)] == [2, 3]
    with pytest.raises(ConfigError, match="unknown column 'metrik'; did you mean 'metric'"):
        choose(rows, ["metrik=miou"], path)
    with pytest.raises(ConfigError, match="--row miou is not column=value, such as metric=miou"):
        choose(rows, ["miou"], path)
    with pytest.raises(ConfigError, match=r"no row of x.csv is left \(metric=iou\)"):
        choose(rows, ["metric=iou"], path)
    with refused(ConfigError, "x.csv", "(it has none)"):
        choose([], [], path)


def verdict(row: ResultRow, made: ResultRow, tolerance: float | None = None, **more: str) -> tuple[str, str]:
    found = judge(PublishedNumber(2, row, more, tolerance), [PublishedNumber(1, made, {"tau": "1"})])
    return found.verdict, found.note


def test_numbers_are_held_against_each_other() -> None:
    assert verdict(ROW, ROW) == ("equal", "")
    assert verdict(ROW, replace(ROW, value=54.33154)) == ("equal", "")  # tables have four decimals
    assert verdict(ROW, replace(ROW, value=54.3316)) == ("within", "")
    assert verdict(ROW, replace(ROW, value=54.5, threshold=0.33)) == ("within", "threshold: 0.32 → 0.33")
    assert verdict(ROW, replace(ROW, value=54.6)) == ("differs", "")
    assert verdict(ROW, replace(ROW, value=54.6), 0.5) == ("within", "")
    assert verdict(ROW, replace(ROW, value=54.34), 0.0) == ("differs", "")
    assert verdict(ROW, replace(ROW, value=None)) == ("differs", "")
    assert verdict(replace(ROW, value=None), replace(ROW, value=None)) == ("equal", "")
    assert verdict(ROW, replace(ROW, n_images=225)) == ("differs", "n_images: 900 → 225")
    assert verdict(replace(ROW, metric="seconds_per_image"), ROW) == ("time", "")
    found = judge(PublishedNumber(2, ROW, {}), [PublishedNumber(1, replace(ROW, value=54.0), {})])
    assert (found.published, found.made, found.difference, found.tolerance) == (54.3315, 54.0, -0.3315, 0.2)


@pytest.mark.parametrize("metric", ["gap", "margin", "plateau_width", "spearman/score", "optimum_sd", "threshold_sd"])
def test_a_number_that_is_no_percentage_has_a_hundredth_of_the_tolerance(metric: str) -> None:
    row = replace(ROW, metric=metric, value=0.24)
    assert verdict(row, replace(row, value=0.2419)) == ("within", "")
    assert verdict(row, replace(row, value=0.06)) == ("differs", "")
    assert [r.tolerance for r in with_spread([PublishedNumber(2, row, {})], 0.5)] == [0.005]


def test_the_deviation_over_seeds_is_the_stated_spread() -> None:
    seeds = [replace(ROW, seed=i, value=v, threshold=0.3 + i / 100) for i, v in enumerate((54.0, 55.0, 56.0))]
    rows = [PublishedNumber(i, r, {"tau": "1"}) for i, r in enumerate(seeds, start=2)]
    others = [
        PublishedNumber(5, replace(ROW, seed=1, value=99.0), {"tau": "2"}),
        PublishedNumber(6, replace(ROW, metric="fp"), {"tau": "1"}),
        PublishedNumber(7, replace(ROW, seed=3, value=57.0), {"tau": "1"}, 0.1),
        PublishedNumber(8, replace(ROW, seed=4, value=None), {"tau": "1"}),
    ]
    found = with_spread([*rows, *others], 0.2)
    deviation = 1.291  # of 54, 55, 56, 57
    assert [r.tolerance for r in found] == [deviation, deviation, deviation, 0.2, 0.2, 0.1, deviation]
    assert [r.tolerance for r in with_spread([*rows, *others], 2.0)] == [2.0] * 5 + [0.1, 2.0]
    fixed = [replace(r, result=replace(r.result, threshold_kind="fixed")) for r in rows]
    assert [r.tolerance for r in with_spread(fixed, 0.2)] == [0.2] * 3  # three thresholds, so three numbers


@pytest.mark.parametrize(
    "change", [{"method": "cam"}, {"split": "val"}, {"threshold_kind": "rule"}, {"metric": "fp"}, {"seed": 1}]
)
def test_another_number_is_not_the_same(change: dict[str, object]) -> None:
    missing = ("missing", "the command makes no such number")
    assert verdict(ROW, replace(ROW, **change)) == missing  # type: ignore[arg-type]


def test_a_chosen_threshold_and_a_swept_setting_are_part_of_a_number() -> None:
    fixed = replace(ROW, threshold_kind="fixed", threshold=0.3)
    assert verdict(fixed, replace(fixed, threshold=0.4))[0] == "missing"
    assert verdict(ROW, ROW, tau="1")[0] == "equal"
    assert verdict(ROW, ROW, tau="2")[0] == "missing"
    assert verdict(ROW, ROW, other="2")[0] == "equal"  # the run says nothing of that column
    found = judge(PublishedNumber(2, ROW, {}), [], "the command ended with exit code 2")
    assert (found.verdict, found.note, found.made) == ("missing", "the command ended with exit code 2", None)


METRIC = MetricRow("lpcam", "lpcam", "train", 900, "miou", 54.3315, 0.32, "oracle", 0, "")


class Faked:
    """Stands for `rerun`: leaves one number, which depends on the command."""

    def __init__(self, values: dict[str, float]) -> None:
        self.values = values
        self.calls: list[tuple[str, tuple[str, ...], str]] = []

    def __call__(self, command: Command, overrides: Sequence[str], out: Path) -> str:
        self.calls.append((command.text, tuple(overrides), out.name))
        if command.text not in self.values:
            return "the command ended with exit code 1"
        out.mkdir()
        write_metrics(out / "metrics.jsonl", [replace(METRIC, value=self.values[command.text])])
        return ""


def test_each_command_is_run_once_and_the_rows_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"tag2mask run {name}" for name in ("a", "b", "c")]
    rows = [replace(ROW, command=c) for c in names] + [replace(ROW, command=names[0], metric="fp")]
    fake = Faked({names[0]: 54.3315, names[1]: 53.0})
    monkeypatch.setattr(module, "rerun", fake)
    found = reproduce(table(tmp_path / "x.csv", rows), overrides=["data.root=d"], out=tmp_path / "out")
    assert fake.calls == [(c, ("data.root=d",), f"command-{i}") for i, c in enumerate(names, start=1)]
    assert [(r.line, r.verdict) for r in found.rows] == [(2, "equal"), (3, "differs"), (4, "missing"), (5, "missing")]
    assert [r.note for r in found.rows][2:] == [
        "the command ended with exit code 1", "the command makes no such number",
    ]  # fmt: skip
    assert not found.agrees
    written = list(csv.DictReader(found.file.read_text().splitlines()))
    assert [w["verdict"] for w in written] == [r.verdict for r in found.rows]
    assert read_json(tmp_path / "out" / "reproduce.json")["finished"] is True
    assert not (tmp_path / "out" / ".store").exists(), "runs get a fresh store of their own"


def test_only_the_chosen_rows_commands_are_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [replace(ROW, command="tag2mask run a"), replace(ROW, method="cam", command="python docs/make_toy.py")]
    path = table(tmp_path / "x.csv", rows)
    fake = Faked({"tag2mask run a": 54.3315})
    monkeypatch.setattr(module, "rerun", fake)
    with pytest.raises(ConfigError, match="line 3 of .*x.csv: 'python docs/make_toy.py' is not rerun"):
        reproduce(path, out=tmp_path / "out")
    assert not fake.calls
    assert not (tmp_path / "out").exists()
    found = reproduce(path, rows=["method=lpcam"], out=tmp_path / "out", reuse=True)
    assert found.agrees
    assert (tmp_path / "out" / ".store").resolve() == tmp_path / ".store"


def test_a_finished_folder_is_not_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, out = table(tmp_path / "x.csv", [ROW]), tmp_path / "out"

    def killed(*_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "rerun", killed)
    with pytest.raises(KeyboardInterrupt):
        reproduce(path, out=out)
    fake = Faked({ROW.command: 54.3315})
    monkeypatch.setattr(module, "rerun", fake)
    with refused(StageError, "out is of other rows", "settings", "name another folder"):
        reproduce(path, out=out, reuse=True)
    assert reproduce(path, out=out).agrees
    with refused(StageError, "out is finished", "name another folder"):
        reproduce(path, out=out)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    with refused(StageError, "full is not empty", "no reproduction"):
        reproduce(path, out=tmp_path / "full")
    with pytest.raises(ConfigError, match="tolerance = -1; expected points of percent"):
        reproduce(path, out=out, tolerance=-1)


def test_tables_of_sweeps_and_experiments_are_found_in_their_folder(tmp_path: Path) -> None:
    out = tmp_path / "command-1"
    out.mkdir()
    table(out / "sweep.csv", [ROW])
    (out / "other.csv").write_text("a,b\n1,2\n")
    assert [r.result for r in collect(accept("tag2mask sweep demo a.b=1,2", ""), out)] == [ROW]
    assert collect(accept("tag2mask run demo", ""), out) == []
    write_metrics(out / "metrics.jsonl", [METRIC])
    assert collect(accept("tag2mask run demo", ""), out) == of_metrics([METRIC], "tag2mask run demo")


@pytest.mark.slow
def test_an_analysis_is_rerun_of_the_run_that_it_names(tmp_path: Path) -> None:
    command = accept(f"tag2mask analyse imbalance {tiny_run(tmp_path).path} --stage cam", "line 2 of x.csv")
    assert rerun(command, ["data.root=is not for an analysis"], tmp_path / "first") == ""
    path = tmp_path / "first" / "imbalance.csv"
    again = reproduce(path, out=tmp_path / "again")
    assert {(row.metric, row.verdict) for row in again.rows} >= {("gap", "equal"), ("spread", "equal")}
    assert again.agrees
    rows = [r.result for r in read_table(path)]
    spoilt = [replace(r, value=r.value + 0.1) if r.metric == "gap" and r.value is not None else r for r in rows]
    differing = [r for r in reproduce(table(path, spoilt), out=tmp_path / "spoilt").rows if r.verdict != "equal"]
    assert {(r.metric, r.verdict) for r in differing} == {("gap", "differs")}


def test_a_benchmark_writes_its_table_into_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    command = accept("python -m benchmarks.rules --digits 4 --out results/rules.csv", "")
    with refused(ConfigError, "benchmarks/rules.py is not here", "python -m benchmarks.reproduce"):
        rerun(command, [], tmp_path / "command-1")
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "__init__.py").touch()
    good = table(tmp_path / "good.csv", [ROW])
    code = (
        f"import sys, shutil\nprint(sys.argv[1:])\nshutil.copy({str(good)!r}, sys.argv[sys.argv.index('--out') + 1])\n"
    )
    (tmp_path / "benchmarks" / "rules.py").write_text(code)
    assert rerun(command, ["data.root=x"], tmp_path / "command-1") == ""
    assert (tmp_path / "command-1.log").read_text() == f"['--digits', '4', '--out', '{tmp_path}/command-1.csv']\n"
    assert [r.result for r in collect(command, tmp_path / "command-1")] == [ROW]
    (tmp_path / "benchmarks" / "rules.py").write_text("raise SystemExit(3)")
    assert rerun(command, [], tmp_path / "command-2") == "the command ended with exit code 3"
    assert collect(command, tmp_path / "command-2") == []
    (tmp_path / "benchmarks" / "rules.py").write_text("import os\nos.kill(os.getpid(), 9)")
    assert rerun(command, [], tmp_path / "command-3").endswith("killed by signal 9, perhaps for want of memory")


def test_the_published_toy_is_rerun(tmp_path: Path) -> None:
    found = reproduce(ROOT / "results" / "toy.csv", out=tmp_path / "again")
    assert found.agrees
    assert {row.verdict for row in found.rows} <= {"equal", "within"}
    assert len(found.rows) == 22


@pytest.fixture(scope="module")
def again(tmp_path_factory: pytest.TempPathFactory) -> Reproduction:
    """A tiny run's numbers as a table, one of them changed, made again in another process with a fresh store."""
    tmp = tmp_path_factory.mktemp("again")
    overrides = tiny_overrides("demo")
    rows = tiny_run(tmp).metrics
    command = " ".join(["tag2mask run demo", *(f"'{word}'" for word in overrides), "--out /nowhere"])
    results = [row.result(command) for row in rows if row.method in {"cam", "lpcam"}]
    number = next(i for i, r in enumerate(results) if r.metric == "miou")
    value = results[number].value
    assert value is not None
    results[number] = replace(results[number], value=value + 1)
    return reproduce(table(tmp / "tables" / "tiny.csv", results), out=tmp / "runs" / "again")


def test_a_run_rerun_in_another_process_is_equal_in_every_digit(again: Reproduction) -> None:
    (changed,) = [row for row in again.rows if row.verdict != "equal"]
    assert (changed.metric, changed.verdict, changed.difference) == ("miou", "differs", -1.0)
    assert len(again.rows) > 20
    assert not again.agrees
    assert (again.path / ".store").is_dir()
    assert not (again.path / ".store").is_symlink()
    assert "run folder:" in (again.path / "command-1.log").read_text()


Line = tuple[int, str, float | None, Verdict, str]


def ended(monkeypatch: pytest.MonkeyPatch, *rows: Line) -> int:
    """Exit code of the command whose numbers these are: line, metric, value made, verdict, note."""
    judged = tuple(
        Judged(
            line, "cam", "train", 9, "oracle", metric, 0, 50.0, made, None if made is None else made - 50.0, 0.2,
            verdict, note, "c",
        )
        for line, metric, made, verdict, note in rows
    )  # fmt: skip
    monkeypatch.setattr(module, "reproduce", lambda *_, **__: Reproduction(Path("o"), judged, Path("o/reproduce.csv")))
    return main(["x.csv", "--row", "metric=miou", "data.root=d"])


def test_numbers_that_agree_are_summed_up(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    within: Line = (2, "miou", 50.1, "within", "threshold: 0.3 → 0.31")
    equal: Line = (3, "fp", 50.0, "equal", "")
    assert ended(monkeypatch, within, equal) == 0
    out = capsys.readouterr().out
    assert "50.0000  50.1000" in out
    assert "+0.1000" in out
    assert "threshold: 0.3 → 0.31" in out
    assert "fp" not in out  # no headline, and equal
    assert "2 numbers: 1 within, 1 equal. The table agrees.\n" in out
    assert out.endswith("folder: o\no/reproduce.csv\n")


def test_numbers_that_differ_come_first(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    rows: tuple[Line, ...] = (
        (2, "miou", 50.0, "equal", ""),
        (3, "fp", 60.0, "differs", ""),
        (4, "fn", None, "missing", "gone"),
    )
    assert ended(monkeypatch, *rows) == 2
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:5]] == ["3", "4", "2"]
    assert lines[3].endswith("missing  gone")
    assert "3 numbers: 1 equal, 1 differs, 1 missing. The table does not agree." in lines


def test_mistakes_end_with_their_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = table(tmp_path / "x.csv", [replace(ROW, command="rm -rf x")])
    assert main([str(path)]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err[:7]) == ("", "error: ")
    assert "line 2 of " in said.err
    assert "'rm -rf x'" in said.err
    assert [p.name for p in tmp_path.iterdir()] == ["x.csv"]
