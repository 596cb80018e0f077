"""``tag2mask analyse`` on a tiny run: what is printed, what is written, mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tag2mask.cli import analyse
from tag2mask.pipeline.run_result import RunResult
from tests.helpers.refused import lacking
from tests.helpers.results import read_results
from tests.helpers.tiny import tag2mask, tiny_run

OTHERS = ["absent-classes", "boundary", "co-occurrence", "tag-noise", "quality", "threshold-rules", "few-masks"]
"""Analyses that are not of any maps (of AMN's alone, of masks, of tags), or that print several lines a stage."""
VERBS = [str(command.name) for command in analyse.app.registered_commands if command.name not in OTHERS]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    return tiny_run(tmp_path_factory.mktemp("analyse"))


def test_every_analysis_of_the_design_is_there_with_an_example() -> None:
    assert VERBS == ["optimum-threshold", "threshold-curve", "imbalance"]
    shown = tag2mask("analyse", "--help")
    assert shown.returncode == 0
    assert "Example: tag2mask analyse" in " ".join(shown.stdout.split())
    for verb in [*VERBS, *OTHERS]:
        assert verb in shown.stdout
        assert f"Example: tag2mask analyse {verb}" in " ".join(tag2mask("analyse", verb, "--help").stdout.split())


@pytest.mark.parametrize("verb", VERBS)
def test_an_analysis_prints_its_numbers_and_its_files(run: RunResult, tmp_path: Path, verb: str) -> None:
    words = ["--stage", "cam", "--stage", "lpcam", "--split", "train", "--out", str(tmp_path / "out")]
    done = tag2mask("analyse", verb, str(run.path), *words)
    assert done.returncode == 0, done.stderr
    table, files = done.stdout.strip().split("\n\n")
    header, _, *lines = (line.split() for line in table.splitlines())
    assert header[:6] == ["stage", "split", "images", "seed", "threshold", "at"]
    assert [line[:4] for line in lines] == [["cam", "train", "8", "0"], ["lpcam", "train", "8", "0"]]
    kind = "none" if verb == "imbalance" else "oracle"
    assert {line[4] for line in lines} == {kind}
    assert sorted(files.splitlines()) == sorted(map(str, (tmp_path / "out").iterdir()))
    assert Path(files.splitlines()[0]) == tmp_path / "out" / f"{verb}.csv"
    rows = {(row.method, row.metric): row for row in read_results(tmp_path / "out" / f"{verb}.csv")}
    for line in lines:
        for metric, shown in zip(header[6:], line[6:], strict=True):
            value = rows[line[0], metric].value
            assert value is not None
            assert float(shown) == pytest.approx(value, rel=6e-3, abs=0.05 if abs(value) >= 1 else 1e-3)


def test_mistakes_end_with_their_text(run: RunResult) -> None:
    wrong = tag2mask("analyse", "imbalance", str(run.path), "--stage", "cum")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert not lacking(wrong.stderr, "error: … 'cum' … did you mean 'cam'? … Known: cam, lpcam, lpcam-f")
    wrong = tag2mask("analyse", "threshold-curve", str(run.path), "--stage", "cam-seeds")
    assert not lacking(
        wrong.stderr, "error: … 'cam-seeds' makes metrics … maps are needed … Stages of maps: cam, lpcam"
    )
    wrong = tag2mask("analyse", "optimum-threshold", str(run.path), "--split", "val")
    assert not lacking(wrong.stderr, "'cam' has no maps … image")
    assert "Traceback" not in wrong.stderr
    wrong = tag2mask("analyse", "absent-classes", str(run.path))
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert not lacking(wrong.stderr, "kind amn-maps … tag2mask run own-data-amn")


def test_quality_lists_the_worst_and_says_how_far_it_is_right(run: RunResult, tmp_path: Path) -> None:
    done = tag2mask("analyse", "quality", str(run.path), "--stage", "cam", "--worst", "3", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    worst, ranks, files = done.stdout.strip().split("\n\n")
    title, header, _, *lines = worst.splitlines()
    assert title == "cam, train: the 3 most doubtful of 8 images"
    assert header.split()[:3] == ["image", "score", "found"]
    assert len(lines) == 3
    assert "rank correlation with the true mIoU of 8 images (ground truth is used for this alone):" in ranks
    rows = {row.metric: row.value for row in read_results(tmp_path / "quality.csv")}
    shown = dict(line.split() for line in ranks.splitlines()[3:-1])
    assert shown == {m.partition("/")[2]: f"{v:.3f}" for m, v in rows.items() if "/" in m and v is not None}
    assert files.splitlines() == [str(tmp_path / f"quality{end}") for end in ("-images.csv", "-worst.png", ".csv")]


def test_boundaries_are_printed_beside_miou(run: RunResult, tmp_path: Path) -> None:
    done = tag2mask("analyse", "boundary", str(run.path), "--stage", "cam", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    header, _, line = (row.split() for row in done.stdout.split("\n\n")[0].splitlines())
    assert header[6:] == [
        "miou",
        "miou_foreground",
        "f1_foreground",
        "boundary_iou",
        "trimap_miou/3",
        "trimap_miou/10",
        "trimap_miou/40",
    ]
    values = {row.metric: row.value for row in read_results(tmp_path / "boundary.csv")}
    for metric, shown in zip(header[6:], line[6:], strict=True):
        assert float(shown) == pytest.approx(values[metric], abs=0.06)


def test_tags_that_come_together_are_reported_of_a_run(run: RunResult, tmp_path: Path) -> None:
    done = tag2mask("analyse", "co-occurrence", str(run.path), "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("train: 8 images, ")
    assert "class" in done.stdout
    assert "warning [few] fewer than 20 images: " in done.stdout
    assert {path.name for path in tmp_path.iterdir()} >= {"co-occurrence.html", "co-occurrence.svg"}
    assert [str(path) for path in sorted(tmp_path.iterdir()) if str(path) not in done.stdout] == []
    wrong = tag2mask("analyse", "co-occurrence", "nowhere")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert not lacking(wrong.stderr, "error: 'nowhere' … kind of data")
    wrong = tag2mask("analyse", "tag-noise", "demo", "--level", "2")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert not lacking(wrong.stderr, "error: level = 2.0 … above 0 and below 1")


def test_thresholds_without_ground_truth_are_printed_beside_the_oracle(run: RunResult, tmp_path: Path) -> None:
    words = ["--stage", "cam", "--fixed", "cam=0.25", "--images", "2", "--out", str(tmp_path)]
    done = tag2mask("analyse", "threshold-rules", str(run.path), *words)
    assert done.returncode == 0, done.stderr
    table, files = done.stdout.strip().split("\n\n")
    header, _, *lines = (line.split() for line in table.splitlines())
    assert header == [
        "stage",
        "split",
        "images",
        "seed",
        "threshold",
        "at",
        "miou",
        "miou_foreground",
        "f1_foreground",
        "loss_to_oracle",
    ]
    kinds = {line[4]: line[5:] for line in lines}
    assert kinds["oracle"][4] == "0"
    assert kinds["rule(otsu/image)"][0] == "-"
    assert {"rule(otsu)", "rule(otsu/class)", "rule(classifier-plain)", "fixed"} <= set(kinds)
    assert ["cam", "0.25"] in [[line[0], line[5]] for line in lines if line[4] == "fixed"]
    assert files.splitlines() == [str(tmp_path / f"threshold-rules{end}") for end in (".csv", ".svg")]
    wrong = tag2mask("analyse", "threshold-rules", str(run.path), "--part", "3")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert not lacking(wrong.stderr, "error: --part 3 … i/k … from 1 to k … such as 1/2")


def test_what_few_masks_lose_is_printed_for_every_n(run: RunResult, tmp_path: Path) -> None:
    words = ["--stage", "cam", "--n", "2,4", "--draws", "9", "--out", str(tmp_path)]
    done = tag2mask("analyse", "few-masks", str(run.path), *words)
    assert done.returncode == 0, done.stderr
    header, _, *lines = (line.split() for line in done.stdout.split("\n\n")[0].splitlines())
    assert header[6:] == ["miou", "loss_to_oracle", "loss_sd", "loss_95", "threshold_sd"]
    assert [line[:5] for line in lines] == [
        ["cam", "train", "6", "0", "few-masks(2)"], ["cam", "train", "4", "0", "few-masks(4)"],
    ]  # fmt: skip
    draws = (tmp_path / "few-masks-draws.csv").read_text(encoding="utf-8").splitlines()
    assert len(draws) == 1 + 2 * 9
