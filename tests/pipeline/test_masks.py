"""From maps to masks: files, keys, thresholds from a few masks, and what is measured on which images."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from benchmarks import collect
from tag2mask.analysis.evaluate_run import evaluate_run
from tag2mask.api import run
from tag2mask.core.errors import ConfigError, DataError, LedgerError, StageError
from tag2mask.core.palette import labels_key, read_labels
from tag2mask.data.base import Dataset
from tag2mask.evaluation.metrics import SegmentationMetrics
from tag2mask.evaluation.result_tables import MetricRow
from tag2mask.evaluation.thresholds import cut
from tag2mask.inference.maps_file import read_maps
from tag2mask.methods.artefact import Artefact, FewMasks
from tag2mask.pipeline.metric_stages import unseen
from tag2mask.pipeline.opened_run import OpenedRun
from tag2mask.pipeline.run_result import RunResult
from tests.helpers.draw import draw_folder
from tests.helpers.drawn_maps import drawn_maps_kind, few_masks_recipe  # noqa: F401  a fixture
from tests.helpers.refused import refused
from tests.helpers.tiny import files_of


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    folder = tmp_path_factory.mktemp("masks")
    return run(str(few_masks_recipe(folder)), out=folder / "runs" / "run")


def artefact(result: RunResult, name: str) -> Artefact:
    return next(s.artefact for s in result.stages if s.stage.name == name)


def dataset_of(result: RunResult) -> Dataset:
    run = OpenedRun(result.path)
    return run.split(run.plan.data.infer)


def value(result: RunResult, stage: str, metric: str, kind: str) -> MetricRow:
    (row,) = [r for r in result.metrics if (r.stage, r.metric, r.threshold_kind) == (stage, metric, kind)]
    return row


def test_masks_are_palette_files_of_the_image_s_size_with_their_key_before_the_pixels(done: RunResult) -> None:
    dataset = dataset_of(done)
    made = artefact(done, "masks")
    for sample in dataset.samples:
        path = made.path / "masks" / f"{sample.id}.png"
        with Image.open(path) as image:
            assert image.mode == "P"
            assert image.size == dataset.image(sample).size
        data = path.read_bytes()
        assert data.index(made.sample_key(dataset, sample).encode()) < data.index(b"IDAT")
        assert labels_key(path) == made.sample_key(dataset, sample)


def test_pseudo_masks_are_the_maps_cut_at_the_threshold_that_was_read(done: RunResult) -> None:
    dataset, maps, masks = dataset_of(done), artefact(done, "maps"), artefact(done, "masks")
    threshold = json.loads((done.path / "few" / "threshold.json").read_text())["value"]
    for sample in dataset.samples:
        image = dataset.image(sample)
        found = maps.maps(dataset, sample).resize(image.height, image.width)
        assert (masks.labels(dataset, sample) == cut(found.maps.numpy(), found.classes, threshold)).all()


def test_masks_score_what_the_same_seeds_score(done: RunResult) -> None:
    """Pseudo-masks at a threshold are the seeds of their maps at it: two ways to one number."""
    seeds, masks = value(done, "maps", "miou", "few-masks(3)"), value(done, "masks", "miou", "few-masks(3)")
    assert (seeds.value, seeds.threshold, seeds.n_images) == (masks.value, masks.threshold, masks.n_images)


def test_the_few_masks_threshold_is_the_best_on_its_own_images(done: RunResult) -> None:
    dataset, maps = dataset_of(done), artefact(done, "maps")
    chosen = artefact(done, "few").threshold()
    assert isinstance(chosen, FewMasks)
    scores = {}
    for threshold in (i / 100 for i in range(101)):
        metrics = SegmentationMetrics(dataset.classes)
        for sample in (s for s in dataset.samples if s.id in chosen.ids):
            truth = dataset.truth(sample)
            assert truth is not None
            found = maps.maps(dataset, sample).resize(*truth.shape)
            metrics.update(cut(found.maps.numpy(), found.classes, threshold), truth)
        scores[threshold] = metrics.compute().miou
    assert chosen.n == len(chosen.ids) == 3
    assert chosen.value == max(scores, key=lambda t: (scores[t], -t))
    assert chosen.miou == pytest.approx(scores[chosen.value], abs=1e-4)


def test_numbers_are_of_the_other_images_and_say_so(done: RunResult) -> None:
    chosen = set(artefact(done, "few").threshold().ids)
    assert {r.n_images for r in done.metrics} == {9}
    kinds = {r.threshold_kind for r in done.metrics if r.stage == "maps"}
    assert kinds == {"few-masks(3)", "fixed", "oracle"}
    for stage in ("maps-seeds", "crf-score", "refined-score", "masks-score"):
        ids = [line.split(",")[0] for line in (done.path / stage / "images.csv").read_text().splitlines()[1:]]
        assert len(ids) == 9
        assert not chosen & set(ids)


def test_miou_equals_a_count_over_the_other_images(done: RunResult) -> None:
    dataset, crf = dataset_of(done), artefact(done, "crf")
    metrics = SegmentationMetrics(dataset.classes)
    for sample in dataset.samples:
        truth = dataset.truth(sample)
        if truth is not None and sample.id not in artefact(done, "few").threshold().ids:
            metrics.update(crf.labels(dataset, sample), truth)
    assert value(done, "crf", "miou", "few-masks(3)").value == pytest.approx(metrics.compute().miou, abs=1e-4)


def test_refined_seeds_have_coverage_and_never_a_miou(done: RunResult) -> None:
    found = {r.metric for r in done.metrics if r.stage == "refined"}
    assert {"coverage", "precision_sure", "miou_sure"} <= found
    assert not any(m in {"miou", "precision", "recall"} or m.startswith("iou/") for m in found)
    dataset, refined = dataset_of(done), artefact(done, "refined")
    sure = known = right = 0
    for sample in dataset.samples:
        truth = dataset.truth(sample)
        if truth is not None and sample.id not in artefact(done, "few").threshold().ids:
            labels = refined.labels(dataset, sample)
            known += int((truth != 255).sum())
            sure += int(((truth != 255) & (labels != 255)).sum())
            right += int(((truth != 255) & (labels == truth)).sum())
    assert 0 < sure < known
    assert value(done, "refined", "coverage", "few-masks(3)").value == pytest.approx(100 * sure / known, abs=1e-4)
    assert value(done, "refined", "precision_sure", "few-masks(3)").value == pytest.approx(100 * right / sure, abs=1e-4)


def test_the_ledger_says_on_how_many_masks_the_thresholds_were_chosen(done: RunResult) -> None:
    ledgers = {s.stage.name: s.manifest.ledger for s in done.stages}
    assert ledgers["maps"] == ()
    assert ledgers["masks"] == ledgers["refined"] == ledgers["masks-score"] == ("pixel-masks:threshold(3)",)


def test_what_is_trained_on_such_seeds_needs_leave(done: RunResult, tmp_path: Path) -> None:
    recipe = few_masks_recipe(tmp_path, {"irn": {"kind": "irn", "reads": {"seeds": "refined"}}})
    with pytest.raises(LedgerError, match=r"stage 'irn' would use pixel-masks:threshold\(3\), but .*\[tags\]"):
        run(str(recipe), out=tmp_path / "runs" / "run")


def test_a_second_run_makes_nothing(done: RunResult) -> None:
    store = done.path.parent / ".store"
    before = {p: p.stat().st_mtime_ns for p in store.rglob("*.png")}
    again = run(str(done.path / "recipe.yaml"), out=done.path)
    assert {p: p.stat().st_mtime_ns for p in store.rglob("*.png")} == before
    assert [s.manifest for s in again.stages] == [s.manifest for s in done.stages]


def test_a_changed_setting_redoes_what_depends_on_it(done: RunResult) -> None:
    changed = run(str(done.path / "recipe.yaml"), "refined.margin=0.2", out=done.path.parent / "changed")
    same = {a.stage.name: a.artefact.key == b.artefact.key for a, b in zip(done.stages, changed.stages, strict=True)}
    assert [name for name, kept in same.items() if not kept] == ["refined", "refined-score"]


def test_an_added_image_costs_one_image(tmp_path: Path) -> None:
    recipe = few_masks_recipe(tmp_path, {"few": {"n": 2}})
    out = tmp_path / "runs" / "run"
    run(str(recipe), out=out)
    before = files_of(out)
    draw_folder(tmp_path / "data", 13)
    added = {s.stage.name: s.manifest for s in run(str(recipe), out=out).stages}
    for stage in ("maps", "crf", "refined", "masks"):
        assert (added[stage].made, added[stage].n_images) == (1, 13)
    after = files_of(out)
    images = {n for n in before if "/maps/" in n or "/masks/" in n}
    assert {n: after[n] for n in images} == {n: before[n] for n in images}


def test_the_images_can_be_listed_in_a_file(tmp_path: Path) -> None:
    few_masks_recipe(tmp_path)
    chosen = sorted(p.stem for p in (tmp_path / "data" / "images").iterdir())[3:5]
    (tmp_path / "few.txt").write_text("\n".join(reversed(chosen)) + "\n\n")
    recipe = few_masks_recipe(tmp_path, {"few": {"n": 2, "images": str(tmp_path / "few.txt")}})
    result = run(str(recipe), out=tmp_path / "runs" / "run")
    assert list(artefact(result, "few").threshold().ids) == chosen
    (tmp_path / "few.txt").write_text(chosen[0] + "\n")
    with pytest.raises(ConfigError, match=r"few\.txt lists 1 ids, but n = 2; set n=1"):
        run(str(recipe), out=tmp_path / "runs" / "run")
    (tmp_path / "few.txt").write_text(f"{chosen[0]}\n{chosen[1]}x\n")
    with refused(DataError, "few.txt, line 2", f"no image '{chosen[1]}x'", f"did you mean '{chosen[1]}'"):
        run(str(recipe), out=tmp_path / "runs" / "run")


def test_too_few_masks_are_counted_in_the_error(tmp_path: Path) -> None:
    recipe = few_masks_recipe(tmp_path, {"few": {"n": 50}})
    with refused(DataError, "50 masks", "12 images of split 'all'", "set n to 12 or"):
        run(str(recipe), out=tmp_path / "runs" / "run")
    recipe = few_masks_recipe(tmp_path, {"few": {"n": 12}})
    with refused(DataError, "all 12 images", "none is left", "set a smaller n"):
        run(str(recipe), out=tmp_path / "runs" / "run")


def test_data_without_masks_is_refused_by_few_masks_and_not_measured(done: RunResult, copy: Path) -> None:
    photos = copy.parent / "photos"
    shutil.copytree(done.path.parents[1] / "data", photos, ignore=shutil.ignore_patterns("masks"))
    with refused(DataError, "0 images of split 'all'", "give masks", "a fixed threshold"):
        again(copy, f"data.root={photos}")
    recipe = yaml.safe_load((copy / "recipe.yaml").read_text())
    del recipe["stages"]["few"]
    for stage in recipe["stages"].values():
        stage.get("reads", {}).pop("threshold", None)
    path = copy.parent / "without.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    result = run(str(path), f"data.root={photos}", out=copy.parent / "without")  # the maps are in the store already
    assert result.metrics == ()
    assert len(list((result.path / "masks" / "masks").iterdir())) == 12
    assert "This data has no masks" in result.report.read_text()


def test_fixed_thresholds_are_named_in_the_rows(tmp_path: Path) -> None:
    changes: dict[str, dict[str, Any]] = {
        "masks": {"reads": {"maps": "maps"}, "threshold": 0.6, "threshold_kind": "published"},
        "refined": {"reads": {"maps": "maps"}, "foreground": 0.7, "background": 0.3},
        "masks-score": {"reads": {"masks": "masks", "threshold": "few"}},
    }
    result = run(str(few_masks_recipe(tmp_path, changes)), out=tmp_path / "runs" / "run")
    row = value(result, "masks", "miou", "published")
    assert (row.threshold, row.n_images) == (0.6, 9), "the list is left out where its threshold is read"
    row = value(result, "refined", "coverage", "fixed")
    assert (row.threshold, row.n_images) == (0.5, 12), "no threshold of few masks is behind these"


def test_eval_counts_all_images_of_maps_that_have_seen_no_mask(done: RunResult) -> None:
    rows = evaluate_run(done.path, stages=["maps"], thresholds=[0.2])
    assert {r.n_images for r in rows} == {12}


def test_masks_seen_are_found_down_the_whole_chain(done: RunResult) -> None:
    chosen = frozenset(artefact(done, "few").threshold().ids)
    refined = artefact(done, "refined")
    weights = Artefact("irn", done.path, "k", refined.sample_key, reads={"seeds": refined})
    walked = Artefact(
        "walk", done.path, "k", refined.sample_key, reads={"irn": weights, "maps": artefact(done, "maps")}
    )
    assert walked.masks_seen() == chosen
    assert artefact(done, "maps").masks_seen() == frozenset()
    left = unseen([walked], dataset_of(done), "walk-score")
    assert {s.id for s in left} == {s.id for s in dataset_of(done).samples} - chosen


def test_the_page_shows_masks_beside_seeds(done: RunResult) -> None:
    page = (done.path / "report.html").read_text()
    for caption in ("seeds of maps at", "crf", "refined", "masks", "truth"):
        assert caption in page
    assert "Refined seeds refined:" in page
    assert "3 images whose masks a threshold was chosen on are left out of every number." in page
    assert "chosen on that many hand-made masks" in page


def test_several_seeds_share_what_is_not_random(done: RunResult) -> None:
    both = run(str(done.path / "recipe.yaml"), "seeds=[0,1]", out=done.path.parent / "both")
    keys = {s.stage.name: s.artefact.key for s in both.stages}
    assert keys["masks@0"] == keys["masks@1"] == artefact(done, "masks").key
    found = {(r.stage, r.seed): r.value for r in both.metrics if r.metric == "miou" and r.method == "masks"}
    assert found == dict.fromkeys([("masks@0", 0), ("masks@1", 1)], value(done, "masks", "miou", "few-masks(3)").value)


def test_a_stage_with_a_seed_of_its_own_is_made_once_for_all_seeds(done: RunResult) -> None:
    words = ["seeds=[0,7]", "maps.seed=3", "few.seed=3"]
    both = run(str(done.path / "recipe.yaml"), *words, out=done.path.parent / "once")
    seeds = {s.stage.name: s.stage.seed for s in both.stages}
    assert (seeds["maps"], seeds["few"], seeds["masks@0"], seeds["masks@7"]) == (3, 3, 0, 7)
    assert not {"maps@0", "maps@7", "masks"} & seeds.keys()
    assert (both.path / "maps" / "manifest.json").is_file()
    again = run(str(both.path / "recipe.yaml"), out=done.path.parent / "again")  # the resolved recipe keeps it
    assert {s.stage.name: s.stage.seed for s in again.stages} == seeds
    assert {s.stage.name: s.artefact.key for s in again.stages} == {s.stage.name: s.artefact.key for s in both.stages}


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            ["few.seed=1"],
            "few.seed = 1 … 'maps' … set maps.seed too",
        ),
        (["maps.seed=-1"], "maps.seed = -1 … 0 to 9223372036854775807"),
        (["maps.seed=x"], "maps.seed = 'x': expected an integer from 0"),
    ],
)
def test_seeds_of_stages_that_make_no_sense(done: RunResult, tmp_path: Path, words: list[str], text: str) -> None:
    with refused(ConfigError, text):
        run(str(done.path / "recipe.yaml"), *words, out=tmp_path / "run")


def test_collected_rows_have_the_costs_of_every_stage_beside_the_metrics(done: RunResult) -> None:
    rows = collect.seconds(done.path, "tag2mask run x")
    assert [r.method for r in rows] == [s.stage.name for s in done.stages]
    by_name = {r.method: r for r in rows}
    assert (by_name["masks"].n_images, by_name["few"].n_images, by_name["masks"].split) == (12, 3, "all")
    manifest = next(s.manifest for s in done.stages if s.stage.name == "crf")
    assert by_name["crf"].value == pytest.approx(manifest.seconds / 12, abs=1e-4)
    curve = collect.curves(done.path)
    assert {(p.method, p.n_images) for p in curve} == {("maps", 9)}
    best = max(point.miou for point in curve)
    assert best == value(done, "maps", "miou", "oracle").value


# What is damaged, foreign or missing


@pytest.fixture
def copy(done: RunResult, tmp_path: Path) -> Path:
    """The finished run again, to be damaged."""
    shutil.copytree(done.path.parent, tmp_path / "runs", symlinks=True)
    return tmp_path / "runs" / "run"


def again(folder: Path, *overrides: str) -> RunResult:
    return run(str(folder / "recipe.yaml"), *overrides, out=folder)


def test_a_missing_or_damaged_mask_is_rerun(copy: Path) -> None:
    before = files_of(copy)
    gone, broken, *_ = sorted((copy / "masks" / "masks").iterdir())
    gone.unlink()
    broken.write_bytes(b"no image")
    made = {s.stage.name: s.manifest.made for s in again(copy).stages}
    assert made["masks"] == 2
    assert files_of(copy) == before


def test_a_missing_file_names_image_and_command(copy: Path, done: RunResult) -> None:
    dataset = dataset_of(done)
    sample = dataset.samples[4]
    for stage, makes in (("maps", "maps"), ("masks", "masks")):
        found = OpenedRun(copy).artefact(stage)
        path = next((copy / stage / makes).glob(f"{sample.id}.*"))
        path.unlink()
        with refused(
            StageError,
            f"'{stage}' has no {makes} of",
            f"image '{sample.id}'",
            f"tag2mask run {copy}/recipe.yaml --out {copy}.",
            "split 'all'",
        ):
            (found.maps if makes == "maps" else found.labels)(dataset, sample)


def test_a_file_of_another_run_is_refused(done: RunResult) -> None:
    dataset, masks, refined = dataset_of(done), artefact(done, "masks"), artefact(done, "refined")
    sample = dataset.samples[0]
    foreign = Artefact("masks", refined.path, masks.key, masks.sample_key)
    with refused(
        StageError,
        f"image '{sample.id}'",
        "'masks'",
        "from another image",
        "with other tags",
        "tag2mask run RECIPE --out RUN",
    ):
        foreign.labels(dataset, sample)


def test_a_disk_without_room_for_the_masks_is_refused_before_any_is_made(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree((copy / "masks").resolve())
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with refused(StageError, "masks needs about 1 MB", ".store", "1 MB are free", "make room"):
        again(copy)
    assert not list(copy.parent.rglob(".store/pseudo-masks-*/masks"))


def test_refined_seeds_measured_as_masks_are_refused(copy: Path) -> None:
    with refused(DataError, "255 (ignored)", "pixels", "refined seeds"):
        again(copy, "refined-score.unsure=false")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("size", "in stage 'maps' … shape (1, 5, 5) … 48 x 64 pixels"),
        ("nan", "in stage 'maps' … NaN or values outside 0..1 … remove the file"),
        ("class", "in stage 'maps' … class columns [7] … from 0 to 2"),
    ],
)
def test_maps_that_do_not_fit_the_image_are_refused(copy: Path, change: str, message: str) -> None:
    path = sorted((copy / "maps" / "maps").iterdir())[0]
    with np.load(path) as archive:
        arrays = {name: archive[name].copy() for name in archive.files}
    if change == "size":
        arrays["maps"] = arrays["maps"][:, :5, :5]
    elif change == "nan":
        arrays["maps"][0, 0, 0] = np.nan
    else:
        arrays["classes"][:] = 7
    np.savez(path, **arrays)
    sample_id = path.stem
    (copy / "masks" / "masks" / f"{sample_id}.png").unlink()
    with refused(DataError, message):
        again(copy)
    assert read_maps(path).key, "the key fits: only the content is wrong"


def test_a_label_image_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    Image.new("RGB", (3, 2)).save(path)
    with refused(StageError, "mode RGB", "expected a palette PNG", "Remove it", "run again"):
        read_labels(path)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(StageError, match="cannot read .*x.png"):
        read_labels(path)
    assert labels_key(path) is None
