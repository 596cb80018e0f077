"""``tag2mask compare``: what is printed of two runs on drawn maps, and mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tag2mask.api import run
from tag2mask.cli import compare as verb
from tag2mask.evaluation.result_tables import MetricRow
from tag2mask.pipeline.run_result import RunResult
from tests.helpers.drawn_maps import drawn_maps_kind, few_masks_recipe  # noqa: F401  a fixture
from tests.helpers.tiny import tag2mask


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[RunResult]:
    folder = tmp_path_factory.mktemp("compare")
    path = few_masks_recipe(folder)
    content = yaml.safe_load(path.read_text())
    content["stages"] = {"maps": {"kind": "drawn-maps"}, "s": {"kind": "seeds", "reads": {"maps": "maps"}}}
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return [run(str(path), f"maps.blur={blur}", out=folder / "runs" / f"blur{blur}") for blur in (4, 0)]


def number(result: RunResult, metric: str = "miou") -> MetricRow:
    return next(r for r in result.metrics if (r.metric, r.threshold_kind) == (metric, "fixed"))


def test_what_is_printed(runs: list[RunResult], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verb.command([r.path for r in runs], stage=["s"], out=tmp_path, images=1, resamples=50)
    sides, foreground, classes, files = capsys.readouterr().out.strip().split("\n\n")
    header, _, fixed, oracle = sides.splitlines()
    assert header.split("  ")[0] == "first"
    first, second = number(runs[0]).value, number(runs[1]).value
    assert first is not None
    assert second is not None
    assert fixed.split()[:9] == [
        "blur4/s", "blur0/s", "all", "12", "0", "fixed", f"{first:.2f}", f"{second:.2f}", f"{second - first:+.2f}",
    ]  # fmt: skip
    assert "oracle" in oracle
    _, _, fixed, _, legend, scale = foreground.splitlines()
    shown = fixed.split()
    for metric, place in (("miou_foreground", 3), ("f1_foreground", 9)):
        for result, cell in zip(runs, shown[place : place + 2], strict=True):
            assert float(cell) == pytest.approx(number(result, metric).value, abs=0.006)
    assert legend.startswith("fg, f1: ")
    trivial = {(r.stage, r.metric): r.value for r in runs[0].metrics if r.threshold_kind == "none"}
    assert f"all background {trivial['all background', 'miou']:.1f} mIoU" in scale
    assert f"f1 {trivial['random own tag', 'f1_foreground']:.1f}" in scale
    assert classes.startswith("blur0/s against blur4/s, threshold: fixed\n")
    disc = number(runs[1], "iou/disc").value
    assert disc is not None
    assert any(line.startswith("disc") and f"{disc:.1f}" in line for line in classes.splitlines())
    gains, losses = classes.splitlines()[-2:]
    assert gains.startswith("largest gains:  photo ")
    assert losses == "largest losses: none"
    assert [Path(line).name for line in files.splitlines()] == [
        "compare.csv", "compare-classes.csv", "compare-images.csv", "compare-blur4-s-blur0-s.png",
    ]  # fmt: skip


def test_mistakes_end_with_their_text(tmp_path: Path) -> None:
    wrong = tag2mask("compare", str(tmp_path / "a"), str(tmp_path / "b"))
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith(f"error: {tmp_path / 'a'} is not a run (it has no recipe.yaml)")
