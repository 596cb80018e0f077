"""``tag2mask store``: what a store holds and who uses it; pruning removes what nobody uses, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

import tag2mask
from tag2mask.core.errors import ConfigError, StageError
from tag2mask.core.links import followed, links_in
from tag2mask.core.locks import exclusive
from tag2mask.core.manifest import MANIFEST
from tag2mask.pipeline.run_result import RunResult
from tag2mask.pipeline.store_usage import StoreUsage, registered
from tag2mask.sweep.run import share_store
from tests.helpers.drawn_maps import drawn_maps_kind, few_masks_recipe  # noqa: F401  a fixture
from tests.helpers.refused import lacking, refused
from tests.helpers.tiny import files_of
from tests.helpers.tiny import tag2mask as command


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    folder = tmp_path_factory.mktemp("store")
    return tag2mask.run(str(few_masks_recipe(folder, n=6)), out=folder / "runs" / "run")


@pytest.fixture
def runs(made: RunResult, tmp_path: Path) -> Path:
    """A folder with one run, registered as a run there is, and its store."""
    folder = shutil.copytree(made.path.parent, tmp_path / "runs", symlinks=True)
    for file in (folder / ".store" / "runs").iterdir():
        file.unlink()
    tag2mask.run(str(folder / "run" / "recipe.yaml"), out=folder / "run")
    return folder


def linked(run: Path) -> set[str]:
    return {followed(link).resolve().name for link in links_in(run)}


def unlinked(store: Path, name: str = "cam-0123456789abcdef") -> Path:
    """An artefact that no run uses."""
    (store / name).mkdir()
    (store / name / "weights").write_bytes(b"x" * 2_000_000)
    (store / name / MANIFEST).write_text("{}")
    return store / name


def test_a_store_says_what_it_holds_and_who_uses_it(runs: Path) -> None:
    store = runs / ".store"
    extra = unlinked(store)
    (half := store / "irn-0123456789abcdef").mkdir()
    usage = StoreUsage(store)
    found = {a.path.name: a for a in usage.artefacts}
    assert {name for name, a in found.items() if a.runs == (runs / "run",)} == linked(runs / "run")
    assert found.keys() - linked(runs / "run") == {extra.name, half.name}
    assert (found[extra.name].size, found[extra.name].finished) == (2_000_002, True)
    assert (found[half.name].size, found[half.name].finished) == (0, False)
    assert usage.artefacts[0].path == extra, "the largest first"
    for place in (runs, store, runs / "run"):
        listed = command("store", str(place))
        assert listed.returncode == 0, listed.stderr
        assert extra.name in listed.stdout
        lines = {line.split()[0]: line.split()[1:] for line in listed.stdout.splitlines() if "0123456789abcdef" in line}
        assert lines[extra.name] == ["2", "MB", "no", "run"]
        assert lines[half.name] == ["0", "kB", "half-made", "no", "run"]


def test_pruning_shows_first_and_removes_what_no_run_uses(runs: Path) -> None:
    store, before = runs / ".store", files_of(runs / "run")
    extra = unlinked(store)
    (half := store / "irn-0123456789abcdef").mkdir()
    shown = command("store", "prune", str(runs))
    assert shown.returncode == 0, shown.stderr
    assert f"to remove these: tag2mask store prune {runs} --yes" in shown.stdout
    assert (extra.is_dir(), half.is_dir()) == (True, True)
    done = command("store", "prune", str(runs), "--yes")
    assert done.stdout.endswith("removed 2 artefacts, 2 MB\n")
    assert (extra.exists(), half.exists()) == (False, False)
    assert files_of(runs / "run") == before
    assert {p.name for p in store.glob("*-*") if p.is_dir()} == linked(runs / "run")


def test_what_a_process_makes_stays(runs: Path) -> None:
    extra = unlinked(runs / ".store")
    with exclusive(extra.with_name(f".{extra.name}.lock"), "test"):
        usage = StoreUsage(runs / ".store")
        assert next(a for a in usage.artefacts if a.path == extra).locked
        assert usage.prune() == ()
    usage = StoreUsage(runs / ".store")
    assert [a.path for a in usage.unused] == [extra]
    with exclusive(extra.with_name(f".{extra.name}.lock"), "test"):  # begun after the look
        assert usage.prune() == ()
    assert (extra / MANIFEST).is_file()


def test_a_run_that_begins_meanwhile_keeps_what_it_takes(runs: Path) -> None:
    extra = unlinked(runs / ".store")
    usage = StoreUsage(runs / ".store")
    assert [a.path for a in usage.unused] == [extra]
    (runs / "run" / "cam").symlink_to(f"../.store/{extra.name}")
    assert usage.prune() == ()
    assert extra.is_dir()


def test_half_made_artefacts_of_a_run_stay_until_it_is_through(runs: Path) -> None:
    """An interrupted training is resumed after a pruning."""
    store, run = runs / ".store", runs / "run"
    name = linked(run).pop()
    for link in list(links_in(run)):
        if followed(link).resolve().name == name:
            link.unlink()
    (store / name / MANIFEST).unlink()
    (file,) = (store / "runs").iterdir()
    assert name in json.loads(file.read_text())["artefacts"]
    assert StoreUsage(store).prune() == ()
    tag2mask.run(str(run / "recipe.yaml"), out=run)
    assert registered(store, run) == linked(run)


def test_runs_of_older_versions_and_link_files_count(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(runs / ".store" / "runs")
    assert StoreUsage(runs / ".store").unused == ()
    for link in list(links_in(runs / "run")):
        target = os.readlink(link)
        link.unlink()
        link.with_name(f"{link.name}.link").write_text(f"{target}\n")
    assert StoreUsage(runs / ".store").unused == ()
    (runs / "sweep").mkdir()
    shutil.move(runs / "run", runs / "sweep" / "point")
    for file in (runs / "sweep" / "point").glob("*.link"):
        file.write_text(f"../{file.read_text()}")
    assert StoreUsage(runs / ".store").unused == (), "a run of a sweep"


def test_runs_where_no_links_can_be_made_register_and_are_kept(
    made: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("A required privilege is not held by the client")

    monkeypatch.setattr(os, "symlink", refuse)
    out = tmp_path / "runs" / "run"
    tag2mask.run(str(made.path / "recipe.yaml"), out=out, only=["masks"])
    assert {p.suffix for p in out.iterdir() if p.name.startswith("masks")} == {".link"}
    assert registered(tmp_path / "runs" / ".store", out) == linked(out)
    assert StoreUsage(tmp_path / "runs" / ".store").unused == ()


def test_a_run_that_was_removed_keeps_nothing(runs: Path) -> None:
    names = linked(runs / "run")
    shutil.rmtree(runs / "run")
    usage = StoreUsage(runs / ".store")
    assert [one.path for one in usage.removed] == [runs / "run"]
    assert {a.path.name for a in usage.unused} == names
    usage.prune()
    assert [p.name for p in (runs / ".store").iterdir() if p.is_dir()] == ["runs"]
    assert list((runs / ".store" / "runs").iterdir()) == []


def test_a_run_on_a_disk_that_is_not_there_keeps_what_it_linked_until_it_is_forgotten(
    runs: Path, tmp_path: Path
) -> None:
    """A store that two folders of runs share; the disk of one is away."""
    (tmp_path / "disk" / "runs").mkdir(parents=True)
    (tmp_path / "disk" / "runs" / ".store").symlink_to(runs / ".store")
    other = tmp_path / "disk" / "runs" / "run"
    tag2mask.run(str(runs / "run" / "recipe.yaml"), out=other, only=["masks"])
    shutil.rmtree(runs / "run")
    (tmp_path / "disk").rename(tmp_path / "away")
    usage = StoreUsage(runs / ".store")
    assert [one.path for one in usage.missing] == [other]
    kept = {a.path.name for a in usage.artefacts if a.runs == (other,)}
    assert len(kept) == 3, "maps, threshold and masks"
    shown = command("store", "prune", str(runs), "--yes")
    assert f"not there, what it linked is kept: {other}. If it is gone for good: --forget {other}" in shown.stdout
    assert {p.name for p in (runs / ".store").glob("[a-z]*-*") if p.is_dir()} == kept
    with refused(ConfigError, f"--forget {tmp_path}", "registered run", str(other)):
        StoreUsage(runs / ".store", [tmp_path])
    assert len(StoreUsage(runs / ".store", [other]).prune()) == 3


def test_runs_that_moved_with_their_store_are_found(runs: Path, tmp_path: Path) -> None:
    moved = runs.rename(tmp_path / "elsewhere")
    usage = StoreUsage(moved / ".store")
    assert (usage.missing, usage.removed, usage.unused) == ([], [], ())
    assert usage.runs == (moved / "run",)
    shutil.rmtree(moved / "run")
    assert [one.path for one in StoreUsage(moved / ".store").removed] == [moved / "run"]


def test_a_copy_of_a_folder_of_runs_has_runs_of_its_own(runs: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(runs, tmp_path / "copy", symlinks=True)
    assert StoreUsage(copy / ".store").runs == (copy / "run",)
    assert {a.runs for a in StoreUsage(copy / ".store").artefacts} == {(copy / "run",)}
    shutil.rmtree(copy / "run")
    assert len(StoreUsage(copy / ".store").prune()) == len(linked(runs / "run"))
    assert StoreUsage(runs / ".store").unused == ()


def test_a_sweep_registers_itself_and_its_points_go_with_it(runs: Path) -> None:
    sweep = runs / "sweep"
    sweep.mkdir()
    share_store(sweep)
    tag2mask.run(str(runs / "run" / "recipe.yaml"), out=sweep / "point", only=["maps"])
    assert {one.path for one in StoreUsage(runs / ".store").missing} == set()
    assert "  run, sweep/point\n" in command("store", str(runs)).stdout
    paths = {json.loads(p.read_text())["path"] for p in (runs / ".store" / "runs").iterdir()}
    assert paths == {str(runs / "run"), str(sweep), str(sweep / "point")}
    shutil.rmtree(sweep)
    assert {one.path for one in StoreUsage(runs / ".store").removed} == {sweep, sweep / "point"}


def test_a_folder_that_is_no_store_and_options_that_do_not_fit(tmp_path: Path) -> None:
    with refused(StageError, f"{tmp_path}/x is not a store", "name one, a run,", "folder of runs"):
        StoreUsage(tmp_path / "x")
    (tmp_path / ".store").symlink_to(tmp_path / "disk")
    for words in (["store", str(tmp_path)], ["store", "prune", str(tmp_path), "--yes"]):
        done = command(*words)
        assert done.returncode == 2
        assert f"the store {tmp_path}/.store leads to {tmp_path}/disk, which is not there" in done.stderr
    wrong = command("store", str(tmp_path), "--yes")
    assert not lacking(wrong.stderr, "error: … tag2mask store PATH … tag2mask store prune PATH --yes")
