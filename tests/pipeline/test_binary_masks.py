"""A run on masks of 0 and 255: no number over no class, why is said, and the setting that reads them measures again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tag2mask.analysis.evaluate_run import evaluate_run
from tag2mask.analysis.few_masks import analyse_few
from tag2mask.analysis.map_thresholds import analyse_curves, analyse_thresholds
from tag2mask.analysis.threshold_rules import analyse_rules
from tag2mask.api import run
from tag2mask.cli.tables import print_seeds
from tag2mask.core.errors import NothingShownError
from tag2mask.core.palette import read_labels, write_labels
from tests.helpers.draw import draw_folder
from tests.helpers.tiny import tiny_overrides

MEANS = {"miou", "miou_foreground", "fp", "fn", "precision", "recall"}


@pytest.mark.slow
def test_a_run_prints_no_miou_over_no_class_and_measures_once_the_values_are_given(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "photos"
    draw_folder(root, n=6)
    for path in (root / "masks").iterdir():
        write_labels(path, np.where(read_labels(path) == 1, np.uint8(255), np.uint8(0)))
    words, out = tiny_overrides("own-data", root), tmp_path / "runs" / "photos"
    first = run("own-data", *words, out=out, only=["cam-seeds"])
    means = [row for row in first.metrics if row.metric in MEANS]
    assert means
    assert {row.value for row in means} == {None}
    assert {row.threshold_kind for row in means} == {"rule(erased/class)"}, "no threshold is best"
    assert "shows no class, so there is no mIoU" in caplog.text
    assert "'data.mask_values={255: 1}'" in caplog.text
    before = caplog.text.partition("shows no class")[0]
    assert "the masks hold 0 and 255 only: if 255 is your object, write 1" in before, "said before the first stage"
    print_seeds(first.metrics)
    shown = capsys.readouterr().out
    assert "100.0" not in shown
    assert "the ground truth shows no class" in shown
    page = first.report.read_text()
    assert "100.0 mIoU" not in page
    assert "the ground truth shows no class, so there is no mIoU" in page
    for ask in (
        lambda: evaluate_run(out), lambda: analyse_rules([out]), lambda: analyse_few(out, n=[1]),
        lambda: analyse_thresholds(out), lambda: analyse_curves([out]),
    ):  # fmt: skip
        with pytest.raises(NothingShownError, match=r"data\.mask_values=\{255: 1\}"):
            ask()
    made = (out / "classifier" / "manifest.json").stat().st_mtime_ns
    caplog.clear()
    second = run("own-data", *words, "data.mask_values={255: 1}", out=out, only=["cam-seeds"])
    assert (out / "classifier" / "manifest.json").stat().st_mtime_ns == made, "no training looks at masks"
    assert "hold 0 and 255 only: if 255" not in caplog.text
    cut = [row for row in second.metrics if row.metric == "miou" and row.threshold_kind != "none"]
    values = [row.value for row in cut]
    assert len(values) == 2
    assert all(value is not None and 0 < value < 100 for value in values)
    again = [row.value for row in evaluate_run(out) if row.metric == "miou" and row.threshold is not None]
    assert again == [values[-1]]
