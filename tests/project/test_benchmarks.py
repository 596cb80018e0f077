"""The benchmarks' tools: who is timed when, what a ratio means, what the CSV holds."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import afternoon, domains, time_ratio
from benchmarks.collect import shares
from benchmarks.common import Row, compare, peak_memory, write_rows
from benchmarks.domains import DomainRow
from tag2mask.core.files import write_json, write_text
from tag2mask.evaluation.result_tables import ResultRow, read_csv


def test_the_two_sides_take_turns_after_the_warm_up() -> None:
    calls: list[str] = []
    compare("turns", lambda: calls.append("ours"), lambda: calls.append("theirs"), runs=3, warmup=1)
    assert calls == ["ours", "theirs"] * 4


def test_the_ratio_says_how_many_times_faster_ours_is(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    own, theirs = iter([1.0, 2.0, 4.0]), iter([3.0, 2.0, 8.0])
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def spend(durations: Iterator[float]) -> None:
        now[0] += next(durations)

    row = compare("clock", lambda: spend(own), lambda: spend(theirs), runs=3, warmup=0, variant="x")
    assert (row.ratio_min, row.ratio_median, row.ratio_max) == (1.0, 2.0, 3.0)
    assert (row.seconds_median, row.baseline_seconds_median) == (2.0, 3.0)
    assert (row.benchmark, row.variant, row.runs) == ("clock", "x", 3)


def test_the_share_of_a_bound_is_of_the_same_split_and_seed() -> None:
    def row(method: str, value: float, split: str = "val", seed: int = 0) -> ResultRow:
        return ResultRow(method, split, 9, "none", None, "miou", value, seed, "x")

    rows = [
        row("cam (fpn on a)", 40.0), row("truth (fpn on a)", 80.0), row("cam (fpn on a)", 50.0, seed=1),
        row("seeds", 30.0, split="train"), row("cam+crf (fpn on a)", 45.0), row("truth+crf (fpn on a)", 90.0),
    ]  # fmt: skip
    found = {(r.method, r.metric, r.seed): r.value for r in shares(rows, "truth")}
    assert found == {
        ("cam (fpn on a)", "share_of_bound", 0): 50.0, ("truth (fpn on a)", "share_of_bound", 0): 100.0,
        ("cam+crf (fpn on a)", "share_of_bound", 0): 50.0, ("truth+crf (fpn on a)", "share_of_bound", 0): 100.0,
    }  # fmt: skip
    with pytest.raises(ValueError, match="--bound tru: no mIoU of it among"):
        shares(rows, "tru")

    tags = [row("predictions (fpn on a)", 60.0), row("predictions (fpn on a)", 60.0, split="train")]
    (share,) = shares(tags, "truth", of=rows)
    assert (share.method, share.split, share.value) == ("predictions (fpn on a)", "val", 75.0)
    assert shares([replace(row("predictions", 60.0), n_images=4)], "truth", of=rows) == []  # of other images


def test_no_runs_are_refused() -> None:
    with pytest.raises(ValueError, match="runs is 0, expected at least 1"):
        compare("none", lambda: None, lambda: None, runs=0)


def test_peak_memory_counts_what_a_call_holds_at_its_highest() -> None:
    size = 64 << 20

    def fill_twice() -> None:
        np.ones(size, dtype=np.uint8)
        np.ones(size, dtype=np.uint8)

    try:
        found = peak_memory(fill_twice)
    except OSError as error:
        pytest.skip(str(error))
    assert 0.99 * size < found < 1.5 * size  # the kernel counts pages in batches


def test_a_kernel_without_a_high_water_mark_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.common._status", lambda key: 1 << 30)
    with pytest.raises(OSError, match="peak_memory needs a kernel whose VmHWM"):
        peak_memory(lambda: None)


def test_rows_are_written_with_the_agreed_columns(tmp_path: Path) -> None:
    row = Row("maps", "K=12", 0.0123456, 1.0, 81.00059, 80.0, 82.0, 5, 1, "a processor", "2.15.0")
    write_rows(tmp_path / "new" / "maps.csv", [row])
    with (tmp_path / "new" / "maps.csv").open(newline="") as stream:
        lines = list(csv.reader(stream))
    timed = ["seconds_median", "baseline_seconds_median", "ratio_median", "ratio_min", "ratio_max"]
    assert lines[0] == ["benchmark", "variant", *timed, "runs", "threads", "cpu", "torch"]
    assert lines[1] == ["maps", "K=12", "0.01235", "1", "81", "80", "82", "5", "1", "a processor", "2.15.0"]
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["maps.csv"]


def test_rows_replace_those_of_their_kind_and_others_stay(tmp_path: Path) -> None:
    @dataclass
    class One:
        kind: str
        value: float

    path = tmp_path / "x.csv"
    write_rows(path, [One("a", 1), One("a", 2), One("b", 3)], keep="kind")
    write_rows(path, [One("a", 4)], keep="kind")
    write_rows(path, [One("c", 5), One("b", 6)], keep="kind")
    assert read_csv(path) == [["kind", "value"], ["a", "4"], ["b", "6"], ["c", "5"]]
    write_rows(path, [One("d", 7)])
    assert read_csv(path) == [["kind", "value"], ["d", "7"]]
    path.write_text("kind\na\n", encoding="utf-8")
    with pytest.raises(ValueError, match="kind, expected kind, value"):
        write_rows(path, [One("a", 1)], keep="kind")


def test_rows_of_several_classes_or_none_are_refused(tmp_path: Path) -> None:
    @dataclass
    class Other:
        x: int

    row = Row("maps", "", 1, 1, 1, 1, 1, 1, 1, "", "")
    with pytest.raises(ValueError, match="rows of 2 classes given"):
        write_rows(tmp_path / "x.csv", [row, Other(1)])
    with pytest.raises(ValueError, match="rows of 0 classes given"):
        write_rows(tmp_path / "x.csv", [])
    assert not list(tmp_path.iterdir())


def domain_row(seed: int | str, foreground: float, method: str = "masks", threshold: float | None = None) -> DomainRow:
    return DomainRow(
        "cracks", method, "all", 9, "fixed", threshold, foreground + 30, foreground, foreground + 5, None, seed
    )


def test_the_mean_over_seeds_stands_below_them_and_what_all_seeds_share_has_none() -> None:
    rows = [domain_row(0, 16.0, threshold=0.4), domain_row(1, 20.0, threshold=0.5), domain_row(0, 3.0, "trivial")]
    (mean,) = domains.means(rows)
    assert (mean.method, mean.seed, mean.threshold) == ("masks", "mean", None)
    assert (mean.miou, mean.miou_foreground, mean.f1_foreground, mean.iou_2px) == (48, 18, 23, None)
    (same,) = domains.means([domain_row(0, 16.0, threshold=0.4), domain_row(1, 20.0, threshold=0.4)])
    assert same.threshold == 0.4
    two = [domain_row(seed, at, threshold=at) for at in (10.0, 20.0) for seed in (0, 1)]  # two thresholds of one kind
    assert [row.miou_foreground for row in domains.means(two)] == [10, 20]


@pytest.mark.parametrize(
    ("values", "met"), [((30, 31), "aim"), ((17, 17), "must"), ((16, 17), "no"), ((13.9, 40), "no"), ((14, 40), "must")]
)
def test_a_floor_is_of_the_mean_and_no_seed_may_lie_far_below(values: tuple[float, float], met: str) -> None:
    """Cracks must have 17 and should have 30; no seed below 14."""
    rows = [domain_row(seed, value) for seed, value in enumerate(values)]
    every = [*rows, domain_row(0, 99.0, "cam"), *domains.means(rows)]
    found = domains.judged(every, "masks", domains.floor_of("cracks", "masks"))
    assert [row.met for row in found] == ["", "", "", met]
    assert (found[-1].must, found[-1].aim) == (17, 30)
    assert [line.endswith("NOT MET") for line in domains.said(found)] == [met == "no"]
    assert domains.judged(every, "masks", None) == every


def test_animals_are_held_against_what_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(domains, "BEFORE", tmp_path / "before.csv")
    assert domains.floor_of("animals", "masks") is None
    write_rows(tmp_path / "before.csv", [replace(domain_row(0, 70.0), kind="animals")])
    assert domains.floor_of("animals", "masks") == domains.Floor(69.5, 72)


def test_the_sets_are_the_folders_that_hold_tags(tmp_path: Path) -> None:
    for name in ("cracks", "cracks-new", "weeds"):
        (tmp_path / "domains" / name).mkdir(parents=True)
    for name in ("cracks", "weeds"):
        (tmp_path / "domains" / name / "tags.csv").write_text("image,tags\n")
    found = domains.sets(tmp_path, None)
    assert [(d.name, d.new and d.new.name) for d in found] == [("cracks", "cracks-new"), ("weeds", None)]
    (tmp_path / "voc-animals").mkdir()
    (animals,) = domains.sets(tmp_path, ["animals"])
    assert "data.infer=train@benchmarks/voc-animals-300.txt" in animals.words


def test_only_stages_that_make_something_are_timed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    costs = {"cam": ("cam-1a", 8, ["lpcam"]), "cam-seeds": ("seeds-2b", 5, []), "lpcam": ("lpcam-3c", 8, ["cam"])}
    for name, (folder, spent, shared) in costs.items():
        write_json(tmp_path / folder / "manifest.json", {"n_images": 4, "seconds": spent, "shared_with": shared})
        write_text(tmp_path / folder / "maps" / "one.maps", "x" * 2_000_000)
        (run / name).symlink_to(tmp_path / folder)
    found = list(time_ratio.spent(run))
    assert [(each.name, each.n_images, each.seconds) for each in found] == [("cam", 4, 8.0), ("lpcam", 4, 0.0)]
    assert [each.megabytes for each in found] == pytest.approx([2, 2], rel=1e-3)
    assert time_ratio.total(found, 5)[:3] == ("all", 5, 8.0)


def test_an_afternoon_s_cut_is_the_largest_map_of_those_that_reach_their_level() -> None:
    maps = np.array([[[0.2, 0.6, 0.9, 0.3]], [[0.1, 0.7, 0.4, 0.5]]], np.float32)  # of classes 2 and 4
    assert afternoon.cut(maps, (2, 4), [0.3, 0.3]).tolist() == [[0, 5, 3, 5]]
    assert afternoon.cut(maps, (2, 4), [0.3, 0.8]).tolist() == [[0, 3, 3, 3]], "each class has its own level"
    assert afternoon.cut(maps, (2, 4), [0, 0]).tolist() == [[3, 5, 3, 5]]
