"""``tag2mask eval`` of predictions, and the network of a real run as `tag2mask.load` gives it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

import tag2mask
from tag2mask.analysis.evaluate_run import evaluate_run
from tag2mask.api import run
from tag2mask.cli.tables import print_seeds
from tag2mask.core.errors import ConfigError
from tag2mask.core.palette import read_labels
from tag2mask.data.registry import load_dataset
from tag2mask.evaluation.measures.trivial import TRIVIAL
from tag2mask.evaluation.metrics import SegmentationMetrics
from tag2mask.pipeline.run_result import RunResult
from tests.helpers.refused import refused

RECIPE = {
    "name": "second",
    "data": {"kind": "parts", "images": 6, "size": 64},
    "allow_supervision": ["tags", "pixel-masks"],
    "engine": {"device": "cpu", "threads": 1},
    "stages": {
        "segmenter": {
            "kind": "segmenter",
            "network": {"kind": "fpn", "encoder": "test_efficientnet", "weights": "none"},
            "train": {"epochs": 1, "batch_size": 2, "accumulate": 1, "crop": 32},
            "truth": True,
        },
        "predictions": {"kind": "predictions", "reads": {"segmenter": "segmenter"}},
        "predictions-ms": {
            "kind": "predictions", "reads": {"segmenter": "segmenter"}, "scales": [0.5, 1.0], "mirror": True,
            "crf": "deeplabv2",
        },
        "measured": {"kind": "masks", "reads": {"masks": "predictions"}, "split": "val"},
    },
}  # fmt: skip
PLAIN, MANY = "predictions (single scale)", "predictions-ms (scales 0.5 1, mirror, CRF deeplabv2)"


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    folder = tmp_path_factory.mktemp("second")
    (folder / "second.yaml").write_text(yaml.safe_dump(RECIPE))
    return run(str(folder / "second.yaml"), out=folder / "runs" / "run")


def test_each_way_of_predicting_is_a_row_of_its_own(done: RunResult, capsys: pytest.CaptureFixture[str]) -> None:
    rows = evaluate_run(done.path)
    mious = {row.stage: row for row in rows if row.metric == "miou"}
    assert list(mious) == [PLAIN, MANY, *TRIVIAL]
    val = load_dataset("parts", split="val", images=6, size=64)
    for name, stage in ((PLAIN, "predictions"), (MANY, "predictions-ms")):
        metrics = SegmentationMetrics(val.classes)
        for sample in val.samples:
            truth = val.truth(sample)
            assert truth is not None
            metrics.update(read_labels(done.path / stage / "masks" / f"{sample.id}.png"), truth, sample.id)
        row = mious[name]
        assert row.value == pytest.approx(metrics.compute().miou, abs=1e-3)
        assert (row.split, row.n_images) == ("val", len(val))
        about = "fpn on test_efficientnet, first weights none, trained on the truth"
        assert row.method == name.replace("(", f"({about}; ", 1)
        assert (row.threshold, row.threshold_kind) == (None, "none")
    print_seeds(rows)
    shown = capsys.readouterr().out
    assert PLAIN in shown
    assert MANY in shown
    assert f"{mious[PLAIN].method}\n" in shown
    measured = [(row.method, row.value) for row in done.metrics if row.metric == "miou"]
    trivial = [(name, mious[name].value) for name in TRIVIAL]
    assert measured == [(f"predictions ({about})", mious[PLAIN].value), *trivial]


def test_one_stage_may_be_chosen_and_a_wrong_one_is_named(done: RunResult) -> None:
    assert {row.stage for row in evaluate_run(done.path, stages=["predictions-ms"])} == {MANY, *TRIVIAL}
    with refused(ConfigError, "'prediction'", "did you mean 'pred"):
        evaluate_run(done.path, stages=["prediction"])
    with refused(ConfigError, "threshold = 0.3", "stages of maps"):
        evaluate_run(done.path, thresholds=[0.3])


def test_the_loaded_network_predicts_what_the_stage_did(done: RunResult, tmp_path: Path) -> None:
    model = tag2mask.load(done.path, device="cpu")
    val = load_dataset("parts", split="val", images=6, size=64)
    for sample in val.samples:
        image = val.image(sample)
        many = model(image, scales=(0.5, 1.0), mirror=True, crf="deeplabv2")
        for stage, mask in (("predictions", model(image)), ("predictions-ms", many)):
            assert np.array_equal(mask.labels, read_labels(done.path / stage / "masks" / f"{sample.id}.png"))
    origin = model.origin
    assert (origin.recipe, origin.stage, origin.initial) == ("second", "segmenter", "none")
    assert origin.ledger == ("pixel-masks",)
    assert [(n.stage, n.how, n.n_images) for n in origin.numbers] == [("predictions", "single scale", len(val))]
    model.save_pretrained(tmp_path / "net")
    assert "| val |" in (tmp_path / "net" / "README.md").read_text()
