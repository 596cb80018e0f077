"""Disks that are full or closed, and what stands where something else should: told by name, nothing half-written."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tag2mask.analysis.evaluate_run import evaluate_run
from tag2mask.api import run
from tag2mask.backbones.files import write_weights
from tag2mask.core.arrays import write_arrays
from tag2mask.core.errors import StageError
from tag2mask.core.files import settle, system_errors, write_text
from tag2mask.core.locks import exclusive
from tag2mask.core.palette import write_labels
from tag2mask.core.types import ActivationMaps, Prototypes, PrototypeSet
from tag2mask.inference.maps_file import write_maps
from tag2mask.methods.lpcam.prototypes_file import save_prototypes
from tag2mask.pipeline.run_folder import RunFolder
from tag2mask.pipeline.run_result import RunResult
from tag2mask.pipeline.store import Store
from tag2mask.run_report.rebuild import write_report
from tag2mask.sweep.run import share_store
from tag2mask.training.checkpoint import CHECKPOINT
from tag2mask.training.fit import fit
from tests.helpers.drawn_maps import copy_of, drawn_maps_kind, few_masks_recipe  # noqa: F401  a fixture
from tests.helpers.refused import refused
from tests.helpers.tiny import files_of, python
from tests.training.toy import Toy, engine, images, train_settings

LIMITED = """
import json, resource, sys
from pathlib import Path
import tests.pipeline.test_disks as disks
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
said = {}
for name, write in disks.WRITERS.items():
    path = Path(sys.argv[1]) / name / disks.NAMES.get(name, "file")
    try:
        write(path)
    except Exception as error:
        said[name] = [type(error).__name__, str(error)]
print(json.dumps(said))
"""


def _random() -> np.random.Generator:
    return np.random.default_rng(0)


def _sets() -> dict[int, PrototypeSet]:
    some = torch.arange(20)
    return {0: PrototypeSet(torch.rand(20, 64), torch.rand(20), some, some > 3, ("why",) * 20)}


def _train(path: Path) -> None:
    fit(Toy(train_settings()), images(13, 3), out=path.parent, seed=3, engine=engine())


NAMES = {"checkpoint": CHECKPOINT}
WRITERS: dict[str, Callable[[Path], None]] = {
    "weights": lambda path: write_weights(nn.Linear(64, 64), path, {"a": 1}),
    "prototypes": lambda path: save_prototypes(path, Prototypes(_sets(), _sets())),
    "maps": lambda path: write_maps(path, ActivationMaps((0,), torch.rand(1, 60, 60)), (240, 240), "k"),
    "masks": lambda path: write_labels(path, _random().integers(0, 255, (90, 90)).astype(np.uint8), "k"),
    "arrays": lambda path: write_arrays(path, {"a": _random().random(1000)}),
    "text": lambda path: write_text(path, "x" * 5000),
    "checkpoint": _train,
}
"""Each writes more than 2000 bytes."""


@pytest.mark.slow
def test_a_full_disk_is_reported_by_every_writer(tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk: it fails in the same calls."""
    root = str(Path(__file__).resolve().parents[2])
    done = python(LIMITED, str(tmp_path), PYTHONPATH=os.pathsep.join([root, os.environ["PYTHONPATH"]]))
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.strip().splitlines()[-1])
    assert set(said) == set(WRITERS)
    for name, (kind, text) in said.items():
        path = tmp_path / name / NAMES.get(name, "file")
        assert kind == "StageError", text
        assert text.startswith(f"cannot write {path}: "), text
        assert "Nothing was left half-written; make room or choose another folder with --out" in text
        assert list(path.parent.iterdir()) == [], name


def test_a_full_disk_in_a_run_is_reported_and_the_same_command_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each kind of file fails in turn, as it is put on the disk; afterwards all is as without."""
    recipe, out = str(few_masks_recipe(tmp_path, n=6)), tmp_path / "runs" / "run"
    original = os.replace
    for ending in ("recipe.yaml", ".npz", "manifest.json", "threshold.json", ".png", "metrics.jsonl", "report.html"):

        def full(source: Any, target: Any, ending: str = ending) -> None:
            if str(target).endswith(ending):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            original(source, target)

        monkeypatch.setattr(os, "replace", full)
        with refused(StageError, "cannot write", f"{ending}: No space left on device", "make room"):
            run(recipe, out=out)
        assert not list(tmp_path.rglob("*.tmp"))
    monkeypatch.undo()
    assert files_of(run(recipe, out=out).path) == files_of(run(recipe, out=tmp_path / "other" / "run").path)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    folder = tmp_path_factory.mktemp("disks")
    return run(str(few_masks_recipe(folder, n=6)), out=folder / "runs" / "run")


@pytest.fixture
def copy(done: RunResult, tmp_path: Path) -> Path:
    return copy_of(done.path, tmp_path)


# Rights. The tests may run as root, who may do everything: what the system would say is put into its mouth.


def refusing(original: Callable[..., Any], place: Path) -> Callable[..., Any]:
    """A function of the system that refuses a place and what is in it."""

    def refused(path: Any, *words: Any, **more: Any) -> Any:
        if Path(os.path.abspath(path)).is_relative_to(place):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return original(path, *words, **more)

    return refused


def test_a_store_that_may_not_be_written_is_reported_before_anything_is_made(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, access = copy.parent / ".store", os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != store and access(path, mode))
    monkeypatch.setattr(os, "geteuid", lambda: store.stat().st_uid + 1)
    owner = store.stat().st_uid
    with refused(
        StageError,
        f"{store}: Permission denied",
        "allow yourself",
        str(store),
        f"user with number {owner}",
        "another folder with --out",
    ):
        run(str(copy / "recipe.yaml"), out=copy.parent / "new")
    assert not (copy.parent / "new" / "recipe.yaml").exists()
    assert evaluate_run(copy, stages=["maps"]), "what only reads still can"
    write_report([copy], copy / "page.html")


@pytest.mark.parametrize("name", ["open", "replace"])
def test_a_lock_or_run_folder_that_may_not_be_written_is_reported(
    name: str, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = copy.parent / ".store" if name == "open" else copy
    monkeypatch.setattr(os, name, refusing(getattr(os, name), place))
    with refused(StageError, f"cannot write {place}", "Permission denied", "another folder with --out"):
        run(str(copy / "recipe.yaml"), out=copy)


def test_what_nobody_puts_into_words_is_reported_too(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "scandir", refusing(os.scandir, copy.parent))
    monkeypatch.setattr(os, "listdir", refusing(os.listdir, copy.parent))
    with pytest.raises(StageError, match=rf"{copy}: Permission denied"):
        run(str(copy / "recipe.yaml"), out=copy)
    with pytest.raises(StageError, match="cannot read or write /some/file: Input/output error"), system_errors():
        raise OSError(errno.EIO, os.strerror(errno.EIO), "/some/file")
    with pytest.raises(ConnectionError), system_errors():
        raise ConnectionError("not of a file")


# What stands where something else should


def test_a_store_that_is_a_link_to_nowhere_or_a_file(tmp_path: Path) -> None:
    recipe, store = str(few_masks_recipe(tmp_path, n=6)), tmp_path / "runs" / ".store"
    store.parent.mkdir()
    store.symlink_to(tmp_path / "gone")
    with refused(StageError, f"store {store} leads to {tmp_path / 'gone'}", "connect"):
        run(recipe, out=tmp_path / "runs" / "run")
    store.unlink()
    store.write_text("")
    with refused(StageError, f"cannot write {store}", f"move {store} away,", "a file"):
        run(recipe, out=tmp_path / "runs" / "run")
    store.unlink()
    (tmp_path / "disk").mkdir()
    store.symlink_to(tmp_path / "disk")
    made = run(recipe, out=tmp_path / "runs" / "run", only=["maps"])
    assert os.readlink(made.path / "maps").startswith("../.store/"), "the store may be moved to another disk"


def test_a_run_folder_that_is_a_link_to_nowhere(tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.symlink_to("between")
    (tmp_path / "between").symlink_to(tmp_path / "gone")
    with refused(StageError, f"cannot write {out}", f"{out} is a link to {tmp_path / 'gone'},", "is not"):
        RunFolder(out).prepare()


@pytest.mark.parametrize("place", ["maps", "maps/maps", "few", "maps/manifest.json", "few/threshold.json"])
def test_a_file_where_a_folder_should_be_and_a_folder_where_a_file_should_be(place: str, copy: Path) -> None:
    path = (copy / place).resolve()
    whole = path.is_dir()
    if whole:
        shutil.rmtree(path)
        path.write_text("in the way")
    else:
        path.unlink()
        path.mkdir()
    kind = "a file" if whole else "a folder"
    with refused(StageError, f"cannot write {path}", f"move {path} away, which is {kind}"):
        run(str(copy / "recipe.yaml"), out=copy)


def test_a_lock_that_is_a_folder_and_a_disk_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lock").mkdir()
    with refused(StageError, f"cannot write {tmp_path}/lock: Is a directory", f"move {tmp_path}/lock away"):
        exclusive(tmp_path / "lock", "it").__enter__()

    def none(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", none)
    with refused(StageError, f"cannot lock {tmp_path}/other: No locks available", "on another disk"):
        exclusive(tmp_path / "other", "it").__enter__()


def test_waiting_for_another_run_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def second() -> None:
        with exclusive(tmp_path / "lock", "stage maps-12ab", wait=True):
            pass

    caplog.set_level("INFO", "tag2mask")
    with ThreadPoolExecutor(1) as pool:
        with exclusive(tmp_path / "lock", "it"):
            waiting = pool.submit(second)
            while not caplog.messages and not waiting.done():
                time.sleep(0.01)
        waiting.result()
    assert caplog.messages == [f"stage maps-12ab is being made by process {os.getpid()}: waiting for it to end"]


def test_links_of_a_run_folder_that_is_a_link_lead_somewhere(tmp_path: Path) -> None:
    (tmp_path / "disk" / "deep").mkdir(parents=True)
    (tmp_path / "runs").mkdir()
    out = tmp_path / "runs" / "run"
    out.symlink_to("../disk/deep")
    result = run(str(few_masks_recipe(tmp_path, n=6)), out=out)
    links = [path for path in out.iterdir() if path.is_symlink()]
    assert len(links) == len(result.stages)
    assert all(path.resolve().parent == tmp_path / "runs" / ".store" for path in links)
    for named in (out, tmp_path / "disk" / "deep"):
        assert evaluate_run(named, stages=["maps"])
        write_report([named], tmp_path / "page.html")
    share_store(out)
    assert (out / ".store").resolve() == tmp_path / "runs" / ".store"


def test_the_store_of_a_run_in_the_working_folder_is_the_one_beside_it(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(copy)
    done = run("recipe.yaml", out=".")
    assert not (copy / ".store").exists()
    assert all(s.artefact.path.resolve().parent == copy.parent / ".store" for s in done.stages)
    (copy / "inner").mkdir()
    monkeypatch.chdir(copy / "inner")
    assert RunFolder(Path("..")).store.root == copy.parent / ".store"


# On the disk before it has its name


def noting(done: list[str], what: str, then: Callable[..., Any]) -> Callable[..., Any]:
    """A function that notes that it was called."""

    def noted(*words: Any) -> Any:
        done.append(what)
        return then(*words)

    return noted


def test_files_are_on_the_disk_before_they_have_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def sync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        done.append("folder" if stat.S_ISDIR(status.st_mode) else "file" if status.st_size else "an empty file")

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", noting(done, "rename", os.replace))
    write_text(tmp_path / "a.txt", "text")
    assert done == ["file", "rename", "folder"]
    done.clear()
    write_labels(tmp_path / "a.png", np.zeros((4, 4), np.uint8), "k")
    assert done == ["file", "rename"]


@pytest.mark.parametrize(("code", "written"), [(errno.EINVAL, True), (errno.ENOTSUP, True), (errno.ENOSPC, False)])
def test_a_disk_that_cannot_say_is_believed_one_that_is_full_is_not(
    code: int, written: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sync(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", sync)
    if written:
        write_text(tmp_path / "a.txt", "text")
    else:
        with pytest.raises(StageError, match="No space left on device"):
            write_text(tmp_path / "a.txt", "text")
    assert [path.name for path in tmp_path.iterdir()] == (["a.txt"] if written else [])


def test_the_names_of_maps_are_on_the_disk_before_their_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    monkeypatch.setattr("tag2mask.pipeline.per_image.settle", noting(done, "names of maps", settle))
    monkeypatch.setattr(Store, "finish", noting(done, "manifest", Store.finish))
    run(str(few_masks_recipe(tmp_path, n=6)), out=tmp_path / "runs" / "run", only=["maps"])
    assert done == ["names of maps", "manifest"]
