"""Experiments run for real on eight drawn scenes: one of each kind, twice, and the mistakes that end one."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tag2mask.analysis.evaluate_run import evaluate_run
from tag2mask.core.errors import ConfigError, DataError, StageError, WeightsError
from tag2mask.papers import run as run_module
from tag2mask.papers.catalogue import Axis, experiment
from tag2mask.papers.run import Options, run_experiment
from tag2mask.papers.steps import threshold_examples
from tag2mask.report.examples import Example
from tests.helpers.draw import draw_folder
from tests.helpers.refused import refused
from tests.helpers.results import read_results
from tests.papers.tiny_experiments import SCENES, tiny_experiment


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("experiments")


@pytest.mark.slow
def test_a_table_has_every_seed_and_resumes(folder: Path) -> None:
    result = tiny_experiment("L1", folder, seeds=2)
    rows = [r for r in result.rows if r.metric == "miou" and r.threshold_kind == "oracle"]
    assert [(r.method, r.seed) for r in rows] == [
        (name, seed) for seed in (0, 1) for name in ("CAM", "LPCAM-F", "LPCAM")
    ]
    seeds = [r for r in evaluate_run(result.path) if r.threshold_kind == "oracle"]
    measured = {(r.stage, r.seed): r.value for r in seeds if r.metric == "miou"}
    stages = {"CAM": "cam", "LPCAM-F": "lpcam-f", "LPCAM": "lpcam"}
    assert {(f"{stages[r.method]}@{r.seed}", r.seed): r.value for r in rows} == measured
    assert read_results(result.files[0]) == list(result.rows)
    assert all(r.command == result.rows[0].command for r in result.rows)
    assert result.rows[0].command.startswith("tag2mask experiment run L1 data=parts data.images=8")
    assert "--seeds 2" in result.rows[0].command
    page = (result.path / "table.md").read_text()
    assert page.startswith("# L1: what each term of LPCAM adds\n")
    assert "| CAM | miou | 48.8 | " in page
    assert "(2 seeds)" in page
    assert "LPCAM above CAM in miou: published VOC train yes (54.9 against 48.8); ours, oracle threshold" in page
    weights = sorted((folder / "runs" / ".store").glob("classifier-*/weights.safetensors"))
    times = [w.stat().st_mtime_ns for w in weights]
    again = tiny_experiment("L1", folder, seeds=2)
    assert [w.stat().st_mtime_ns for w in weights] == times
    assert again.rows == result.rows


@pytest.mark.slow
def test_curves_of_variants_share_their_stages_and_are_robust_or_not(folder: Path) -> None:
    result = tiny_experiment("A8", folder)
    links = {p.name for p in result.path.iterdir() if p.is_symlink()}
    assert links - {"cam-threshold"} == {
        "classifier", "cam", "cam-seeds", "cam-refined", "amn", "amn-maps", "amn-seeds", "amn_pcl", "amn-maps_pcl",
        "amn-seeds_pcl",
    }  # fmt: skip
    widths = {r.method: r.value for r in result.rows if r.metric == "plateau_width"}
    assert list(widths) == ["CAM", "AMN without label conditioning", "AMN"]
    best = {r.method: r.value for r in result.rows if (r.metric, r.threshold_kind) == ("miou", "oracle")}
    mean = {r.method: r.value for r in result.rows if r.metric == "mean_miou_0.05-0.60"}
    assert all((best[name] or 0) >= (mean[name] or 100) for name in widths)
    svg = (result.path / "threshold-curve.svg").read_text()
    assert all(name in svg for name in (*widths, "8 images, seed 0"))
    page = (result.path / "table.md").read_text()
    assert "| RIB |  | none (see note) |" in page
    assert "- RIB: published as a curve without numbers.\n" in page


@pytest.mark.slow
def test_pictures_show_images_by_rule_and_named_ones(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = tiny_experiment("L7", folder, images=("train-00003",))
    assert [p.name for p in result.files] == ["results.csv", "table.md", "panels.png"]
    drawn: list[list[Example]] = []
    monkeypatch.setattr(threshold_examples, "draw_examples", lambda examples, *_: drawn.append(examples))
    tiny_experiment("L7", folder, images=("train-00003",))
    tiny_experiment("A2", folder)
    panels, thresholds = drawn
    assert (panels[0].id, panels[0].reason[:6]) == ("train-00003", "chosen")
    assert [caption.split(" at ")[0] for caption, _ in panels[0].pictures[1:]] == [
        "CAM", "CAM", "LPCAM", "LPCAM", "ground truth",
    ]  # fmt: skip
    assert len({e.id for e in panels}) == len(panels) >= 6  # the named one may be among them
    assert [caption.split()[0] for caption, _ in thresholds[0].pictures[1:]] == ["maps", "global", "best", "ground"]


@pytest.mark.slow
def test_confusing_classes_are_counted_and_need_no_ground_truth(folder: Path) -> None:
    result = tiny_experiment("L5", folder)
    recall = {r.method: r.value for r in result.rows if r.metric == "object_recall"}
    assert set(recall) == {"CAM: weights of the true class", "weights of a confusing class", "either of the two"}
    values = [v for v in recall.values() if v is not None]
    assert max(values) == recall["either of the two"]
    norms = {r.metric: r.value for r in result.rows if r.metric.startswith("weight_norm/")}
    assert len(norms) == 6
    assert all(v is not None and v > 0 for v in norms.values())
    with (result.path / "confusing-classes.csv").open() as stream:
        lines = list(csv.DictReader(stream))
    assert sum(int(line["images"]) for line in lines) == sum(len(s) for s in tags())
    assert (result.path / "confusing-classes.png").is_file()
    draw_folder(folder / "bare", 4, masks=False)
    words = ("data=folder", f"data.root={folder / 'bare'}", "data.tags=tags.csv", "data.images=images", "data.val=null")
    bare = tiny_experiment("L5", folder / "second", *words, scenes=False)
    assert not [r for r in bare.rows if r.metric in {"object_recall", "miou"}]
    assert [r for r in bare.rows if r.metric.startswith("weight_norm/")]


def tags() -> list[tuple[int, ...]]:
    from tag2mask.data.registry import load_dataset

    return [s.tags for s in load_dataset("parts", images=8, size=64).samples]


@pytest.mark.slow
def test_a_sweep_has_a_row_for_each_value_and_shares_the_store(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = replace(experiment("L8"), axes=(Axis("τ", "prototypes.tau", ("0.1", "0.4")),))
    monkeypatch.setattr(run_module, "experiment", lambda name: short)
    result = tiny_experiment("L8", folder)
    rows = {r.method: r for r in result.rows if (r.metric, r.threshold_kind) == ("miou", "fixed")}
    assert list(rows) == ["τ = 0.1", "τ = 0.4"]
    svg = (result.path / "prototypes.tau" / "sweep.svg").read_text(encoding="utf-8")
    assert [value for value in ("0.1", "0.4", "prototypes.tau") if f">{value}<" not in svg] == []
    assert (result.path / "prototypes.tau" / ".store").resolve() == (folder / "runs" / ".store").resolve()
    page = (result.path / "table.md").read_text()
    assert "| τ = 0.1 | 65.3 (AMN with LPCAM) | " in page
    assert "τ = 0.05" not in page


@pytest.mark.slow
def test_cost_and_toys_have_their_numbers(folder: Path) -> None:
    cost = tiny_experiment("L12", folder)
    values = {(r.method, r.metric): r.value for r in cost.rows if r.metric in {"seconds", "relative_cost"}}
    ratio, clustering = values["clustering", "relative_cost"], values["clustering", "seconds"]
    training = values["training of the classifier", "seconds"]
    assert ratio is not None
    assert clustering is not None
    assert training is not None
    assert ratio == pytest.approx(clustering / training, rel=1e-2)
    toy = tiny_experiment("L6", folder)
    assert "| tail | cam_normalised | 0.27 | 0.269 |" in (toy.path / "table.md").read_text()
    assert [p.name for p in toy.files] == ["results.csv", "table.md", "toy.svg"]
    threshold = tiny_experiment("A3", folder)
    widths = {r.method: r.value for r in threshold.rows if r.metric == "plateau_width"}
    assert widths == {"two-levels": pytest.approx(0.89), "one-peak": pytest.approx(0.31)}


@pytest.mark.slow
def test_boundaries_and_tags_that_come_together_are_measured(folder: Path) -> None:
    result = tiny_experiment("A15", folder)
    found = {(r.method, r.metric): r.value for r in result.rows}
    for name in ("IRN", "AMN"):
        assert 0 <= (found[name, "boundary_iou"] or -1) <= 100
        assert 0 <= (found[name, "miou"] or -1) <= 100
    assert any("times as often as by chance" in line for line in result.lines)
    assert (result.path / "co-occurrence.csv").read_text().startswith("a,b,images_a")


def test_data_without_masks_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    draw_folder(tmp_path / "data", masks=False)
    words = ("data=folder", f"data.root={tmp_path / 'data'}", "data.tags=tags.csv", "data.images=images")
    with refused(DataError, "L1", "drawn by people", "data=folder"):
        run_experiment("L1", Options(words, out=tmp_path / "runs" / "L1"))
    assert not (tmp_path / "runs").exists()
    draw_folder(tmp_path / "full")
    words = (words[0], f"data.root={tmp_path / 'full'}", *words[2:])
    with pytest.raises(DataError, match="A10 .*'predictions-score' on data.val.*set data.val"):
        run_experiment("A10", Options((*words, "data.val=null"), out=tmp_path / "runs" / "A10"))


def test_a_file_of_weights_that_is_missing_is_named_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="none.pth"):
        run_experiment("L1", Options((*SCENES, f"classifier.backbone.weights={tmp_path / 'none.pth'}")))


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("L6", Options(("foo=bar",)), "foo=bar: L6 computes a toy from numbers of its own, without data; leave it out"),
        ("A3", Options(("data=voc",)), "data=voc: A3 computes a toy"),
        ("A3", Options(seeds=3), "--seeds 3: A3 computes a toy"),
        ("L6", Options(size="small"), "--size small: L6 computes a toy"),
        ("L6", Options(recipes="voc12"), "--recipes voc12: L6 computes a toy"),
        ("L8", Options(("prototypes.tau=0.3",)), "prototypes.tau=0.3: L8 sweeps prototypes.tau over 0.05, 0.1, "),
    ],
)
def test_what_would_have_no_effect_is_refused(tmp_path: Path, name: str, options: Options, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        run_experiment(name, replace(options, out=tmp_path / "out"))
    assert str(caught.value).startswith(text)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (Options(seeds=0), "--seeds 0: expected a number of seeds, at least 1, such as --seeds 3"),
        (Options(size="small", recipes="voc12"), "--size small with --recipes voc12: the papers' settings go with all"),
        (Options(images=("x",)), "--image x: L1 draws no images; leave it out"),
        (Options(("cam.scale=1",)), "unknown setting 'cam.scale': did you mean 'scales'?"),
    ],
)
def test_options_that_do_not_fit(options: Options, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        run_experiment("L1", options)
    assert text in str(caught.value)


def test_an_image_that_is_not_there_names_the_nearest(tmp_path: Path) -> None:
    options = Options(SCENES, images=("train-0003",), out=tmp_path / "runs" / "L7")
    with refused(DataError, "--image train-0003", "split 'train'", "did you mean 'train-00"):
        run_experiment("L7", options)


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("x")
    for name, data in (("L6", ()), ("L1", SCENES)):
        with pytest.raises(StageError, match="is not empty and "):
            run_experiment(name, Options(data, out=tmp_path / "mine"))
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["notes.txt"]
    shutil.rmtree(tmp_path / "mine")
    assert run_experiment("L6", Options(out=tmp_path / "mine")).path == tmp_path / "mine"
    assert run_experiment("L6", Options(out=tmp_path / "mine")).rows


def test_the_command_has_every_option() -> None:
    options = Options(("data=voc",), 3, "small", "light", Path("runs/x"), ("a",))
    assert options.command("L7") == (
        "tag2mask experiment run L7 data=voc --seeds 3 --size small --out runs/x --image a"
    )
    assert Options().command("L1") == "tag2mask experiment run L1"
