"""What a run notes beside its numbers: versions, commit, threads, and a fingerprint of the data."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from tag2mask.api import run
from tag2mask.config.recipe import load_recipe
from tag2mask.core import resources as cores
from tag2mask.core.files import read_json
from tag2mask.core.palette import read_labels, write_labels
from tag2mask.pipeline.plan import make_plan
from tag2mask.pipeline.run_folder import RunFolder, environment, git_state
from tag2mask.pipeline.session import Session
from tests.helpers.drawn_maps import drawn_maps_kind, few_masks_recipe  # noqa: F401  a fixture


def recipe(folder: Path) -> str:
    """Maps drawn from the truth of four images, measured."""
    path = few_masks_recipe(folder, n=4)
    content = yaml.safe_load(path.read_text())
    content["stages"] = {"maps": {"kind": "drawn-maps"}, "s": {"kind": "seeds", "reads": {"maps": "maps"}}}
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return str(path)


def fingerprints(folder: Path) -> dict[str, str]:
    """Of the split that is measured, without a run."""
    session = Session(make_plan(load_recipe(recipe(folder))), RunFolder(folder / "runs" / "run"))
    session.open_split(session.plan.data.infer)
    return session.fingerprints()


def test_versions_of_what_a_number_depends_on() -> None:
    found = environment()
    for name in ("torch", "timm", "segmentation-models-pytorch", "numpy", "Pillow"):
        assert found[name] == metadata.version(name)
    assert found["python"] == platform.python_version()


def test_a_run_notes_threads_and_data(tmp_path: Path) -> None:
    noted = read_json(run(recipe(tmp_path), out=tmp_path / "runs" / "run").path / "environment.json")
    assert noted["threads"] == "1"
    assert noted["torch"] == metadata.version("torch")
    assert noted["data"] == fingerprints(tmp_path)


def test_a_run_takes_the_threads_again_that_it_was_begun_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(cores, "free_cores", lambda: 2)
    out = tmp_path / "runs" / "run"
    assert threads_of(recipe(tmp_path), out, "engine.threads=null") == (2, 2)
    monkeypatch.setattr(cores, "free_cores", lambda: 1)
    assert threads_of(recipe(tmp_path), out, "engine.threads=null") == (2, 2), "whatever else the machine does by then"
    assert threads_of(recipe(tmp_path), out, "engine.threads=1") == (1, 1)
    noted = read_json(out / "environment.json")
    (out / "environment.json").write_text(json.dumps({**noted, "threads": "many"}))
    monkeypatch.setattr(cores, "free_cores", lambda: 3)
    assert threads_of(recipe(tmp_path), out, "engine.threads=null") == (3, 3)


def threads_of(recipe: str, out: Path, *words: str) -> tuple[int, int]:
    """What a run has noted, and what torch has computed with."""
    run(recipe, *words, out=out)
    return int(read_json(out / "environment.json")["threads"]), torch.get_num_threads()


def test_the_fingerprint_is_of_images_tags_and_masks(tmp_path: Path) -> None:
    data = fingerprints(tmp_path / "a")
    assert list(data) == ["all"]
    assert data["all"].startswith("4 images, ")
    assert len(data["all"].split(", ")[1]) == 16
    assert fingerprints(tmp_path / "b") == data  # the same images in another folder
    root = tmp_path / "b" / "data"
    mask = min((root / "masks").iterdir())
    write_labels(mask, np.zeros_like(read_labels(mask)))
    found = [data, fingerprints(tmp_path / "b")]
    image = max((root / "images").iterdir())
    with Image.open(image) as before:
        size = before.size
    Image.new("RGB", size).save(image)
    found.append(fingerprints(tmp_path / "b"))
    tags = (root / "tags.csv").read_text()
    (root / "tags.csv").write_text(tags.replace("photo 00.png,disc", "photo 00.png,disc;square"))
    found.append(fingerprints(tmp_path / "b"))
    assert len({str(values) for values in found}) == 4


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_commit_of_a_checkout_and_of_nothing_else(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        who = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "init.defaultBranch=main"]
        done = subprocess.run(["git", *who, *words], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    package = tmp_path / "src" / "package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    assert git_state(package) == ""
    git("init")
    assert git_state(package) == "", "the repository around an installed package says nothing of it"
    git("add", ".")
    git("commit", "-m", "x")
    assert git_state(package) == git("rev-parse", "HEAD")
    (tmp_path / "notes.txt").write_text("beside the code")
    assert git_state(package) == git("rev-parse", "HEAD")
    (package / "__init__.py").write_text("x = 1\n")
    assert git_state(package) == f"{git('rev-parse', 'HEAD')} with changes"
    assert git_state(tmp_path / "absent") == ""
