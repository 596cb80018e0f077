"""``tag2mask predict`` as a user meets it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tag2mask.cli.app import app
from tag2mask.core.errors import ConfigError, DataError, StageError, WeightsError
from tag2mask.core.files import read_json
from tag2mask.core.palette import read_labels
from tests.helpers.refused import lacking, refused
from tests.helpers.tiny import tag2mask
from tests.segmentation.saved_net import STAGES, tiny, write_run
from tests.segmentation.toy_net import predict_labels


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "run", STAGES, {"segmenter": tiny()})


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for i, name in enumerate(("a.png", "sub/b.jpg")):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (30, 41, 3), dtype=np.uint8)).save(path)
    return tmp_path / "photos"


def predict(*words: str | Path) -> str:
    """Output of the command; raises what it raises."""
    done = CliRunner().invoke(app, ["predict", *map(str, words), "--device", "cpu"], catch_exceptions=False)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def test_masks_of_a_folder(run: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert predict(run, photos, "--out", out).strip().endswith(f"2 made, 0 there already, 0 failed: {out}")
    net = tiny()
    for name in ("a", "sub/b"):
        path = next(photos.glob(f"{name}.*"))
        expected = predict_labels(net, np.asarray(Image.open(path)), net.mean, net.std)
        assert np.array_equal(read_labels(out / "masks" / f"{name}.png"), expected)
    assert "0 made, 2 there already" in predict(run, photos, "--out", out)


def test_options_reach_the_masks(run: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["--scales", "0.5,1", "--mirror", "--crf", "deeplabv2", "--tile", "64", "--overlap", "16", "--overlay"]
    predict(run, photos / "a.png", "--out", out, "--fit", "64,32", "--batch", "2", *words)
    assert read_json(out / "predictions.json")["choices"] == {
        "scales": [0.5, 1.0], "mirror": True, "crf": "deeplabv2", "fit": [64, 32], "tile": 64, "overlap": 16,
        "precision": "float32",
    }  # fmt: skip
    assert sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()) == [
        "classes.txt", "masks/a.png", "overlays/a.jpg", "predictions.json", "sources.json",
    ]  # fmt: skip


def test_a_bad_photo_ends_in_an_error_after_the_others(
    run: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (photos / "bad.png").write_bytes(b"no photo")
    with refused(DataError, "1 of 3 photos", "bad.png: cannot read"):
        predict(run, photos, "--out", tmp_path / "out")
    assert {p.name for p in (tmp_path / "out" / "masks").rglob("*.png")} == {"a.png", "b.png"}


def test_mistakes_are_reported_before_anything_is_written(run: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no image"):
        predict(run, tmp_path / "empty", "--out", out)
    with pytest.raises(WeightsError, match="nothing does not exist"):
        predict("nothing", photos, "--out", out)
    with pytest.raises(ConfigError, match="unknown stage of kind 'segmenter'"):
        predict(run, photos, "--out", out, "--stage", "none")
    for words, text in (
        (["--scales", "1;2"], "--scales '1;2': expected numbers with commas"),
        (["--fit", "64"], r"'fit' = \(64.0,\): expected \[long side, short side\]"),
        (["--fit", "64,1.5"], "'fit.1' = 1.5: .* valid integer"),
        (["--fit", "nan,1"], "'fit.0' = nan: .* finite number"),
        (["--crf", "none"], "'crf' = 'none': .*'deeplabv2'"),
        (["--batch", "0"], "batch = 0: expected 1 or more"),
    ):
        with pytest.raises(ConfigError, match=text):
            predict(run, photos, "--out", out, *words)
    assert not out.exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine")
    with pytest.raises(StageError, match="holds other things"):
        predict(run, photos, "--out", tmp_path / "full")


def test_a_mistake_has_no_traceback_and_exit_code_2(tmp_path: Path) -> None:
    done = tag2mask("predict", "nothing", str(tmp_path), "--out", str(tmp_path / "out"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: folder {tmp_path} holds no image")


def test_a_file_that_ends_too_early_is_not_taken_for_a_key_that_was_pressed(
    run: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Typer says "Aborted!" of every EOFError, whoever raises it."""

    def end(*_: object) -> None:
        raise EOFError("no data left")

    monkeypatch.setattr("tag2mask.segmentation.predict.find_photos.find_sources", end)
    with refused(DataError, "ends before it should", "no data left", "test_predict.py, line"):
        predict(run, photos, "--out", tmp_path / "out")


def test_broken_photos_end_with_status_2_and_all_others_have_masks(run: Path, photos: Path, tmp_path: Path) -> None:
    os.mkfifo(photos / "pipe.jpg")
    Image.new("RGB", (3, 3)).save(photos / os.fsdecode(b"caf\xe9.png"))
    (photos / "half.tif").write_bytes(b"II*\0\x08\0\0\0\xff\xff")
    done = tag2mask("predict", str(run), str(photos), "--out", str(tmp_path / "out"), "--device", "cpu")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "2 made, 0 there already, 3 failed" in done.stdout
    assert not lacking(done.stderr, "error: 3 of 5 photos")
    assert r"caf\xe9.png has a name" in done.stderr
