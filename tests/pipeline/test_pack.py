"""A packed run: one folder or zip that every command reads wherever it lies, its photos apart."""

from __future__ import annotations

import logging
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

import tag2mask
from tag2mask.analysis.evaluate_run import evaluate_run
from tag2mask.cli.app import app
from tag2mask.compare.compare import compare_runs
from tag2mask.core.errors import ConfigError, DataError, StageError, WeightsError
from tag2mask.core.links import PACKED, links_in
from tag2mask.evaluation.measures.trivial import TRIVIAL
from tag2mask.pipeline.export_run import export_masks
from tag2mask.pipeline.opened_run import OpenedRun
from tag2mask.pipeline.pack import pack_run
from tag2mask.pipeline.run_result import RunResult
from tag2mask.run_report.rebuild import write_report
from tests.helpers.drawn_maps import drawn_maps_kind, few_masks_recipe  # noqa: F401  a fixture
from tests.helpers.refused import refused
from tests.helpers.tiny import files_of, tiny_run


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    folder = tmp_path_factory.mktemp("packed")
    return tag2mask.run(str(few_masks_recipe(folder, n=6)), out=folder / "runs" / "run")


@pytest.fixture
def apart(done: RunResult, tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """The run packed as a zip and unpacked elsewhere, and its photos, which have moved; the run itself is away."""
    zipped = pack_run(done.path, tmp_path / "mine.zip")
    with zipfile.ZipFile(zipped) as archive:
        archive.extractall(tmp_path / "far" / "away")
    data, photos = done.path.parents[1] / "data", tmp_path / "photos"
    away = done.path.parent.rename(tmp_path / "away")
    data.rename(photos)
    yield tmp_path / "far" / "away" / "run", photos
    photos.rename(data)
    away.rename(done.path.parent)


def test_a_packed_run_with_its_photos_is_a_run(apart: tuple[Path, Path], tmp_path: Path) -> None:
    path, photos = apart
    run = OpenedRun(path, photos)
    assert run.packed
    assert not [p for p in path.rglob("*") if p.is_symlink()]
    assert len(list((path / PACKED).iterdir())) == len({str(run.artefact(n).path) for n in run.stages})
    assert {row.stage for row in evaluate_run(run)} == {"maps", *TRIVIAL}
    assert write_report([run], tmp_path / "page.html") > 10_000
    assert export_masks(path, "palette", tmp_path / "out", root=photos).images == 6
    compared = compare_runs([run], stages=["crf-score", "masks-score"], out=tmp_path / "compared", resamples=10)
    assert compared.pairs[0].line.n_images == 3
    before = files_of(path)
    result = tag2mask.run(str(path / "recipe.yaml"), f"data.root={photos}", out=path)
    assert result.metrics == tuple(run.metrics)
    assert files_of(path) == before, "resuming it makes nothing again, in the store inside"
    assert {link.resolve().parent for link in links_in(path)} == {(path / PACKED).resolve()}
    assert not (path.parent / ".store").exists()


def test_without_its_photos_it_says_what_it_knows_and_what_it_cannot(
    apart: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, _ = apart
    with caplog.at_level(logging.WARNING, "tag2mask"):
        rows = evaluate_run(path)
    assert rows == list(OpenedRun(path).metrics)
    assert {row.stage for row in rows if row.metric == "miou"} == {"maps", "crf", "masks", *TRIVIAL}
    assert "was packed without its photos: these are the numbers that it measured" in caplog.text
    for look in (
        lambda: evaluate_run(path, thresholds=[0.3]), lambda: write_report([path], tmp_path / "page.html"),
        lambda: export_masks(path, "palette", tmp_path / "out"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=rf"packed without its photos.*tag2mask eval {path} --root FOLDER"):
            look()


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_a_run_whose_photos_have_moved_is_packed_with_their_place(done: RunResult, tmp_path: Path, form: str) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(done.path.parents[1] / "data", photos)
    out = tmp_path / ("far.zip" if form == "zip" else "far")
    typer.main.get_command(app)(
        ["pack", str(done.path), "--out", str(out), "--root", str(photos)], standalone_mode=False
    )
    if form == "zip":
        with zipfile.ZipFile(out) as archive:
            archive.extractall(tmp_path)
    packed = OpenedRun(tmp_path / done.path.name if form == "zip" else out)
    assert packed.plan.data.root == photos
    assert list(packed.metrics) == list(OpenedRun(done.path).metrics)
    assert OpenedRun(done.path).plan.data.root == done.path.parents[1] / "data"


def test_what_cannot_be_packed_is_refused(done: RunResult, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ConfigError, match=f"--out {done.path}/inside lies in the run"):
        pack_run(done.path, done.path / "inside")
    (tmp_path / "there.zip").write_bytes(b"mine")
    with pytest.raises(StageError, match=r"there\.zip exists; nothing was written"):
        pack_run(done.path, tmp_path / "there.zip")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    with pytest.raises(StageError, match=r"full holds other things \(mine\)"):
        pack_run(done.path, tmp_path / "full")
    with refused(StageError, "there.zip", "packed run", "unpack it"):
        tag2mask.open_run(tmp_path / "there.zip")
    with refused(WeightsError, "there.zip", "run folder", "packed run is unpacked"):
        tag2mask.load(tmp_path / "there.zip")
    begun = shutil.copytree(done.path, tmp_path / "begun", ignore=lambda _, names: set(names) - {"recipe.yaml"})
    with refused(StageError, str(begun), "no stage", "finished", "tag2mask run"):
        pack_run(begun)
    shutil.copytree(done.path.parent, tmp_path / "part", symlinks=True)
    (tmp_path / "part" / "run" / "masks-score").unlink()
    assert pack_run(tmp_path / "part" / "run") == tmp_path / "part" / "run-packed"
    assert "not finished, and left out: masks-score" in caplog.text
    assert not (tmp_path / "part" / "run-packed" / "masks-score.link").exists()


def test_a_packed_network_predicts(tmp_path: Path) -> None:
    made = tiny_run(tmp_path, recipe="own-data", out="net")
    packed = pack_run(made.path, tmp_path / "x")
    before = tag2mask.load(made.path, device="cpu").hash
    shutil.rmtree(made.path.parent)
    model = tag2mask.load(packed, device="cpu")
    assert model.hash == before
    assert model.origin.numbers
