"""Every shipped recipe: valid, complete, flat, commented, and run once on drawn data of its kind."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tag2mask.analysis.evaluate_run import evaluate_run
from tag2mask.api import run
from tag2mask.config.recipe import load_recipe, recipe_text, shipped
from tag2mask.data.registry import READERS
from tag2mask.evaluation.measures.trivial import TRIVIAL
from tag2mask.methods.stage_kinds import Makes
from tag2mask.pipeline.plan import make_plan
from tag2mask.pipeline.run_result import measured
from tests.helpers.tiny import DRAW, tiny_overrides, tiny_run


@pytest.mark.parametrize("name", shipped())
def test_recipe_has_its_name_and_begins_with_its_command(name: str) -> None:
    text = recipe_text(name)
    assert yaml.safe_load(text)["name"] == name
    head = text.split("\nname:")[0]
    assert f"tag2mask run {name}" in head or f"tag2mask {name}" in head
    assert all(line.startswith("#") for line in head.splitlines())


@pytest.mark.parametrize("name", shipped())
def test_recipe_has_a_description_and_no_anchors(name: str) -> None:
    text = recipe_text(name)
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
    recipe, ran = load_recipe(name), [s.stage.name for s in result.stages]
    decides = ["background"] if recipe.data.get("background") == "auto" else []
    assert ran == [s.name for s in make_plan(recipe).stages], "in the order of the plan"
    assert sorted(ran) == sorted([*decides, *recipe.stages])
    every = measured(result.stages)
    for metric, names in (
        ("miou", {*TRIVIAL, *(m.name for m in every if not m.refined)}),
        ("coverage", {m.name for m in every if m.refined}),
    ):
        scores = [r for r in result.metrics if r.metric == metric]
        assert {r.stage for r in scores} == names
        assert all(r.value is not None and 0 <= r.value <= 100 for r in scores)
    made = {s.stage.name for s in result.stages if s.stage.kind.makes in {Makes.MAPS, Makes.MASKS}}
    measured_as_masks = {source for m in every for source in m.maker.stage.reads.values()}
    assert made - {m.name for m in every} <= measured_as_masks
    page = (result.path / "report.html").read_text(encoding="utf-8")
    assert [m.maker.stage.name for m in every if m.maker.stage.name not in page] == []


@pytest.mark.slow
def test_voc_trains_on_train_aug_and_clusters_and_measures_on_train(tmp_path: Path) -> None:
    """Roles and names of splits are told apart: data.train is train_aug, and split: train is the list of that name."""
    result = tiny_run(tmp_path, recipe="voc12-lpcam")
    counts = {s.stage.name: s.manifest.n_images for s in result.stages}
    assert counts["classifier"] == counts["lpcam"] == 12
    assert counts["prototypes"] == counts["lpcam-seeds"] == 6
    assert {r.n_images for r in result.metrics if r.metric == "miou"} == {6}
    assert {r.split for r in result.metrics if r.metric == "miou"} == {"train"}


PUBLISHED = {
    "cam": {"seeds": 0.15, "foreground": 0.30, "background": 0.05, "masks": 0.25, "detach": 2},
    "lpcam": {"seeds": 0.30, "foreground": 0.45, "background": 0.25, "masks": 0.35, "detach": 0},
}
"""Thresholds in IRN's and in LPCAM's published code, and after which stage the classifier's gradient ends."""


@pytest.mark.parametrize("data", ["voc12", "coco14"])
@pytest.mark.parametrize("method", PUBLISHED)
def test_irn_recipes_hold_the_published_numbers(data: str, method: str) -> None:
    expected = PUBLISHED[method]
    stages = make_plan(load_recipe(f"{data}-irn-{method}")).recipe.stages
    assert stages[f"{method}-seeds"]["threshold"] == stages[f"{method}+crf"]["threshold"] == expected["seeds"]
    refined, irn, walk = (stages[f"{method}-{name}"] for name in ("refined", "irn", "walk"))
    assert (refined["foreground"], refined["background"]) == (expected["foreground"], expected["background"])
    assert refined["crf"] == {"preset": "irn", "iterations": 10, "gt_prob": 0.7}
    assert stages[f"{method}-masks"]["threshold"] == stages[f"{method}-walk-seeds"]["threshold"] == expected["masks"]
    assert {s["threshold_kind"] for s in stages.values() if "threshold_kind" in s} == {"published"}
    assert stages["classifier"]["backbone"]["detach_after"] == expected["detach"]
    train = irn["train"]
    assert (train["batch_size"], train["epochs"], train["lr"], train["crop"]) == (32, 3, 0.1, 512)
    assert (train["optimiser"], train["weight_decay"], train["rescale"]) == ("sgd", 1e-4, [0.5, 1.5])
    assert (irn["radius"], irn["backbone"]["name"]) == (10, "resnet50_irn")
    assert (walk["radius"], walk["beta"], walk["log2_steps"], walk["power"], walk["mirror"]) == (5, 10, 8, 1, True)


@pytest.mark.parametrize("data", ["voc12", "coco14"])
@pytest.mark.parametrize("method", PUBLISHED)
def test_amn_recipes_hold_the_published_numbers(data: str, method: str) -> None:
    expected = PUBLISHED[method]
    stages = make_plan(load_recipe(f"{data}-amn{'-lpcam' if method == 'lpcam' else ''}")).recipe.stages
    before = make_plan(load_recipe(f"{data}-irn-{method}")).recipe.stages
    shared = set(before) & set(stages)
    assert shared >= {"classifier", "cam", f"{method}-refined"}
    assert all(stages[name] == before[name] for name in shared)
    refined, amn, maps = stages[f"{method}-refined"], stages["amn"], stages["amn-maps"]
    assert (refined["foreground"], refined["background"]) == (expected["foreground"], expected["background"])
    assert amn["reads"] == {"seeds": f"{method}-refined"}
    train = amn["train"]
    assert (train["optimiser"], train["lr"], train["head_lr"], train["weight_decay"]) == ("adam", 5e-6, 1e-4, 1e-4)
    assert (train["epochs"], train["batch_size"], train["schedule"]) == (5, 16, "constant")
    assert (train["crop"], train["rescale"]) == (512, [0.5, 1.5])
    assert (amn["condition"], amn["dropout"], amn["smoothing"], amn["balanced"]) == ([4], 0.1, 0.4, True)
    assert (amn["backbone"]["name"], amn["backbone"]["detach_after"]) == ("resnet50_irn", 0)
    assert (maps["normalise"], maps["scales"], maps["mirror"]) == ("background-prior", [1.0, 0.5, 1.5, 2.0], True)
    assert stages["amn-seeds"]["threshold"] == stages["amn+crf"]["threshold"] == 0.25
    assert (stages["amn-refined"]["foreground"], stages["amn-refined"]["background"]) == (0.45, 0.15)
    assert stages["amn-walk"]["power"] == 1.3
    assert stages["amn-masks"]["threshold"] == {"voc12": 0.25, "coco14": 0.22}[data]
    assert {s["threshold_kind"] for s in stages.values() if "threshold_kind" in s} == {"published"}


@pytest.mark.parametrize("recipe", ["own-data-irn", "own-data-irn-few-masks", "own-data-amn", "own-data-amn-few-masks"])
def test_own_data_with_irn_begins_as_own_data_and_so_shares_its_store(recipe: str) -> None:
    plain, longer = (make_plan(load_recipe(name)).recipe.stages for name in ("own-data", recipe))
    behind = () if "few-masks" in recipe else ("prototypes", "lpcam")  # few masks choose the thresholds that these read
    for stage in ("classifier", "average-precision", "cam", *behind):
        assert {k: v for k, v in longer[stage].items() if k != "seed"} == plain[stage]


def test_few_masks_of_both_recipes_choose_and_refine_alike_and_share_their_store() -> None:
    irn, amn = (make_plan(load_recipe(f"own-data-{name}-few-masks")).recipe.stages for name in ("irn", "amn"))
    for stage in ("cam-few", "cam-refined", "lpcam-few", "lpcam-refined"):
        assert amn[stage] == {**irn[stage], "seed": 0}


def test_amn_in_few_masks_is_made_once_a_seed_and_the_classifier_once() -> None:
    plan = make_plan(load_recipe("own-data-amn-few-masks", ["seeds=[0,1,2]"]))
    names = [s.name for s in plan.stages]
    assert {"classifier", "cam-refined", "lpcam-refined", "amn@0", "amn@1", "amn-lpcam@2", "amn-masks@2"} <= set(names)
    assert {s.name for s in plan.stages if s.kind.name == "classifier"} == {"classifier"}
    assert {s.seed for s in plan.stages if s.name.startswith("amn-walk@")} == {0, 1, 2}


def test_light_irn_needs_no_masks_and_leaves_a_margin_around_its_seeds() -> None:
    stages = make_plan(load_recipe("light-irn")).recipe.stages
    assert not any(s["kind"] == "few-masks" for s in stages.values())
    for method in ("cam", "lpcam"):
        refined, seeds = stages[f"{method}-refined"], stages[f"{method}-seeds"]["threshold"]
        assert refined["foreground"] == pytest.approx(seeds + 0.12)
        assert refined["background"] == pytest.approx(seeds - 0.12)


METHODS = [("light", ["lpcam", "amn-lpcam"]), ("light-amn", ["cam", "lpcam", "amn", "amn-lpcam"])]


@pytest.mark.parametrize(("recipe", "methods"), METHODS)
def test_the_light_recipes_refine_seeds_at_thresholds_from_the_maps_alone(recipe: str, methods: list[str]) -> None:
    stages = make_plan(load_recipe(recipe)).recipe.stages
    for method in methods:
        rule, refined = stages[f"{method}-threshold"], stages[f"{method}-refined"]
        maps = f"{method}-maps" if method.startswith("amn") else method
        assert (rule["kind"], rule["rule"], rule["per"]) == ("rule", "otsu", "image")
        assert rule["reads"] == {"maps": maps}
        assert refined["reads"] == {"maps": maps, "threshold": f"{method}-threshold"}
        assert refined["margin"] == 0.15
        assert list(load_recipe(recipe).allow_supervision) == ["tags"], "a rule is no supervision"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "few", "published"),
    [
        (
            "own-data-irn-few-masks",
            {"cam", "cam+crf", "cam-masks", "lpcam", "lpcam+crf", "lpcam-masks"},
            {"cam", "cam+crf-published", "cam-walk", "lpcam", "lpcam+crf-published", "lpcam-walk"},
        ),
        (
            "own-data-amn-few-masks",
            {"cam", "lpcam", "amn-maps", "amn-lpcam-maps", "amn-walk", "amn-masks", "amn-lpcam-masks"},
            {"cam", "lpcam", "amn-walk", "amn-lpcam-walk"},
        ),
    ],
)
def test_few_masks_measure_everything_on_the_same_other_images(
    tmp_path: Path, recipe: str, few: set[str], published: set[str]
) -> None:
    result = tiny_run(tmp_path, recipe=recipe)
    assert {r.n_images for r in result.metrics if r.metric != "map" and not r.metric.startswith("ap/")} == {10}
    lists = {s.artefact.threshold().ids for s in result.stages if s.stage.kind.makes is Makes.THRESHOLD}
    assert len(lists) == 1
    kinds = {(r.stage, r.threshold_kind) for r in result.metrics if r.metric == "miou"}
    assert {(stage, "few-masks(2)") for stage in few} | {(stage, "published") for stage in published} <= kinds
    walk = "cam-walk" if "cam-walk" in published else "amn-walk"
    walked = evaluate_run(result.path, stages=[walk], thresholds=[0.25])
    assert {r.n_images for r in walked} == {10}, "eval leaves out what a threshold behind the walk was chosen on"


@pytest.mark.slow
def test_voc_makes_masks_of_train_aug_and_measures_them_on_train(tmp_path: Path) -> None:
    result = tiny_run(tmp_path, recipe="voc12-irn-cam")
    counts = {s.stage.name: s.manifest.n_images for s in result.stages}
    assert counts["cam-irn"] == counts["cam-walk"] == counts["cam-masks"] == counts["cam-refined"] == 12
    assert {(r.split, r.n_images) for r in result.metrics if r.metric in {"miou", "coverage"}} == {("train", 6)}


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
    measured = {r.stage: r.split for r in result.metrics if r.metric == "miou"}
    assert {"cam", "lpcam", "amn-lpcam-maps", "amn-lpcam-masks", "predictions"} <= measured.keys()
    assert measured["predictions"].startswith("val"), "on images that took no part"
    assert not measured["cam"].startswith("val")
