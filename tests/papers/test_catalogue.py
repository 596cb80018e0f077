"""Every experiment of the papers: complete, with a source for each published value, and planned with each recipe."""

from __future__ import annotations

import re
import shlex

import pytest

from tag2mask.config.plain import read_yaml
from tag2mask.config.recipe import load_recipe
from tag2mask.core.errors import ConfigError
from tag2mask.methods.stage_kinds import Makes
from tag2mask.papers.catalogue import Experiment, experiment, experiments, load_step
from tag2mask.papers.run import Options, plan_experiment
from tag2mask.pipeline.plan import make_plan, measured_by
from tests.project.command_line import check
from tests.project.source import PACKAGE, ROOT

IDS = [*(f"L{i}" for i in range(1, 14)), *(f"A{i}" for i in range(1, 16))]
TOYS = ("L6", "A3")


def test_the_list_of_the_issue_is_whole_and_in_order() -> None:
    assert [(e.id, e.paper) for e in experiments().values()] == [
        (name, "LPCAM" if name[0] == "L" else "AMN") for name in IDS
    ]


def test_the_page_lists_them_as_they_are() -> None:
    page = (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8")
    lines = page.partition("<!-- experiments -->")[2].partition("<!-- /experiments -->")[0].strip().splitlines()[2:]
    listed = [tuple(cell.strip() for cell in line.split("|")[1:4]) for line in lines]
    assert listed == [(e.id, f"{e.paper}, {e.item}", e.title) for e in experiments().values()]
    for line, found in zip(lines, experiments().values(), strict=True):
        assert all(name in line or "others as published" in line for name in found.missing), line


def test_an_unknown_experiment_names_the_nearest() -> None:
    assert experiment("l1") is experiment("L1")
    with pytest.raises(ConfigError, match="unknown experiment 'L14'; did you mean 'L4'"):
        experiment("L14")


@pytest.mark.parametrize("name", IDS)
def test_published_values_have_a_source_and_rows_their_own_names(name: str) -> None:
    found = experiment(name)
    assert found.question.endswith("?")
    names = [row.name for row in found.rows]
    assert len(set(names)) == len(names)
    for row in found.rows:
        for value in row.published:
            assert re.match(rf"{found.paper}, (Table|Figure|section) \d", value.source), row.name
            assert 0 < value.value <= 130
            assert any(value.metric == m or (m.endswith("/") and value.metric.startswith(m)) for m in found.metrics)
            assert value.on
        assert not any(other.startswith(f"{row.name} (") for other in names), "a name with '(' behind it is a network"
        assert not (row.needs and (row.light or row.papers)), "what is not yet there has no side of ours"
    for order in found.orders:
        assert {order.above, order.below} <= set(names)
    assert all(callable(load_step(step)) for step in found.steps)


@pytest.mark.parametrize("name", IDS)
def test_light_rows_are_planned_apart_and_measured(name: str) -> None:
    found = experiment(name)
    combined = plan_experiment(found, Options())
    if name in TOYS:
        assert combined is None
        return
    assert combined is not None
    assert combined.recipe.data["kind"] == "parts"
    stages = make_plan(combined.recipe).stages
    measured = {measured_by(s) for s in stages if s.kind.makes is Makes.METRICS}
    mine = list(combined.stages.values())
    assert len(set(mine)) == len(mine)
    kinds = {s.name: s.kind.makes for s in stages}
    assert {stage for stage in mine if kinds[stage] in {Makes.MAPS, Makes.MASKS}} <= measured
    rows = (found.swept,) if found.swept else found.rows
    assert set(combined.stages) == {row.name for row in rows if row and row.light}
    check_axes(found, combined.recipe.stages)


def check_axes(found: Experiment, stages: dict[str, dict[str, object]]) -> None:
    """Every swept value has a row, and its setting is one of the recipe."""
    for axis in found.axes:
        assert axis.setting.split(".")[0] in stages
        assert {axis.row(value) for value in axis.values} <= {row.name for row in found.rows}


@pytest.mark.slow
@pytest.mark.parametrize("data", ["voc12", "coco14"])
@pytest.mark.parametrize("name", [i for i in IDS if i not in TOYS])
def test_rows_of_the_papers_recipes_are_planned(name: str, data: str) -> None:
    found = experiment(name)
    combined = plan_experiment(found, Options(("data.root=folder",), recipes=data))  # type: ignore[arg-type]
    assert combined is not None
    assert combined.recipe.data["kind"] == {"voc12": "voc", "coco14": "coco"}[data]
    kinds = {s["threshold_kind"] for s in combined.recipe.stages.values() if "threshold_kind" in s}
    assert kinds <= {"published", "fixed"}
    assert "published" in kinds or name in {"L12", "A6"}


def test_every_variant_of_the_catalogue_stands_behind_a_row() -> None:
    known = read_yaml(PACKAGE / "papers" / "variants.yaml", "catalogue")
    rows = [row for e in experiments().values() for row in (*e.rows, e.swept) if row is not None]
    assert {row.light.variant.name for row in rows if row.light} == set(known["light"])
    assert {row.papers.variant.name for row in rows if row.papers} == set(known["papers"])


def test_every_metric_of_the_catalogue_is_one_that_the_program_measures() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    names = {re.split(r"[/\d]", metric)[0] for e in experiments().values() for metric in e.metrics}
    assert {name for name in names if f'"{name}' not in source} == set()


@pytest.mark.parametrize("name", ["L8", "L9", "L10", "A10"])
def test_commands_that_notes_advise_are_understood(name: str) -> None:
    found = [note.partition("tag2mask ")[2] for note in experiment(name).notes if "tag2mask " in note]
    assert len(found) == (2 if name == "L9" else 1)
    for text in found:
        check(shlex.split(text))


def test_numbers_of_the_tables_are_the_papers() -> None:
    def known(name: str, on: str, metric: str = "miou") -> dict[str, float]:
        rows = experiment(name).rows
        return {r.name: p.value for r in rows for p in r.published if (p.metric, p.on) == (metric, on)}

    assert known("L1", "VOC train") == {"CAM": 48.8, "LPCAM-F": 52.1, "LPCAM": 54.9}
    assert known("L1", "VOC train", "recall") == {"CAM": 65.2, "LPCAM-F": 76.6, "LPCAM": 77.2}
    assert known("L1", "VOC train", "fn") == {"CAM": 26.2, "LPCAM-F": 16.2, "LPCAM": 16.7}
    coco = known("L2", "COCO train")
    assert coco == {
        "IRN, seeds": 33.1, "IRN + LPCAM, seeds": 35.8, "IRN, masks": 42.5, "IRN + LPCAM, masks": 46.8,
        "AMN, seeds": 40.3, "AMN + LPCAM, seeds": 42.5, "AMN, masks": 46.7, "AMN + LPCAM, masks": 47.7,
    }  # fmt: skip
    assert known("L3", "COCO val")["AMN + LPCAM: UperNet-Swin"] == 48.3
    assert known("L4", "VOC test")["EDAM (ResNet-50)"] == 71.8
    assert list(known("A4", "VOC train").values()) == [54.3, 62.1, 65.3, 66.3, 69.1, 72.2]
    assert list(known("A5", "VOC train").values()) == [48.2, 51.7, 61.2, 62.1, 61.0, 51.4, 50.9]
    assert known("A9", "VOC train")["RIB"] == 70.6
    assert known("A12", "VOC val", "iou/diningtable") == {"RIB": 37.5, "AMN": 53.8}


def test_rows_that_wait_for_a_method_are_marked() -> None:
    assert experiment("L2").missing == ("EDAM", "MCTformer")
    assert sum(bool(row.needs) for row in experiment("L2").rows) == 8
    assert {e.id for e in experiments().values() if e.missing} == {"L2", "L3", "L4"}


def test_the_experiments_train_the_network_of_the_light_recipe() -> None:
    own = make_plan(load_recipe("light")).recipe.stages
    ref = {row.name: row.light for row in experiment("L3").rows}["IRN: FPN, light"]
    assert ref is not None
    added = make_plan(load_recipe(ref.variant.recipe, ref.variant.overrides)).recipe.stages
    assert {**added["segmenter"], "reads": None} == {**own["segmenter"], "reads": None}
    assert added["segmenter"]["reads"] == {"masks": "cam-masks"}
    assert added["predictions"] == own["predictions"]
    assert added[ref.stage]["kind"] == "predictions"
