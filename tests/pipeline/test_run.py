"""A whole run: what is made, what is kept, and what exactly is made again after a change."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tag2mask.api import run
from tag2mask.core.errors import LedgerError
from tag2mask.core.files import read_json
from tag2mask.evaluation.measures.trivial import TRIVIAL
from tag2mask.evaluation.result_tables import read_metrics
from tag2mask.inference.maps_file import read_maps
from tag2mask.pipeline.run_result import RunResult
from tests.helpers.refused import refused
from tests.helpers.tiny import files_of, tiny_overrides, tiny_run

STAGES = ["classifier", "average-precision", "cam", "prototypes", "lpcam-f", "lpcam"]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    return tiny_run(tmp_path_factory.mktemp("run"))


def test_the_run_folder_links_every_stage_of_the_recipe(done: RunResult) -> None:
    links = {p.name for p in done.path.iterdir() if p.is_symlink()}
    assert links == {*STAGES, "cam-seeds", "lpcam-f-seeds", "lpcam-seeds"}
    assert all((done.path / name).resolve().parent.name == ".store" for name in links)
    assert {p.name for p in done.path.iterdir() if not p.is_symlink()} == {
        "recipe.yaml", "environment.json", "metrics.jsonl", "report.html", "lock",
    }  # fmt: skip


def test_maps_are_float16_stride_4_of_present_classes_with_maximum_one_or_zero(done: RunResult) -> None:
    paths = sorted((done.path / "lpcam" / "maps").glob("*.npz"))
    assert len(paths) == 8
    for path in paths:
        with np.load(path) as archive:
            maps, size = archive["maps"], archive["size"]
            assert maps.dtype == np.float16
            assert maps.shape == (len(archive["classes"]), -(-size[0] // 4), -(-size[1] // 4))
        peaks = maps.reshape(len(maps), -1).max(1)
        assert ((peaks == 1) | (peaks == 0)).all()
        assert maps.min() >= 0


def test_manifest_says_what_the_artefact_is(done: RunResult) -> None:
    manifest = read_json(done.path / "lpcam" / "manifest.json")
    assert manifest["schema"] == 1
    assert manifest["kind"] == "lpcam"
    assert manifest["ledger"] == ["tags"]
    assert manifest["n_images"] == manifest["made"] == 8
    assert manifest["shared_with"] == ["lpcam-f"]
    assert manifest["seconds"] > 0
    assert manifest["peak_memory"] > 1 << 20
    assert set(manifest["made_from"]) == {"classifier", "prototypes"}
    assert (done.path / "lpcam").resolve().name == f"lpcam-{manifest['key'][:16]}"


def test_metrics_have_every_column_of_the_design(done: RunResult) -> None:
    lines = (done.path / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert {
        "stage",
        "method",
        "split",
        "n_images",
        "metric",
        "value",
        "threshold",
        "threshold_kind",
        "seed",
        "time",
    } == (set(rows[0]))
    found = {(r["method"], r["threshold_kind"]) for r in rows if r["metric"] == "miou"}
    cut = {(m, k) for m in ("cam", "lpcam-f", "lpcam") for k in ("fixed", "oracle")}
    assert found == cut | {(name, "none") for name in TRIVIAL}
    assert {r["split"] for r in rows if r["metric"] == "miou"} == {"train"}
    assert tuple(read_metrics(done.path / "metrics.jsonl")) == done.metrics


def test_the_resolved_recipe_runs_again_and_makes_nothing_new(done: RunResult) -> None:
    before = {p: p.stat().st_mtime_ns for p in (done.path.parent / ".store").rglob("*") if p.is_file()}
    again = run(str(done.path / "recipe.yaml"), out=done.path)
    after = {p: p.stat().st_mtime_ns for p in (done.path.parent / ".store").rglob("*") if p.is_file()}
    made = {p for p in after if after[p] != before.get(p)} - {*(done.path.parent / ".store" / "runs").iterdir()}
    assert {p.name for p in made if not p.name.endswith(".lock")} == set()  # which run uses what is noted at each
    assert [s.manifest for s in again.stages] == [s.manifest for s in done.stages]


def test_another_run_shares_the_store(done: RunResult) -> None:
    other = run(str(done.path / "recipe.yaml"), out=done.path.parent / "other")
    assert [s.artefact.path.name for s in other.stages] == [s.artefact.path.name for s in done.stages]
    assert files_of(other.path) == files_of(done.path)


def test_a_changed_setting_redoes_exactly_what_depends_on_it(done: RunResult) -> None:
    changed = run(str(done.path / "recipe.yaml"), "prototypes.mu_f=0.2", out=done.path.parent / "changed")
    same = {a.stage.name: a.artefact.key == b.artefact.key for a, b in zip(done.stages, changed.stages, strict=True)}
    fresh = [name for name, kept in same.items() if not kept]
    assert fresh == ["prototypes", "lpcam-f", "lpcam", "lpcam-f-seeds", "lpcam-seeds"]


def test_joint_and_separate_passes_write_the_same_bytes(done: RunResult, tmp_path: Path) -> None:
    """LPCAM-F and LPCAM share a forward pass in ``done``; here each has its own."""
    recipe = yaml.safe_load((done.path / "recipe.yaml").read_text())
    for name in ("lpcam-f", "lpcam-f-seeds"):
        del recipe["stages"][name]
    path = tmp_path / "alone.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    alone = files_of(run(str(path), out=tmp_path / "alone").path)
    together = files_of(done.path)
    assert {n: h for n, h in alone.items() if n.startswith("lpcam/")} == {
        n: h for n, h in together.items() if n.startswith("lpcam/")
    }


def test_supervision_that_the_recipe_does_not_allow_is_refused(done: RunResult, tmp_path: Path) -> None:
    with refused(LedgerError, "'classifier' would use tags", "is [].", "[tags]"):
        run(str(done.path / "recipe.yaml"), "allow_supervision=[]", out=tmp_path / "refused")


def test_seeds_give_instances_with_a_suffix(tmp_path: Path) -> None:
    result = tiny_run(tmp_path, "seeds=[0,3]")
    names = [s.stage.name for s in result.stages]
    assert "lpcam@0" in names
    assert "lpcam@3" in names
    keys = {s.stage.name: s.artefact.key for s in result.stages}
    assert keys["classifier@0"] != keys["classifier@3"]
    assert {r.seed for r in result.metrics} == {0, 3}
    assert {r.method for r in result.metrics if r.metric == "miou"} == {"cam", "lpcam-f", "lpcam", *TRIVIAL}


def _tag_folder(root: Path) -> None:
    """Eight images of one class each, six of them listed as training images."""
    (root / "images").mkdir(parents=True)
    (root / "splits").mkdir()
    rng = np.random.default_rng(0)
    lines = ["image,tags"]
    for i in range(8):
        pixels = rng.integers(0, 90, (48, 40, 3)).astype(np.uint8)
        pixels[8:30, 8:30, i % 2] += 150
        Image.fromarray(pixels).save(root / "images" / f"i{i}.png")
        lines.append(f"i{i}.png,{('red', 'green')[i % 2]}")
    (root / "tags.csv").write_text("\n".join(lines) + "\n")
    (root / "splits" / "train.txt").write_text("".join(f"i{i}\n" for i in range(6)))


def test_an_added_image_costs_one_image_and_a_changed_one_too(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    _tag_folder(root)
    words = [*tiny_overrides("own-data", root), "data.val=null"]
    first = run("own-data", *words, out=tmp_path / "runs" / "a")
    assert {s.stage.name: s.manifest.made for s in first.stages}["cam"] == 8

    Image.open(root / "images" / "i7.png").rotate(180).save(root / "images" / "i8.png")
    with (root / "tags.csv").open("a") as stream:
        stream.write("i8.png,green\n")
    added = run("own-data", *words, out=tmp_path / "runs" / "a")
    made = {s.stage.name: s.manifest for s in added.stages}
    assert made["classifier"].key == {s.stage.name: s.manifest for s in first.stages}["classifier"].key
    assert made["cam"].made == 1
    assert made["cam"].n_images == 9

    Image.open(root / "images" / "i7.png").rotate(90).save(root / "images" / "i7.png")
    changed = run("own-data", *words, out=tmp_path / "runs" / "a")
    assert {s.stage.name: s.manifest.made for s in changed.stages}["cam"] == 1
    size = read_maps(tmp_path / "runs" / "a" / "cam" / "maps" / "i7.npz").size
    with Image.open(root / "images" / "i7.png") as image:
        assert size == image.size[::-1]
