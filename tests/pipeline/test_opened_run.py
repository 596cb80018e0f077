"""A finished run opened in Python: what it holds, also after its photos or the run itself have moved."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import tag2mask
from tag2mask.analysis.evaluate_run import evaluate_run
from tag2mask.analysis.mask_quality import analyse_boundaries, analyse_quality
from tag2mask.core.errors import ConfigError, DataError, StageError
from tag2mask.core.links import followed, is_link, links_in
from tag2mask.core.palette import read_labels
from tag2mask.evaluation.measures.trivial import TRIVIAL
from tag2mask.evaluation.result_tables import read_metrics
from tag2mask.pipeline.export_run import export_masks
from tag2mask.pipeline.opened_run import OpenedRun
from tag2mask.pipeline.pack import pack_run
from tag2mask.pipeline.run_result import RunResult
from tag2mask.run_report.rebuild import write_report
from tests.helpers.drawn_maps import drawn_maps_kind, few_masks_recipe  # noqa: F401  a fixture
from tests.helpers.refused import refused
from tests.helpers.tiny import files_of


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    folder = tmp_path_factory.mktemp("opened")
    return tag2mask.run(str(few_masks_recipe(folder, n=6)), out=folder / "runs" / "run")


@pytest.fixture
def moved(done: RunResult, tmp_path: Path) -> Iterator[Path]:
    """Where the photos of the finished run lie now; they go back afterwards."""
    old, new, recipe = done.path.parents[1] / "data", tmp_path / "elsewhere", done.path / "recipe.yaml"
    written = recipe.read_text()
    old.rename(new)
    yield new
    new.rename(old)
    recipe.write_text(written)


def again(path: Path, *words: str) -> RunResult:
    return tag2mask.run(str(path / "recipe.yaml"), *words, out=path)


def test_a_run_is_opened_by_its_public_name(done: RunResult) -> None:
    opened = tag2mask.open_run(done.path)
    assert list(opened.stages) == [made.stage.name for made in done.stages]
    assert opened.plan.data.root == done.path.parents[1] / "data"
    assert opened.artefact("masks").key == next(d.artefact.key for d in done.stages if d.stage.name == "masks")
    assert list(opened.artefact("masks").reads) == ["maps", "threshold"]
    assert list(opened.metrics) == read_metrics(done.path / "metrics.jsonl")
    labels = {sample.id: found for sample, found in opened.masks("masks")}
    assert len(labels) == len(opened.dataset("masks")) == len(opened.masks("masks")) == 6
    for name, found in labels.items():
        assert np.array_equal(found, read_labels(done.path / "masks" / "masks" / f"{name}.png"))
    maps = opened.maps("maps")
    sample = maps.dataset.samples[0]
    assert maps.read(sample).classes == sample.tags
    assert maps.dataset is opened.dataset("maps"), "opened once"
    n = len(opened.stages)
    assert repr(opened) == f"<run {done.path} of recipe 'drawn': {n} of {n} stages>"
    assert repr(maps) == f"<6 maps of stage 'maps' of {done.path}>"


def test_what_is_not_there_is_named(done: RunResult, tmp_path: Path) -> None:
    opened = tag2mask.open_run(done.path)
    with pytest.raises(ConfigError, match="unknown stage 'mask'; did you mean 'masks'"):
        opened.artefact("mask")
    with refused(ConfigError, "'few' makes threshold", "maps are needed", "Stages of maps: maps"):
        opened.maps("few")
    with refused(StageError, f"{tmp_path} is not a run", f"tag2mask run demo --out {tmp_path}"):
        tag2mask.open_run(tmp_path)


def test_with_root_a_run_whose_photos_moved_is_whole(
    done: RunResult, moved: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Every command that looks at it, and the run itself, which finds every stage made."""
    whole = OpenedRun(done.path, moved)
    rows = {row.stage: row.value for row in evaluate_run(whole, thresholds=[0.2]) if row.metric == "miou"}
    assert rows.keys() == {"maps", *TRIVIAL}
    write_report([OpenedRun(done.path, moved)], tmp_path / "page.html")
    assert export_masks(done.path, "palette", tmp_path / "out", root=moved).images == 6
    quality = analyse_quality(OpenedRun(done.path, moved), out=tmp_path / "quality")
    assert len(quality.found.images) == 3
    assert f"--root {moved}" in (tmp_path / "quality" / "quality.csv").read_text(), "the command that repeats it"
    before = files_of(done.path)
    with caplog.at_level(logging.INFO, "tag2mask"):
        again(done.path, f"data.root={moved}")
    assert files_of(done.path) == before
    assert sum("done already" in text for text in caplog.messages) >= 4
    again_here = OpenedRun(done.path, moved).command
    assert again_here == f"tag2mask run {done.path}/recipe.yaml data.root={moved} --out {done.path}"


def test_without_root_the_error_names_the_place_and_the_option(done: RunResult, tmp_path: Path) -> None:
    old = tmp_path / "gone"
    run = OpenedRun(done.path, old)
    with refused(DataError, f"--root {old} is not a folder", "data.root", str(done.path)):
        run.dataset("masks")
    recipe = done.path / "recipe.yaml"
    written = recipe.read_text()
    try:
        recipe.write_text(written.replace(str(run.folder.recipe().data["root"]), str(old)))
        lost = OpenedRun(done.path)
        for look in (
            lambda: evaluate_run(lost), lambda: export_masks(done.path, "palette", tmp_path / "out"),
            lambda: write_report([done.path], tmp_path / "page.html"), lambda: analyse_quality(done.path),
        ):  # fmt: skip
            with pytest.raises(DataError, match=rf"data.root = {old} of .*: tag2mask eval {done.path} --root FOLDER"):
                look()
        (tmp_path / "outer").mkdir()
        inner = shutil.copytree(done.path.parents[1] / "data", tmp_path / "outer" / "data")
        with pytest.raises(DataError, match=f"Did you mean --root {inner}?"):
            OpenedRun(done.path, tmp_path / "outer").dataset("masks")
    finally:
        recipe.write_text(written)


@pytest.mark.parametrize("links", [True, False])
def test_a_run_that_moved_with_its_store_is_whole(links: bool, done: RunResult, tmp_path: Path) -> None:
    """Its links too where they are files, as on a disk that takes no links."""
    shutil.copytree(done.path.parent, tmp_path / "a" / "b", symlinks=True)
    path = tmp_path / "a" / "b" / "run"
    for link in [] if links else list(links_in(path)):
        target = os.readlink(link)
        link.unlink()
        link.with_name(f"{link.name}.link").write_text(f"{target}\n")
    assert evaluate_run(path)
    assert files_of(path) == files_of(done.path)
    assert again(path).metrics == done.metrics


def test_links_that_lead_nowhere_are_looked_for_in_the_store_beside(done: RunResult, tmp_path: Path) -> None:
    """As after a run went out of a sweep, whose store lies one folder further up."""
    shutil.copytree(done.path.parent, tmp_path / "runs", symlinks=True)
    path = tmp_path / "runs" / "run"
    for link in list(links_in(path)):
        target = followed(link).resolve().name
        link.unlink()
        link.symlink_to(f"../../.store/{target}")
    assert evaluate_run(path)
    again(path)
    assert {os.readlink(link)[:10] for link in links_in(path)} == {"../.store/"}


def test_a_copy_without_its_store_is_distinguished_from_one_that_is_not_finished(
    done: RunResult, tmp_path: Path
) -> None:
    path = shutil.copytree(done.path, tmp_path / "alone" / "run", symlinks=True)
    with pytest.raises(StageError) as refused:
        evaluate_run(path)
    text = str(refused.value)
    assert f"'maps' of {path} is not finished here" in text
    assert f"copy its store too, to {tmp_path / 'alone' / '.store'}" in text
    assert "tag2mask pack run" in text
    for look in (lambda: pack_run(path), lambda: analyse_quality(path), lambda: analyse_boundaries(path)):
        with pytest.raises(StageError, match=f"of {path} is not finished here"):
            look()


def test_a_copy_with_its_links_resolved_is_a_run(
    done: RunResult, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As ``cp -rL`` makes it: looked at as it is; a run moves what lies there into its own store and makes nothing."""
    path = shutil.copytree(done.path, tmp_path / "runs" / "copy")
    assert not is_link(path / "masks")
    rows = [row.value for row in evaluate_run(path)]
    before = {p.name: p.read_bytes() for p in (path / "masks" / "masks").iterdir()}
    with caplog.at_level(logging.INFO, "tag2mask"):
        assert again(path).metrics == done.metrics
    assert is_link(path / "masks")
    assert {p.name: p.read_bytes() for p in (path / "masks" / "masks").iterdir()} == before
    assert [row.value for row in evaluate_run(path)] == rows
    assert sum("done already" in text for text in caplog.messages) >= 4
    assert not list(path.parent.glob(".store/.*.adopted"))


def test_a_store_on_a_disk_that_is_not_connected(done: RunResult, tmp_path: Path) -> None:
    path = shutil.copytree(done.path, tmp_path / "runs" / "run", symlinks=True)
    store = tmp_path / "runs" / ".store"
    store.symlink_to(tmp_path / "disk" / "store")
    for look in (lambda: evaluate_run(path), lambda: again(path), lambda: tag2mask.open_run(path).artefact("maps")):
        with refused(StageError, f"store {store} leads to {tmp_path}/disk/store", "connect its disk"):
            look()
    shutil.copytree(done.path.parent / ".store", tmp_path / "disk" / "store")
    assert evaluate_run(path)
