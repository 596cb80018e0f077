"""The papers' recipes against what the papers and their code use: one table, every recipe, every number."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import pytest

from tag2mask.config.recipe import load_recipe, recipe_text, shipped
from tag2mask.pipeline.plan import make_plan

PAPERS = sorted(name for name in shipped() if name.startswith(("voc12", "coco14")))
CAM, LPCAM = "cam", "lpcam"

CLASSIFIER: dict[str, Any] = {
    "epochs": 5, "batch_size": 16, "optimiser": "sgd", "lr": 0.1, "head_lr": 1.0, "weight_decay": 1e-4,
    "momentum": 1e-4, "schedule": "poly", "poly_power": 0.9, "long_side": [320, 640], "crop": 512, "drop_last": True,
}  # fmt: skip
PROTOTYPES: dict[str, dict[str, Any]] = {
    "voc12": {"images_per_class": None, "split": "train", "n_prototypes": 12, "tau": 0.1, "mu_f": 0.9, "mu_b": 0.9,
              "mu_b_low": 0.05},
    "coco14": {"images_per_class": 100, "split": None, "n_prototypes": 20, "tau": 0.25, "mu_f": 0.9, "mu_b": 0.5,
               "mu_b_low": 0.0},
}  # fmt: skip
LEVELS = {
    # code: seeds, refined seeds of a class and of background, pseudo-masks, power of the maps before the walk
    "irn": (0.15, 0.30, 0.05, 0.25, 1.0),
    "lpcam": (0.30, 0.45, 0.25, 0.35, 1.0),
    "amn voc12": (0.25, 0.45, 0.15, 0.25, 1.3),
    "amn coco14": (0.25, 0.45, 0.15, 0.22, 1.3),
}
PAD = {
    # IRN and AMN pad VOC's images to 512 x 512; what ran on COCO, and LPCAM, do not pad.
    "voc12-irn-cam": 512, "voc12-irn-lpcam": "none", "voc12-amn": 512, "voc12-amn-cam": 512, "voc12-amn-lpcam": 512,
    "voc12-lpcam-on-amn": "none", "coco14-irn-cam": "none", "coco14-irn-lpcam": "none", "coco14-amn": "none",
    "coco14-amn-cam": "none", "coco14-amn-lpcam": "none", "coco14-lpcam-on-amn": "none",
}  # fmt: skip


@cache
def stages(name: str) -> dict[str, dict[str, Any]]:
    return make_plan(load_recipe(name)).recipe.stages


def base(name: str) -> str:
    """Name of the recipe without its second stage."""
    return re.sub(r"-(deeplabv2|upernet)$", "", name)


def code_of(name: str, stage: str) -> str:
    """Whose levels a stage has: those of the maps that it cuts."""
    data = name.partition("-")[0]
    if stage.startswith("amn-") or stage.startswith("amn+"):
        return f"amn {data}"
    return LPCAM if stage.startswith("lpcam") else "irn"


def is_ours(name: str, stage: str) -> bool:
    """Whether the papers give a level for other maps or other data only, so that using it here is a choice."""
    data, _, rest = base(name).partition("-")
    if "+crf" in stage:
        return True
    if rest == "amn-lpcam":  # never released
        return stage != "lpcam-seeds"
    if stage == "cam-seeds" and rest in {"irn-lpcam", "lpcam"}:
        return True  # LPCAM's code has levels for its own maps alone
    return data == "coco14" and rest in {"cam", "irn-cam"}  # IRN reports nothing on COCO


@pytest.mark.parametrize("name", PAPERS)
def test_classifier_and_prototypes(name: str) -> None:
    classifier = stages(name)["classifier"]
    assert {key: classifier["train"][key] for key in CLASSIFIER} == CLASSIFIER
    cam_based = LPCAM not in stages(name) or "lpcam-on-amn" in name
    assert classifier["backbone"]["detach_after"] == (2 if cam_based else 0)
    assert classifier["negatives"] == "keep", "as published, on COCO too"
    assert {s["negatives"] for s in stages(name).values() if "negatives" in s} == {"keep"}
    for spec in stages(name).values():
        if spec["kind"] == "prototypes":
            assert {key: spec[key] for key in PROTOTYPES["voc12"]} == PROTOTYPES[name.partition("-")[0]]


@pytest.mark.parametrize("name", PAPERS)
def test_grid_of_maps_and_padding_of_boundaries(name: str) -> None:
    grids = {stage: spec["grid"] for stage, spec in stages(name).items() if spec["kind"] in {CAM, LPCAM}}
    assert grids
    assert set(grids.values()) == {"aligned"}
    scales = [spec["scales"] for spec in stages(name).values() if spec["kind"] in {CAM, LPCAM, "amn-maps"}]
    assert all(found == [1.0, 0.5, 1.5, 2.0] for found in scales)
    walks = [spec for spec in stages(name).values() if spec["kind"] == "irn-walk"]
    assert [walk["pad"] for walk in walks] == ([PAD[base(name)]] if base(name) in PAD else [])
    assert all((w["radius"], w["beta"], w["log2_steps"], w["mirror"]) == (5, 10, 8, True) for w in walks)


@pytest.mark.parametrize("name", sorted(set(shipped()) - set(PAPERS)))
def test_other_recipes_keep_the_defaults(name: str) -> None:
    for spec in stages(name).values():
        assert spec.get("grid", "stretched") == "stretched"
        assert spec.get("pad", "cells") == "cells"


@pytest.mark.parametrize("name", PAPERS)
def test_every_level_is_its_codes_own(name: str) -> None:
    for stage, spec in stages(name).items():
        seeds, sure, background, masks, power = LEVELS[code_of(name, stage)]
        if spec["kind"] == "refined-seeds":
            assert (spec["foreground"], spec["background"]) == (sure, background), stage
        elif spec["kind"] == "pseudo-masks" or stage.endswith("-walk-seeds"):
            assert spec["threshold"] == masks, stage
        elif spec["kind"] in {"seeds", "seed-crf"}:
            assert spec["threshold"] == seeds, stage
        elif spec["kind"] == "irn-walk":
            assert spec["power"] == power, stage


@pytest.mark.parametrize("name", PAPERS)
def test_a_level_that_is_a_choice_of_ours_says_so(name: str) -> None:
    stage, seen = "", 0
    for line in recipe_text(name).partition("\nstages:\n")[2].splitlines():
        if found := re.match(r"  ([a-z][\w+-]*):", line):
            stage = found[1]
        if re.match(r"    (threshold|foreground): [0-9]", line):
            seen += 1
            fixed = stages(name)[stage]["threshold_kind"] == "fixed"  # which says it already
            expected = is_ours(name, stage) and not (fixed and "+crf" not in stage)
            assert ("a choice of ours" in line) == expected, (stage, line)
    assert seen


def test_numbers_stand_beside_the_settings_that_gave_them() -> None:
    heads = {name: recipe_text(name).partition("\nname:")[0] for name in PAPERS}
    for name, head in heads.items():
        text = " ".join(head.replace("#", "").split())
        if name.startswith("voc12") and name.endswith(("-cam", "irn-cam-deeplabv2", "irn-cam-upernet")):
            assert "IRN reports 48.3 mIoU of seeds" in text
            assert re.search(
                r"LPCAM's paper has 48\.8.*settings of its own|has 48\.8, measured anew with its own", text
            )
        if name in {"coco14-cam", "coco14-irn-cam", "coco14-irn-cam-deeplabv2", "coco14-irn-cam-upernet"}:
            assert "reports nothing on COCO" in text
            assert re.search(r"LPCAM's paper has 33\.1 .*settings of its own", text)
            assert "published numbers" not in text
    assert "segmenter.train.scales=[0.5,0.75,1.0,1.25,1.5]" in heads["voc12-amn-lpcam-deeplabv2"]


def test_lpcams_numbers_instead_are_those_of_its_own_recipe() -> None:
    head = " ".join(recipe_text("voc12-amn-lpcam-deeplabv2").partition("\nname:")[0].replace("#", "").split())
    words = re.findall(r"segmenter\.train\.\S+=\S+?(?=\.?\s|\.?$)", head.partition("LPCAM's numbers instead:")[2])
    changed = make_plan(load_recipe("voc12-amn-lpcam-deeplabv2", words)).recipe.stages["segmenter"]["train"]
    assert changed == stages("voc12-irn-lpcam-deeplabv2")["segmenter"]["train"]
