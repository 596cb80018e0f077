"""``tag2mask sweep``: what is printed, exit codes, mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from tag2mask.cli import sweep as verb
from tag2mask.evaluation.result_tables import MetricRow
from tag2mask.sweep import run as module
from tag2mask.sweep.result import SweepPoint, SweepResult
from tests.helpers.tiny import tag2mask


def row(value: float, kind: str = "oracle", at: float | None = 0.3, n: int = 9, seed: int = 0) -> MetricRow:
    return MetricRow("cam", "cam", "train", n, "miou", value, at, kind, seed, "")


def result(*points: tuple[list[MetricRow], str | None]) -> SweepResult:
    made = [SweepPoint((f"0.{i}",), Path("x"), "c", tuple(rows), error) for i, (rows, error) in enumerate(points)]
    return SweepResult(Path("runs/s"), ("lpcam.tau",), "miou", tuple(made), (Path("runs/s/sweep.csv"),))


def test_kinds_of_threshold_are_tables_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    verb.print_sweep(
        result(
            ([row(50.0, "fixed", 0.2), row(52.0)], None),
            ([row(49.0, "fixed", 0.2), row(53.5, at=0.41), row(54.5, at=0.43, seed=1)], None),
            ([], "no room"),
        )
    )
    assert capsys.readouterr().out == (
        "miou, threshold: fixed, train, 9 images\n"
        "lpcam.tau  cam\n"
        "---------  ---------------\n"
        "0.0        50.00 at 0.20 *\n"
        "0.1        49.00 at 0.20\n"
        "0.2        -\n"
        "spread     1.00\n"
        "\n"
        "miou, threshold: oracle, train, 9 images\n"
        "lpcam.tau  cam\n"
        "---------  ------------------\n"
        "0.0        52.00 at 0.30\n"
        "0.1        54.00 ± 0.71 (2) *\n"
        "0.2        -\n"
        "spread     2.00\n"
        "\n"
        "* best point, chosen on the ground truth of these very images: its number is optimistic.\n"
        "failed: lpcam.tau=0.2: no room\n"
        "\n"
        "folder: runs/s\n"
        "runs/s/sweep.csv\n"
    )


def test_numbers_of_other_images_have_no_best(capsys: pytest.CaptureFixture[str]) -> None:
    verb.print_sweep(result(([row(50.0)], None), ([row(52.0, n=8)], None)))
    out = capsys.readouterr().out
    assert "8 to 9 images: the numbers are of different images, so no point is called best" in out
    assert "*" not in out


def test_data_without_ground_truth_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    verb.print_sweep(result(([], None), ([], None)))
    assert capsys.readouterr().out.startswith(
        "nothing was measured: the data has no ground truth, or every point failed\n"
    )


@pytest.mark.parametrize("error", [None, "no room"])
def test_a_failed_point_ends_with_exit_code_2(monkeypatch: pytest.MonkeyPatch, error: str | None) -> None:
    asked: dict[str, object] = {}

    def fake(recipe: str, grid: object, **options: object) -> SweepResult:
        asked.update(options, recipe=recipe, grid=grid)
        return result(([row(50.0)], error))

    monkeypatch.setattr(module, "sweep", fake)
    words = ["a.b=1,2", "data.root=photos"]
    if error is None:
        verb.command("demo", words, stage=["s"], metric="miou", out=Path("o"))
    else:
        with pytest.raises(typer.Exit) as ended:
            verb.command("demo", words, stage=["s"], metric="miou", out=Path("o"))
        assert ended.value.exit_code == 2
    assert asked == {
        "recipe": "demo", "grid": {"a.b": ("1", "2")}, "overrides": ("data.root=photos",), "out": Path("o"),
        "only": ["s"], "metric": "miou",
    }  # fmt: skip


def test_mistakes_end_with_their_text() -> None:
    wrong = tag2mask("sweep", "demo", "seeds=0,1")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "error: 'seeds=0,1': 'seeds' cannot be swept" in wrong.stderr
    assert "seeds=[0,1]" in wrong.stderr
    wrong = tag2mask("sweep", "demo", "prototypes.tou=0.1,0.2")
    assert "unknown setting 'prototypes.tou': did you mean 'tau'?" in wrong.stderr
    assert "Traceback" not in wrong.stderr
