"""Mistakes around recipes, runs and disks: each with the text that the user reads, and nothing lost."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tag2mask.analysis.evaluate_run import evaluate_run
from tag2mask.api import run
from tag2mask.config.recipe import load_recipe, recipe_text
from tag2mask.core.errors import ConfigError, DataError, StageError, TrainingError, WeightsError
from tag2mask.pipeline.plan import make_plan
from tag2mask.pipeline.run_folder import RunFolder
from tag2mask.pipeline.run_result import RunResult
from tests.helpers.refused import lacking, refused
from tests.helpers.tiny import files_of, tiny_overrides, tiny_run

WRONG = {
    "unknown setting": (["cam.scale=[1.0]"], "'cam.scale' … did you mean 'scales'?"),
    "unknown nested setting": (["classifier.train.epoch=3"], "'classifier.train.epoch' … did you mean 'epochs'?"),
    "unknown data setting": (["data.image=3"], "'data.image' … did you mean 'images'?"),
    "wrong type": (["classifier.train.epochs=many"], "'classifier.train.epochs' = 'many' … input should be"),
    "out of range": (["prototypes.mu_f=2"], "'prototypes.mu_f' = 2 … less than or equal to 1"),
    "unknown stage": (["lpcan.drop=[]"], "'lpcan.drop' … did you mean 'lpcam'?"),
    "no equals sign": (["cam.scales"], "'cam.scales' … not key=value"),
    "bad YAML": (["cam.scales=[1.0"], "'cam.scales=[1.0' … not YAML"),
    "quotes that the shell took": (["data.root=,"], "for the shell … \"data.root=','\""),
    "unknown data kind": (["data=vok"], "data kind 'vok' … did you mean 'voc'?"),
    "unknown supervision": (["allow_supervision=[tag]"], "'tag' … did you mean 'tags'?"),
    "drop of bad form": (["lpcam.drop=[train 3]"], "'train 3' … CLASS foreground:N"),
    "unknown role": (["cam.reads={net: classifier}"], "unknown role 'cam.reads.net'"),
    "missing role": (["cam.reads={}"], "'cam.reads.classifier' … such as cam.reads.classifier=classifier"),
    "unknown source": (["cam.reads={classifier: clasifier}"], "'clasifier' … did you mean 'classifier'?"),
    "wrong source": (["cam.reads={classifier: lpcam}"], "cam.reads.classifier = 'lpcam' … maps … weights are needed"),
    "no stages": (["stages={}"], "setting 'stages' = {}"),
    "value with settings": (["seeds.first=1"], "'seeds.first' … 'seeds' is a value"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_settings_are_refused_before_anything_runs(case: str) -> None:
    overrides, text = WRONG[case]
    with refused(ConfigError, text):
        make_plan(load_recipe("demo", overrides))


def test_a_wrong_part_of_a_list_is_reported_once() -> None:
    with pytest.raises(ConfigError) as caught:
        make_plan(load_recipe("demo", ["seeds=[-1]"]))
    assert not lacking(caught.value, "setting 'seeds.0' = -1 … greater than or equal to 0")


@pytest.mark.parametrize(("stage", "role"), [("lpcam", "prototypes"), ("prototypes", "maps")])
def test_prototypes_of_another_classifier_are_refused(tmp_path: Path, stage: str, role: str) -> None:
    recipe = yaml.safe_load(recipe_text("demo"))
    recipe["stages"]["second"] = recipe["stages"]["classifier"]
    recipe["stages"][stage]["reads"]["classifier"] = "second"
    path = tmp_path / "mixed.yaml"
    path.write_text(yaml.safe_dump(recipe))
    with pytest.raises(ConfigError) as caught:
        make_plan(load_recipe(str(path), []))
    assert f"{stage}.reads.classifier = 'second'" in str(caught.value)
    assert f"{stage}.reads.{role}" in str(caught.value)
    assert f"Set {stage}.reads.classifier=classifier" in str(caught.value)


def test_stages_in_a_circle_are_named(tmp_path: Path) -> None:
    recipe = yaml.safe_load(recipe_text("demo"))
    recipe["stages"]["cam"] = {"kind": "lpcam", "reads": {"classifier": "classifier", "prototypes": "prototypes"}}
    path = tmp_path / "circle.yaml"
    path.write_text(yaml.safe_dump(recipe))
    with refused(ConfigError, "circle", ("cam -> prototypes -> cam", "prototypes -> cam -> prototypes")):
        make_plan(load_recipe(str(path)))


def test_recipe_files_that_are_none() -> None:
    with refused(ConfigError, "'mine.yaml' does not exist", "tag2mask cp own-data mine.yaml"):
        load_recipe("mine.yaml")
    with refused(ConfigError, "'voc12-amn.yaml' does not exist", "tag2mask cp voc12-amn voc12-amn.yaml"):
        load_recipe("voc12-amn.yaml")
    with pytest.raises(ConfigError, match="unknown recipe 'dmo'; did you mean 'demo'"):
        load_recipe("dmo")


@pytest.mark.parametrize(
    ("text", "message"), [("a: [", "is not YAML"), ("- 1", "is not a mapping"), ("name: x", "missing setting 'data'")]
)
def test_recipe_files_with_the_wrong_content(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with refused(ConfigError, message):
        load_recipe(str(path))


def test_an_output_folder_that_is_no_run_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "runs" / "run").mkdir(parents=True)
    precious = tmp_path / "runs" / "run" / "precious.txt"
    precious.write_text("mine")
    with refused(StageError, "is not a run", "not empty", "nothing was changed"):
        tiny_run(tmp_path)
    assert sorted(p.name for p in precious.parent.iterdir()) == ["precious.txt"]


def test_an_output_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "run").write_text("")
    with refused(StageError, "is a file", "name a new folder"):
        tiny_run(tmp_path)


def test_eval_of_a_folder_that_is_no_run_names_the_runs_beside_it(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "recipe.yaml").write_text("")
    with refused(StageError, "is not a run", "Runs beside it: photos.", "tag2mask run demo --out"):
        evaluate_run(tmp_path / "photo")
    with refused(StageError, f"{tmp_path} is not a run", "Runs in it: photos."):
        evaluate_run(tmp_path)


def test_no_data_root_says_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.root"):
        run("own-data", *tiny_overrides("own-data"), out=tmp_path / "runs" / "run")


class _Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_a_disk_that_is_too_small_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: _Usage(10**9, 10**9, 100))
    with refused(StageError, "classifier needs about 3 MB", "1 MB are free", "make room"):
        tiny_run(tmp_path)


def test_a_disk_that_fills_up_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing fails in the middle of the maps; afterwards the run goes on and ends as an undisturbed one."""
    original, count = os.replace, [0]

    def full(source: Any, target: Any) -> None:
        count[0] += str(target).endswith(".npz")
        if count[0] > 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(source, target)

    monkeypatch.setattr(os, "replace", full)
    with refused(StageError, "cannot write", ".npz: No space left on device", "Nothing was left half-written"):
        tiny_run(tmp_path)
    assert not list(tmp_path.rglob("*.tmp"))
    monkeypatch.undo()
    assert files_of(tiny_run(tmp_path).path) == files_of(tiny_run(tmp_path / "undisturbed").path)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    return tiny_run(tmp_path_factory.mktemp("run"))


def test_weights_that_were_changed_by_hand_are_rerun(done: RunResult) -> None:
    before = files_of(done.path)
    weights = done.path / "classifier" / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    assert files_of(run(str(done.path / "recipe.yaml"), out=done.path).path) == before


def test_a_damaged_map_is_rerun_and_eval_refuses_it_before(done: RunResult) -> None:
    before = files_of(done.path)
    path = sorted((done.path / "lpcam" / "maps").glob("*.npz"))[2]
    path.write_bytes(path.read_bytes()[:100])
    with refused(StageError, "cannot read", str(path.name), "Remove it", "run again"):
        evaluate_run(done.path, stages=["lpcam"])
    path.unlink()
    with refused(StageError, "'lpcam' has no maps", f"image '{path.stem}'", "tag2mask run", "recipe.yaml --out"):
        evaluate_run(done.path, stages=["lpcam"])
    assert files_of(run(str(done.path / "recipe.yaml"), out=done.path).path) == before


def test_eval_names_the_stages_there_are(done: RunResult) -> None:
    with refused(ConfigError, "'lpcan'", "did you mean 'lpcam'"):
        evaluate_run(done.path, stages=["lpcan"])
    with pytest.raises(ConfigError, match="1.5"):
        evaluate_run(done.path, thresholds=[1.5])


def test_a_stage_that_is_not_finished_names_the_command(done: RunResult, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "begun")
    folder.prepare()
    folder.begin(make_plan(load_recipe(str(done.path / "recipe.yaml"))).recipe, threads=1)
    with refused(StageError, "'cam'", "not finished", "tag2mask run", "recipe.yaml --out"):
        evaluate_run(tmp_path / "begun")


def test_weights_of_another_network_are_refused(done: RunResult, tmp_path: Path) -> None:
    other = done.path / "classifier" / "weights.safetensors"
    with pytest.raises(WeightsError, match="weights"):
        tiny_run(tmp_path, "classifier.backbone.name=resnet10t", f"classifier.backbone.weights={other}")


def test_a_manifest_of_another_schema_is_refused(done: RunResult, tmp_path: Path) -> None:
    store = tmp_path / "runs" / ".store"
    shutil.copytree(done.path.parent / ".store", store)
    for path in store.glob("classifier-*/manifest.json"):
        path.write_text(path.read_text().replace('"schema": 1', '"schema": 99'))
    with pytest.raises(StageError, match="has schema 99, expected 1; remove"):
        run(str(done.path / "recipe.yaml"), out=tmp_path / "runs" / "run")


def test_a_loss_that_is_no_number_stops_with_advice(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="lr"):
        tiny_run(tmp_path, "classifier.train.lr=1e30", "classifier.train.head_lr=1e30", "classifier.train.epochs=3")
