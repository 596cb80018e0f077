"""Masks of a finished run judged without their truth, and their boundaries with it."""

from __future__ import annotations

import csv
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tag2mask.analysis import mask_quality
from tag2mask.analysis.mask_quality import analyse_boundaries, analyse_quality
from tag2mask.analysis.mask_quality_inputs import find_masks, stages_with_masks
from tag2mask.api import run
from tag2mask.core.errors import ConfigError, StageError
from tag2mask.core.files import read_json
from tag2mask.core.palette import read_labels
from tag2mask.evaluation.boundary import BoundaryMetrics
from tag2mask.evaluation.mask_quality import mask_iou
from tag2mask.evaluation.result_tables import read_metrics
from tag2mask.pipeline.opened_run import OpenedRun
from tag2mask.pipeline.run_result import RunResult
from tests.helpers.drawn_maps import drawn_maps_kind, few_masks_recipe  # noqa: F401  a fixture
from tests.helpers.pictures import drawn_by
from tests.helpers.refused import refused
from tests.helpers.results import read_results
from tests.helpers.tiny import tiny_run

EXTRA: dict[str, dict[str, Any]] = {
    "other": {"kind": "drawn-maps", "blur": 6},
    "other-seeds": {"kind": "seeds", "reads": {"maps": "other"}, "threshold": 0.4},
    "uncut": {"kind": "drawn-maps", "blur": 9},
    "edges": {"kind": "boundary", "reads": {"masks": "masks"}},
}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    folder = tmp_path_factory.mktemp("quality")
    allow = "allow_supervision=[tags,pixel-masks:threshold(3)]"
    return run(str(few_masks_recipe(folder, EXTRA)), allow, out=folder / "runs" / "run")


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_what_belongs_to_the_masks(done: RunResult) -> None:
    assert stages_with_masks(OpenedRun(done.path)) == ("maps", "crf", "masks", "other")
    judged = find_masks(OpenedRun(done.path))
    assert (judged.name, judged.dataset.split) == ("masks", "all")
    assert judged.maps is not None
    assert judged.maps.artefact.name == "maps"
    assert [o.artefact.name for o in judged.others] == ["other"]
    assert judged.refined is not None
    assert judged.refined.name == "refined"
    assert judged.threshold.kind == "few-masks"
    of_maps = find_masks(OpenedRun(done.path), "other")
    assert (of_maps.threshold.value, of_maps.refined) == (0.4, None)
    assert [o.artefact.name for o in of_maps.others] == ["maps"]


def test_signals_are_those_of_the_stored_files(
    done: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = drawn_by(mask_quality, monkeypatch)
    report = analyse_quality(done.path, worst=4, out=tmp_path)
    assert report.stage == "masks"
    assert report.found.names == ("found", "agreement", "crf", "sure", "gap", "stability", "area")
    seen = set(read_json(done.path / "few" / "threshold.json")["ids"])
    assert len(seen) == 3
    assert {i.id for i in report.found.images} == {i.stem for i in (done.path / "masks" / "masks").iterdir()} - seen
    for image in report.found.images:
        mask, refined = (read_labels(done.path / n / "masks" / f"{image.id}.png") for n in ("masks", "refined"))
        values = dict(zip(report.found.names, image.signals, strict=True))
        assert values["crf"] == pytest.approx(mask_iou(mask, refined))
        assert values["area"] == pytest.approx((mask > 0).mean())
    assert [p.name for p in report.files] == ["quality-images.csv", "quality-worst.png", "quality.csv"]
    written = lines(report.files[0])
    assert [line["image"] for line in written[:4]] == [i.id for i in report.worst]
    assert [line["rank"] for line in written] == [str(n) for n in range(1, 10)]
    scores = [float(line["score"]) for line in written]
    assert scores == sorted(scores)
    assert float(written[0]["miou"]) == pytest.approx(report.worst[0].miou, abs=1e-4)
    (figure,) = drawn
    assert figure.path == report.files[1]
    assert figure.check(OpenedRun(done.path).maps("maps").dataset) == [i.id for i in report.worst]
    assert [caption for caption, _ in figure.examples[0].pictures[-2:]] == ["refined", "mask of masks"]
    assert tuple(read_results(report.files[2])) == report.numbers
    assert report.numbers[0].command == f"tag2mask analyse quality {done.path} --stage masks --worst 4"
    assert {(r.n_images, r.threshold_kind) for r in report.numbers} == {(9, "few-masks(3)")}


def test_maps_are_checked_at_the_threshold_that_cuts_them(done: RunResult, tmp_path: Path) -> None:
    report = analyse_quality(done.path, stage="other", images=5, worst=2, out=tmp_path)
    assert len(report.found.images) == 5
    assert {(r.threshold_kind, r.threshold) for r in report.numbers} == {("fixed", 0.4)}
    assert "refined" not in report.found.names
    measured = {i["image"]: float(i["miou"]) for i in lines(done.path / "other-seeds" / "images.csv")}
    for image in report.found.images:
        assert image.miou == pytest.approx(measured[image.id], abs=1e-4)


def test_without_a_truth_there_is_a_list_and_no_number(tmp_path: Path) -> None:
    stages = {"maps": {"kind": "drawn-maps"}, "masks": {"kind": "pseudo-masks", "reads": {"maps": "maps"}}}
    path = few_masks_recipe(tmp_path)
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "stages": stages}))
    made = run(str(path), out=tmp_path / "runs" / "run")
    shutil.rmtree(tmp_path / "data" / "masks")
    report = analyse_quality(made.path)
    assert report.numbers == ()
    assert [p.name for p in report.files] == ["quality-images.csv", "quality-worst.png"]
    assert all(p.parent == made.path / "analysis" for p in report.files)
    assert all(math.isnan(i.miou) for i in report.found.images)
    assert {line["miou"] for line in lines(report.files[0])} == {""}
    assert report.found.names == ("found", "gap", "stability", "area")
    (made.path / "masks").unlink()
    with refused(StageError, "'masks'", "not finished", "tag2mask run"):
        analyse_quality(made.path, stage="masks")
    with refused(ConfigError, "no masks to assess", "pseudo-masks"):
        analyse_quality(made.path)


def test_stages_without_masks_are_refused(done: RunResult, tmp_path: Path) -> None:
    with refused(ConfigError, "'maskz'", "did you mean 'masks'"):
        analyse_quality(done.path, stage="maskz")
    for stage in ("refined", "uncut", "few"):
        with refused(ConfigError, f"'{stage}' has no masks", "Such are: maps, crf, masks, "):
            analyse_quality(done.path, stage=stage)
    with refused(ConfigError, "no finished classifier", "leave --classifier out"):
        analyse_quality(done.path, classifier=True)
    with refused(ConfigError, "worst = 0", "images = None", "at least 1 and 2"):
        analyse_quality(done.path, worst=0)
    with refused(StageError, "is not a run", "recipe.yaml"):
        analyse_quality(tmp_path)


def test_boundaries_are_those_of_the_masks_on_disk(done: RunResult, tmp_path: Path) -> None:
    found = analyse_boundaries(done.path, out=tmp_path)
    assert [name for name, _ in found.numbers] == ["maps", "crf", "masks", "other"]
    dataset = find_masks(OpenedRun(done.path)).dataset
    seen = set(read_json(done.path / "few" / "threshold.json")["ids"])
    metrics = BoundaryMetrics(dataset.classes)
    for sample in dataset.samples:
        truth = dataset.truth(sample)
        assert truth is not None
        if sample.id not in seen:
            metrics.update(read_labels(done.path / "masks" / "masks" / f"{sample.id}.png"), truth)
    expected = {n: v for n, v in metrics.compute().values() if not math.isnan(v)}
    values = {r.metric: r.value for r in dict(found.numbers)["masks"] if r.value is not None}
    assert {n: values[n] for n in expected} == pytest.approx(expected, abs=1e-4)
    scored = {(r.stage, r.metric): r.value for r in done.metrics}
    assert values["miou"] == scored["masks", "miou"]  # of the same images as the stage that measures mIoU
    assert {r.n_images for r in dict(found.numbers)["other"]} == {12}  # no threshold chosen on masks lies behind
    assert read_results(found.files[0]) == [row for _, rows in found.numbers for row in rows]
    stage = {r.metric: r.value for r in read_metrics(done.path / "edges" / "metrics.jsonl")}
    assert stage == {n: v for n, v in ((r.metric, r.value) for r in dict(found.numbers)["masks"]) if n in stage}
    assert {"boundary_iou", "trimap_miou/3"} <= set(stage)
    assert scored["masks", "boundary_iou"] == stage["boundary_iou"]  # a run's own numbers have it too


def test_a_wider_band_and_its_command(done: RunResult, tmp_path: Path) -> None:
    thin, wide = (
        analyse_boundaries(done.path, stages=["other"], share=share, out=tmp_path).numbers[0][1]
        for share in (0.02, 0.5)
    )
    assert wide[0].command == f"tag2mask analyse boundary {done.path} --stage other --share 0.5"
    values = {r.metric: r.value for r in wide}
    assert values["boundary_iou"] == pytest.approx(values["miou"], abs=1e-3)  # everything is near a contour
    assert {r.metric: r.value for r in thin}["boundary_iou"] != values["boundary_iou"]
    with refused(ConfigError, "share = 2", "part of the image's diagonal"):
        analyse_boundaries(done.path, stages=["other"], share=2, out=tmp_path)


def test_a_boundary_stage_without_a_truth_writes_no_number(tmp_path: Path) -> None:
    stages = {
        "maps": {"kind": "drawn-maps"},
        "masks": {"kind": "pseudo-masks", "reads": {"maps": "maps"}},
    }
    path = few_masks_recipe(tmp_path)
    content = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**content, "stages": stages}))
    run(str(path), out=tmp_path / "runs" / "run")
    shutil.rmtree(tmp_path / "data" / "masks")
    path.write_text(yaml.safe_dump({**content, "stages": {**stages, "edges": EXTRA["edges"]}}))
    made = run(str(path), out=tmp_path / "runs" / "run")
    assert read_metrics(made.path / "edges" / "metrics.jsonl") == []


@pytest.mark.slow
def test_the_classifier_is_asked_about_every_mask(tmp_path: Path) -> None:
    made = tiny_run(tmp_path)
    report = analyse_quality(made.path, classifier=True, worst=2)
    assert {"kept", "erased", "whole", "scales"} <= set(report.found.names)
    columns = {name: [i.signals[k] for i in report.found.images] for k, name in enumerate(report.found.names)}
    for name in ("kept", "erased", "whole", "scales"):
        known = [v for v in columns[name] if not math.isnan(v)]
        assert known
        assert all(0 <= v <= 1 for v in known)
    assert len(set(columns["whole"])) > 1
    judged = find_masks(OpenedRun(made.path), classifier=True)
    assert judged.classifier is not None
    sample = judged.dataset.samples[0]
    image, column = judged.dataset.image(sample), sample.tags[0]
    everything = np.full((image.height, image.width), column + 1, np.uint8)
    told = judged.classifier(image, everything, sample.tags)
    assert told.kept == pytest.approx(told.whole, abs=1e-6)  # the whole image is kept
    assert told.erased != pytest.approx(told.whole, abs=1e-6)
    assert judged.classifier(image, np.zeros_like(everything), sample.tags).whole == ()
