"""Every shipped recipe: valid, complete, flat, commented, and run once on drawn data of its kind."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tag2mask.config.recipe import load_recipe, recipe_path, shipped
from tag2mask.data.registry import READERS
from tag2mask.pipeline.api import run
from tag2mask.pipeline.plan import make_plan
from tests.helpers.tiny import DRAW, tiny_overrides, tiny_run


def test_all_yaml_files_are_listed() -> None:
    folder = recipe_path("demo").parent
    assert {p.stem for p in folder.rglob("*.yaml")} == set(shipped())
    assert len(shipped()) >= 6


@pytest.mark.parametrize("name", shipped())
def test_recipe_is_named_as_its_file_and_begins_with_its_command(name: str) -> None:
    text = recipe_path(name).read_text(encoding="utf-8")
    assert yaml.safe_load(text)["name"] == name
    head = text.split("\nname:")[0]
    assert f"tag2mask run {name}" in head or f"tag2mask {name}" in head
    assert all(line.startswith("#") for line in head.splitlines())


@pytest.mark.parametrize("name", shipped())
def test_recipe_has_a_description_and_no_anchors(name: str) -> None:
    text = recipe_path(name).read_text(encoding="utf-8")
    assert load_recipe(name).description
    assert not any(sign in text for sign in ("<<:", " &", " *"))


@pytest.mark.parametrize("name", shipped())
def test_the_resolved_recipe_is_a_fixed_point(name: str, tmp_path: Path) -> None:
    once = make_plan(load_recipe(name)).recipe
    path = tmp_path / f"{name}.yaml"
    path.write_text(yaml.safe_dump(once.model_dump(mode="json"), sort_keys=False))
    assert make_plan(load_recipe(str(path))).recipe == once


@pytest.mark.slow
@pytest.mark.parametrize("name", shipped())
def test_recipe_runs_on_drawn_data(name: str, tmp_path: Path) -> None:
    result = tiny_run(tmp_path, recipe=name)
    assert [s.stage.name for s in result.stages] == list(load_recipe(name).stages)
    scores = [r for r in result.metrics if r.metric == "miou"]
    assert {r.stage for r in scores} == {s.stage.name for s in result.stages if s.stage.kind.makes == "maps"}
    assert all(r.value is not None and 0 <= r.value <= 100 for r in scores)
    assert (result.path / "report.html").stat().st_size > 1000


@pytest.mark.slow
def test_voc_trains_on_train_aug_and_clusters_and_measures_on_train(tmp_path: Path) -> None:
    """Roles and names of splits are told apart: data.train is train_aug, and split: train is the list of that name."""
    result = tiny_run(tmp_path, recipe="voc12-lpcam")
    counts = {s.stage.name: s.manifest.n_images for s in result.stages}
    assert counts["classifier"] == counts["lpcam"] == 12
    assert counts["prototypes"] == counts["lpcam-seeds"] == 6
    assert {r.n_images for r in result.metrics if r.metric == "miou"} == {6}
    assert {r.split for r in result.metrics if r.metric == "miou"} == {"train"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", READERS)
def test_own_data_runs_on_every_reader(kind: str, tmp_path: Path) -> None:
    draw = DRAW[kind]
    words = [f"data={kind}"]
    if draw is not None:
        draw(tmp_path / "data")
        words.append(f"data.root={tmp_path / 'data'}")
    if kind == "folder":
        words += ["data.tags=tags.csv", "data.images=images"]
    if kind == "parts":
        words += ["data.images=6", "data.size=64"]
    small = [w for w in tiny_overrides("own-data") if not w.startswith("data.")]
    result = run("own-data", *small, *words, out=tmp_path / "runs" / kind)
    assert {r.stage for r in result.metrics if r.metric == "miou"} == {"cam", "lpcam-f", "lpcam"}
