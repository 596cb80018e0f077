"""The recipes of the second stage: the papers' numbers, on top of recipes whose store they share."""

from __future__ import annotations

from typing import Any

import pytest

from tag2mask.config.recipe import load_recipe
from tag2mask.papers.catalogue import experiment
from tag2mask.pipeline.plan import make_plan
from tests.project.source import ROOT

BEFORE = {"irn-cam": "irn-cam", "irn-lpcam": "irn-lpcam", "amn-cam": "amn", "amn-lpcam": "amn-lpcam"}
MASKS = {"irn-cam": "cam-masks", "irn-lpcam": "lpcam-masks", "amn-cam": "amn-masks", "amn-lpcam": "amn-masks"}
DEEPLAB = {
    "voc12-irn": (10, 20_000, 2.5e-4, [0.5, 0.75, 1.0, 1.25, 1.5], False),
    "voc12-amn": (10, 30_000, 2.5e-4, [0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0], True),
    "coco14-irn": (20, 100_000, 2e-4, [0.5, 0.75, 1.0, 1.25, 1.5], False),
    "coco14-amn": (20, 100_000, 2e-4, [0.5, 0.75, 1.0, 1.25, 1.5], False),
}
"""Images of a step, steps, rate of the encoder, scales, balanced: of LPCAM, and of AdvCAM, which AMN cites."""


def stages(name: str) -> dict[str, dict[str, Any]]:
    return make_plan(load_recipe(name)).recipe.stages


@pytest.mark.parametrize("net", ["deeplabv2", "upernet"])
@pytest.mark.parametrize("method", BEFORE)
@pytest.mark.parametrize("data", ["voc12", "coco14"])
def test_they_go_on_from_pseudo_masks_and_measure_on_val(data: str, method: str, net: str) -> None:
    own, before = stages(f"{data}-{method}-{net}"), stages(f"{data}-{BEFORE[method]}")
    assert {name: own[name] for name in before} == before
    assert own["segmenter"]["reads"] == {"masks": MASKS[method]}
    assert own["segmenter"]["network"]["kind"] == net
    assert (own["segmenter"]["truth"], own["segmenter"]["split"]) == (False, None)
    assert load_recipe(f"{data}-{method}-{net}").allow_supervision == ("tags",)
    predictions = [name for name, spec in own.items() if spec["kind"] == "predictions"]
    assert predictions == ["predictions", "predictions+crf", "predictions+ms", "predictions+ms+crf"]
    for name in predictions:
        several = ([0.75, 1.0, 1.25], True) if "+ms" in name else ([1.0], False)
        assert (own[name]["scales"], own[name]["mirror"], own[name]["split"]) == (*several, None)
        assert own[name]["crf"] == ("deeplabv2" if "+crf" in name else None)
        assert own[name]["fit"] == ([2048, 512] if net == "upernet" else None)
        assert own[f"{name}-score"]["reads"] == {"masks": name}
        assert own[f"{name}-score"]["split"] == "val"


@pytest.mark.parametrize("method", BEFORE)
@pytest.mark.parametrize("data", ["voc12", "coco14"])
def test_deeplab_has_the_published_numbers(data: str, method: str) -> None:
    own = stages(f"{data}-{method}-deeplabv2")
    network, train = own["segmenter"]["network"], own["segmenter"]["train"]
    assert (network["encoder"], network["pretrained"]) == ("resnet101_caffe", "imagenet")
    found = (train["batch_size"], train["iterations"], train["lr"], train["scales"], train["balanced"])
    assert found == DEEPLAB[f"{data}-{method[:3]}"]
    assert train["head_lr"] == pytest.approx(10 * train["lr"])
    assert (train["optimiser"], train["momentum"], train["weight_decay"]) == ("sgd", 0.9, 5e-4)
    assert (train["schedule"], train["poly_power"], train["hold"], train["warmup"]) == ("poly", 0.9, 10, 0)
    assert (train["crop"], train["accumulate"], train["fit"], train["photometric"]) == (321, 2, None, False)
    assert (own["predictions"]["crf"], own["predictions+crf"]["crf"]) == (None, "deeplabv2")


@pytest.mark.parametrize("method", BEFORE)
@pytest.mark.parametrize("data", ["voc12", "coco14"])
def test_upernet_has_the_published_numbers(data: str, method: str) -> None:
    own = stages(f"{data}-{method}-upernet")
    network, train = own["segmenter"]["network"], own["segmenter"]["train"]
    assert (network["encoder"], network["weights"]) == ("swin_tiny_patch4_window7_224.ms_in1k", "timm")
    assert network["drop_path"] == 0.3
    assert (train["batch_size"], train["iterations"]) == (16, {"voc12": 40_000, "coco14": 80_000}[data])
    assert (train["optimiser"], train["lr"], train["head_lr"], train["weight_decay"]) == ("adamw", 6e-5, 6e-5, 0.01)
    assert (train["schedule"], train["poly_power"], train["warmup"], train["hold"]) == ("poly", 1.0, 1500, 1)
    assert (train["crop"], train["fit"], train["rescale"], train["scales"]) == (512, [2048, 512], [0.5, 2.0], None)
    assert (train["max_share"], train["photometric"], train["balanced"]) == (0.75, True, False)
    assert own["predictions"]["fit"] == [2048, 512]


def test_own_data_shares_the_store_of_its_pseudo_masks_and_needs_no_file() -> None:
    own, before = stages("own-data"), stages("own-data-amn")
    shared = own.keys() & before.keys()
    assert {"lpcam-threshold", "cam-pixels", "amn-lpcam-refined", "amn-lpcam-masks"} <= shared
    assert own.keys() - shared == {"segmenter", "predictions", "predictions-score"}
    assert all(own[name] == before[name] for name in shared)
    net = own["segmenter"]["network"]
    assert (net["kind"], net["encoder"], net["weights"]) == ("fpn", "efficientnet_lite0", "bundled")


@pytest.mark.parametrize("name", ["second-stage", "second-stage-schedule"])
def test_the_benchmarks_and_the_experiments_train_the_light_network(name: str) -> None:
    own = stages("light")["segmenter"]
    recipe = stages(str(ROOT / "benchmarks" / f"{name}.yaml"))
    found = {stage: spec for stage, spec in recipe.items() if spec["kind"] == "segmenter"}
    assert {"second-stage": 5, "second-stage-schedule": 3}[name] == len(found)
    for stage, spec in found.items():
        assert spec["network"] == own["network"], stage
        if name == "second-stage":
            assert spec["train"] == own["train"], stage
    row = next(row for row in experiment("L3").rows if row.light and row.light.variant.name == "cam-network")
    assert row.light is not None
    chain = load_recipe(row.light.variant.recipe, row.light.variant.overrides)
    trained = make_plan(chain).recipe.stages["segmenter"]
    assert (trained["network"], trained["train"]) == (own["network"], own["train"])
