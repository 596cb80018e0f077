"""Tables in the pages come from the CSVs in ``results/``: writing them again changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs.make_tables import PAGES, fill, parse, render, settings_table
from tag2mask.core.errors import ConfigError
from tests.helpers.refused import refused
from tests.project.source import ROOT

SEEDS = """method,split,n_images,threshold_kind,threshold,metric,value,seed,command
cam,train,9,oracle,0.35,miou,50.0,0,tag2mask run x
cam,train,9,oracle,0.35,miou,54.0,1,tag2mask run x
cam,train,9,oracle,0.35,fp,20.26,0,tag2mask run x
lpcam,train,9,oracle,0.5,miou,58.94,0,tag2mask run x
lpcam,train,9,oracle,0.5,fp,,0,tag2mask run x
cam,train,9,fixed,0.3,miou,49.0,0,tag2mask run x
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "seeds.csv").write_text(SEEDS)
    return tmp_path


@pytest.mark.parametrize("page", PAGES)
def test_pages_are_up_to_date(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert fill(text, ROOT) == text, "run make tables"


def test_metrics_become_columns_and_seeds_a_mean_with_its_deviation(root: Path) -> None:
    table = parse("seeds.csv columns=method,n_images metrics=miou,fp where=threshold_kind:oracle")
    assert render(table, root) == (
        "| method | n_images | miou | fp |\n"
        "| --- | --- | --- | --- |\n"
        "| cam | 9 | 52.0 ± 2.8 (2) | 20.3 |\n"
        "| lpcam | 9 | 58.9 | – |\n"
        "\nMade by `tag2mask run x`.\n"
    )


def test_plain_columns_are_shown_as_they_are(root: Path) -> None:
    table = parse("seeds.csv columns=method,value where=threshold_kind:oracle,metric:fp,method:cam")
    assert render(table, root).splitlines()[2:3] == ["| cam | 20.26 |"]


def test_one_of_several_values_may_be_requested(root: Path) -> None:
    table = parse("seeds.csv columns=method metrics=miou where=threshold_kind:oracle,method:lpcam|cam")
    assert [line.split()[1] for line in render(table, root).splitlines()[2:4]] == ["cam", "lpcam"]
    with refused(ConfigError, "no row of seeds.csv", "method amn|irn"):
        render(parse("seeds.csv columns=method where=method:amn|irn"), root)


def test_settings_are_those_of_the_schema_with_their_defaults() -> None:
    lines = settings_table("refined-seeds").splitlines()
    assert lines[0] == "| setting | default | what it is |"
    assert "| `foreground` | `0.45` | above it a class may be confident; unless a threshold is read |" in lines
    assert "| `crf.iterations` | `10` | of mean field |" in lines
    network = settings_table("segmenter").splitlines()
    assert [line for line in network if line.startswith("| `network.weights` | – |")], "it must be chosen"
    assert "| `backbone` | `stride=16` | network below the head;" in settings_table("amn")
    with refused(ConfigError, "'camm'", "did you mean 'cam'"):
        settings_table("camm")


def test_markers_of_settings_are_filled_too(root: Path) -> None:
    filled = fill("<!-- settings: cam -->\n| old |\n<!-- /settings -->\n", root)
    assert filled == f"<!-- settings: cam -->\n\n{settings_table('cam')}\n<!-- /settings -->\n"
    with pytest.raises(ConfigError, match="or the reverse"):
        fill("<!-- settings: cam -->\n<!-- /table -->\n", root)


def test_filling_replaces_what_was_there_and_is_stable(root: Path) -> None:
    marker = "<!-- table: seeds.csv columns=method,value where=threshold_kind:fixed -->"
    page = f"before\n{marker}\n| old |\n<!-- /table -->\nafter\n"
    filled = fill(page, root)
    assert filled == (
        f"before\n{marker}\n\n| method | value |\n| --- | --- |\n| cam | 49.0 |\n\nMade by `tag2mask run x`.\n\n"
        "<!-- /table -->\nafter\n"
    )
    assert fill(filled, root) == filled


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "seeds.csv columns=method,threshold",
            "the kinds fixed, oracle … where=threshold_kind:fixed",
        ),
        ("none.csv columns=method", "none.csv … run what measures it"),
        ("seeds.csv columns=metod", "seeds.csv 'metod' … did you mean 'method'"),
        ("seeds.csv column=method", "seeds.csv: 'column' … did you mean 'columns'"),
        ("seeds.csv metrics=miou", "the marker of seeds.csv has no columns="),
        ("seeds.csv columns=method where=split:val", "seeds.csv … split val"),
        ("seeds.csv columns=method metrics=iou where=threshold_kind:fixed", "unknown metric of seeds.csv 'iou'"),
        (
            "seeds.csv columns=split metrics=miou where=threshold_kind:oracle",
            "values of miou … one seed for train … name the column",
        ),
    ],
)
def test_a_wrong_marker_says_what_to_fix(root: Path, spec: str, message: str) -> None:
    with refused(ConfigError, message):
        render(parse(spec), root)


@pytest.mark.parametrize("page", ["<!-- table: seeds.csv columns=method -->\n", "text\n<!-- /table -->\n"])
def test_a_marker_without_its_other_half_is_found(root: Path, page: str) -> None:
    with pytest.raises(ConfigError, match="or the reverse"):
        fill(page, root)


def test_f1_is_worked_out_of_the_ious_of_the_classes_where_a_csv_is_older(root: Path) -> None:
    lines = ["iou/background,90.0,0", "iou/cat,50.0,0", "iou/dog,0.0,0", "iou/cow,,0", "iou/cat,100.0,1"]
    rows = "".join(
        f"cam,train,9,fixed,0.3,{m},{v},{s},x\n" for m, v, s in (line.split(",") for line in [*lines, "miou,60,0"])
    )
    (root / "old.csv").write_text(SEEDS.splitlines()[0] + "\n" + rows)
    found = render(parse("old.csv columns=method metrics=miou,f1_foreground"), root).splitlines()
    seeds = (200 * 50 / 150 + 0) / 2, 100.0  # F1 is 2 IoU / (1 + IoU)
    mean, sd = sum(seeds) / 2, (seeds[1] - seeds[0]) / 2**0.5
    assert found[:3] == [
        "| method | miou | f1_foreground |", "| --- | --- | --- |", f"| cam | 60.0 | {mean:.1f} ± {sd:.1f} (2) |",
    ]  # fmt: skip
    (root / "new.csv").write_text((root / "old.csv").read_text() + "cam,train,9,fixed,0.3,f1_foreground,7.0,0,x\n")
    assert "| 7.0 |" in render(parse("new.csv columns=method metrics=f1_foreground"), root)
