"""Files of the store and the run folder that are not what was written: told, counted as not made, and made again."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tag2mask.analysis.evaluate_run import evaluate_run
from tag2mask.api import run
from tag2mask.core.errors import ConfigError, DamagedError, StageError
from tag2mask.core.files import read_json
from tag2mask.core.manifest import read_manifest
from tag2mask.core.palette import labels_key, read_labels
from tag2mask.inference.maps_file import maps_key, read_maps
from tag2mask.pipeline.export_run import export_masks
from tag2mask.pipeline.keys import ContentHashes
from tag2mask.pipeline.run_result import RunResult
from tag2mask.run_report.rebuild import write_report
from tests.helpers.drawn_maps import copy_of, drawn_maps_kind, few_masks_recipe  # noqa: F401  a fixture
from tests.helpers.refused import refused
from tests.helpers.tiny import files_of

GARBLED = {
    "empty": b"", "cut": b'{\n  "files": {', "a list": b"[]", "no text": b"\x80\x00\xff", "nothing in it": b"{}",
    "other types": b'{"schema": 1, "kind": [], "key": 3}', "deep": b"[" * 100_000,
    "half a pair": b'{"check": "\\ud800"}',
}  # fmt: skip


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    folder = tmp_path_factory.mktemp("damaged")
    return run(str(few_masks_recipe(folder, n=6)), out=folder / "runs" / "run")


@pytest.fixture
def copy(done: RunResult, tmp_path: Path) -> Path:
    """The finished run again, to be damaged."""
    return copy_of(done.path, tmp_path)


def again(folder: Path) -> RunResult:
    return run(str(folder / "recipe.yaml"), out=folder)


@pytest.mark.parametrize("how", GARBLED)
def test_whatever_a_manifest_holds_it_is_reported(how: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(GARBLED[how])
    with pytest.raises(DamagedError, match=r"manifest.json"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("how", ["empty", "cut"])
def test_a_garbled_manifest_counts_as_not_made(
    how: str, copy: Path, done: RunResult, caplog: pytest.LogCaptureFixture
) -> None:
    for stage in ("maps", "few", "masks-score"):
        (copy / stage / "manifest.json").write_bytes(GARBLED[how])
    for looks in (lambda: evaluate_run(copy, stages=["maps"]), lambda: write_report([copy], copy / "page.html")):
        with pytest.raises(StageError, match=r"manifest.json.*: tag2mask run .*recipe.yaml --out"):
            looks()
    with caplog.at_level("WARNING", "tag2mask"):
        result = again(copy)
    assert caplog.text.count("counts as not made and is rerun") == 3, "each once"
    assert files_of(copy) == files_of(done.path)
    assert [s.manifest.key for s in result.stages] == [s.manifest.key for s in done.stages]
    write_report([copy], copy / "page.html")


def test_a_manifest_of_another_artefact_is_reported(
    copy: Path, done: RunResult, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copy(copy / "maps" / "manifest.json", copy / "few" / "manifest.json")
    again(copy)
    assert "manifest.json is that of another artefact; 'few-masks-" in caplog.text
    assert files_of(copy) == files_of(done.path)


def test_a_manifest_with_one_changed_digit_counts_as_not_made(copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = copy / "few" / "manifest.json"
    before = path.read_text()
    path.write_text(before.replace('"pixel-masks:threshold(3)"', '"pixel-masks:threshold(1)"'))
    assert path.read_text() != before
    again(copy)
    assert "do not fit their checksum" in caplog.text
    assert read_json(path)["ledger"] == ["pixel-masks:threshold(3)"]


def test_a_manifest_of_an_older_version_counts_as_before(copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    for path in copy.glob("*/manifest.json"):
        values = read_json(path)
        del values["check"]
        path.write_text(json.dumps(values))
    again(copy)
    assert "not made" not in caplog.text
    assert "check" not in read_json(copy / "few" / "manifest.json"), "not written again"


@pytest.mark.parametrize("how", ["cut", "other types"])
def test_a_chosen_threshold_that_is_garbled_is_chosen_again(
    how: str, copy: Path, done: RunResult, caplog: pytest.LogCaptureFixture
) -> None:
    path = copy / "few" / "threshold.json"
    path.write_bytes(GARBLED[how])
    with refused(StageError, "'few'", "gone or changed", "tag2mask run", "few"):
        write_report([copy], copy / "page.html")
    again(copy)
    assert "threshold.json is gone or changed" in caplog.text
    assert files_of(copy) == files_of(done.path)


@pytest.mark.parametrize("how", ["empty", "a list", "no text", "half a pair"])
def test_what_a_page_can_do_without_does_not_stop_it(how: str, copy: Path) -> None:
    for name in ("environment.json", "metrics.jsonl"):
        (copy / name).write_bytes(GARBLED[how])
    write_report([copy], copy / "page.html")
    assert evaluate_run(copy, stages=["maps"])


@pytest.mark.parametrize("how", ["cut", "other types", "half a pair"])
def test_garbled_memories_are_begun_anew(how: str, copy: Path, done: RunResult) -> None:
    for path in [copy.parent / ".store" / "hashes-0.json", *copy.glob("*/pixels.json")]:
        path.write_bytes(GARBLED[how])
    again(copy)
    assert files_of(copy) == files_of(done.path)
    assert "check" in read_json(copy.parent / ".store" / "hashes-0.json")


def test_a_recipe_of_a_run_that_is_damaged_says_how_it_comes_back(copy: Path) -> None:
    (copy / "recipe.yaml").write_text("")
    with refused(ConfigError, "recipe.yaml", "give the command again", "--out"):
        evaluate_run(copy)


def flip(path: Path) -> None:
    """Change one label of a mask as a defective disk might: the file is decoded, and carries the same texts."""
    with Image.open(path) as image:
        labels, texts, palette = np.array(image), dict(image.info), image.getpalette()
    labels[3, 5] ^= 1
    changed, kept = Image.fromarray(labels, mode="P"), PngInfo()
    assert palette is not None
    changed.putpalette(palette)
    for name, value in texts.items():
        if isinstance(value, str):
            kept.add_text(str(name), value)
    changed.save(path, pnginfo=kept)


def test_a_mask_with_another_label_is_reported_and_rerun(
    copy: Path, done: RunResult, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    few = next(s.artefact.threshold().ids for s in done.stages if s.stage.name == "few")
    path = next(p for p in sorted((copy / "masks" / "masks").iterdir()) if p.stem not in few)
    before = read_labels(path)
    flip(path)
    with Image.open(path) as image:
        assert (np.array(image) != before).sum() == 1, "it can still be decoded"
    assert labels_key(path) is None
    message = rf"{path.name}: its labels do not fit .*: tag2mask run .* --out"
    with pytest.raises(StageError, match=message):
        export_masks(copy, "coco", tmp_path / "out", stage="masks")
    (copy / "masks-score" / "pixels.json").unlink()
    with pytest.raises(StageError, match=message):
        write_report([copy], copy / "page.html")
    made = {s.stage.name: s.manifest.made for s in again(copy).stages}
    assert made["masks"] == 1
    assert f"1 files are damaged, first {path.resolve().parents[2]}" in caplog.text
    assert files_of(copy) == files_of(done.path)


def test_a_mask_without_a_checksum_counts_as_before(copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = sorted((copy / "masks" / "masks").iterdir())[1]
    key = labels_key(path)
    with Image.open(path) as image:
        kept = PngInfo()
        kept.add_text("tag2mask-key", str(key))
        image.load()
        image.save(path, pnginfo=kept)
    assert labels_key(path) == key
    again(copy)
    assert "damaged" not in caplog.text


def test_maps_with_any_byte_changed_are_none_or_the_same(copy: Path) -> None:
    path = sorted((copy / "maps" / "maps").iterdir())[0]
    whole, key, maps = path.read_bytes(), maps_key(path), read_maps(path)
    refused = 0
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        if maps_key(path) is None:
            refused += 1
        else:  # a date, or another byte that says nothing
            assert maps_key(path) == key
            assert (read_maps(path).maps.maps == maps.maps.maps).all()
    assert refused > 0.7 * len(whole) / 7
    path.write_bytes(whole[:-30])
    with pytest.raises(StageError, match=rf"{path.name}.*: tag2mask run .* --out"):
        evaluate_run(copy, stages=["maps"])


def test_what_a_report_has_left_is_no_part_of_a_stage_rerun(copy: Path, done: RunResult) -> None:
    assert (copy / "maps-seeds" / "pixels.json").is_file(), "the report's"
    own = {s.stage.name: set(s.manifest.files) for s in done.stages}
    for stage in ("maps-seeds", "few"):
        (copy / stage / "manifest.json").unlink()
        (copy / stage / "notes.txt").write_text("mine")
    result = again(copy)
    assert {s.stage.name: set(s.manifest.files) for s in result.stages} == own
    assert {s.stage.name: s.manifest.key for s in result.stages} == {s.stage.name: s.manifest.key for s in done.stages}
    assert (copy / "few" / "notes.txt").read_text() == "mine"


# A photo that has changed and looks as before


@pytest.mark.parametrize("how", ["in place", "replaced"])
def test_a_photo_of_the_same_size_and_time_is_read_again(how: str, tmp_path: Path) -> None:
    photo, memory = tmp_path / "photo.png", tmp_path / "hashes.json"
    photo.write_bytes(b"one way")
    first = ContentHashes(memory)
    before, stat = first.file(photo), photo.stat()
    first.save()
    assert ContentHashes(memory).file(photo) == before
    if how == "in place":
        photo.write_bytes(b"another")
    else:
        (tmp_path / "new").write_bytes(b"another")
        (tmp_path / "new").replace(photo)
    os.utime(photo, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (photo.stat().st_size, photo.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    assert first.file(photo) != before
    assert ContentHashes(memory).file(photo) != before


def test_a_memory_of_an_older_version_is_read_again(tmp_path: Path) -> None:
    photo, memory = tmp_path / "photo.png", tmp_path / "hashes.json"
    photo.write_bytes(b"a photo")
    stat = photo.stat()
    memory.write_text(json.dumps({str(photo.resolve()): [stat.st_size, stat.st_mtime_ns, "0" * 64]}))
    assert ContentHashes(memory).file(photo) != "0" * 64
