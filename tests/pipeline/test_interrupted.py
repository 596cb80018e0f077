"""Runs that are killed, and runs of two processes: the same files, byte for byte."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tag2mask.api import run
from tests.helpers.drawn_maps import few_masks_recipe, registered
from tests.helpers.tiny import files_of, launch, python, tiny_overrides, tiny_run

# Kills this process, as kill -9 does, at the n-th call of one function.
KILLED = """
import importlib, os, signal, sys
where, name, count, recipe, out, *words = sys.argv[1:]
module, calls = importlib.import_module(where), [0]
holder = module
*path, name = name.split(".")
for part in path:
    holder = getattr(holder, part)
original = getattr(holder, name)

def counted(*args, **kwargs):
    calls[0] += 1
    if calls[0] == int(count):
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*args, **kwargs)

setattr(holder, name, counted)
from tag2mask.methods.registry import register_method
register_method("tests.helpers.drawn_maps")
from tag2mask.api import run
run(recipe, *words, out=out)
"""

PLACES = {
    "training, second epoch": ("tag2mask.training.images", "TagImages.__getitems__", 3),
    "between two maps": ("tag2mask.pipeline.per_image", "write_maps", 4),
    "maps of the joint pass": ("tag2mask.pipeline.per_image", "write_maps", 13),
    "clustering, third class": ("tag2mask.methods.lpcam.stage", "build_class", 3),
    "evaluation": ("tag2mask.pipeline.metric_stages", "write_metrics", 2),
    "renaming a written file": ("tag2mask.core.files", "os.replace", 9),
    "finishing a stage": ("tag2mask.pipeline.store", "Store.finish", 2),
}


PLACES_OF_MASKS = {
    "between two maps of a program": ("tag2mask.pipeline.per_image", "write_maps", 4),
    "between two masks": ("tag2mask.pipeline.per_image", "write_labels", 5),
    "masks of the last stage": ("tag2mask.pipeline.per_image", "write_labels", 30),
    "writing the threshold": ("tag2mask.methods.artefact", "write_json", 1),
    "measuring masks": ("tag2mask.pipeline.metric_stages", "write_metrics", 3),
}


def killed_at(place: tuple[str, str, int], recipe: str, out: Path, *words: str) -> None:
    """Run a recipe in another process that is killed at a place."""
    module, name, count = place
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join([root, os.environ["PYTHONPATH"]])
    killed = python(KILLED, module, name, str(count), recipe, str(out), *words, PYTHONPATH=path)
    assert killed.returncode == -signal.SIGKILL, killed.stderr


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return files_of(tiny_run(tmp_path_factory.mktemp("whole")).path)


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_kill_and_run_again_gives_the_same_files(place: str, whole: dict[str, str], tmp_path: Path) -> None:
    killed_at(PLACES[place], "demo", tmp_path / "runs" / "run", *tiny_overrides("demo"))
    result = tiny_run(tmp_path)
    assert files_of(result.path) == whole
    assert not list((tmp_path / "runs" / ".store").rglob(".vectors-*/*")), "vectors of the killed run are left behind"


@pytest.fixture(scope="module")
def whole_masks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("masks")
    with registered():
        return files_of(run(str(few_masks_recipe(folder)), out=folder / "runs" / "run").path)


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES_OF_MASKS)
def test_kill_among_masks_and_run_again_gives_the_same_files(
    place: str, whole_masks: dict[str, str], tmp_path: Path
) -> None:
    recipe, out = str(few_masks_recipe(tmp_path)), tmp_path / "runs" / "run"
    killed_at(PLACES_OF_MASKS[place], recipe, out)
    with registered():
        result = run(recipe, out=out)
    assert files_of(result.path) == whole_masks
    if place == "between two masks":
        made = {s.stage.name: s.manifest.made for s in result.stages}
        assert made["crf"] == 12 - 4, "the four masks that were written before the kill are used"


@pytest.mark.slow
def test_two_processes_make_the_masks_of_one(tmp_path: Path) -> None:
    alone = tiny_run(tmp_path, recipe="own-data-irn-few-masks", out="alone")
    out = tmp_path / "other" / "run"
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "tag2mask"]
    overrides = tiny_overrides("own-data-irn-few-masks", tmp_path / "folder")
    done = launch([*words, "run", "own-data-irn-few-masks", *overrides, "--out", str(out)])
    assert done.returncode == 0, done.stderr
    assert files_of(out) == files_of(alone.path)


@pytest.mark.slow
def test_two_processes_make_the_files_of_one(whole: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "runs" / "run"
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "tag2mask"]
    done = launch([*words, "run", "demo", *tiny_overrides("demo"), "--out", str(out)])
    assert done.returncode == 0, done.stderr
    assert files_of(out) == whole
    assert done.stdout.count("report:") == 1, "only the first process reports"


@pytest.mark.slow
def test_a_second_process_on_the_same_run_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "runs" / "run"
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from tag2mask.core.locks import exclusive\n"
        "with exclusive(Path(sys.argv[1]) / 'lock', 'the run'):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(120)\n"
    )
    out.mkdir(parents=True)
    with subprocess.Popen([sys.executable, "-c", code, str(out)], stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            refused = launch(
                [sys.executable, "-m", "tag2mask", "run", "demo", *tiny_overrides("demo"), "--out", str(out)]
            )
        finally:
            holder.kill()
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"error: the run {out} is in use by process {holder.pid}; wait for it to end")
