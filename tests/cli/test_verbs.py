"""The command line as a user meets it: what goes to which stream, exit codes, no traceback for a mistake."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tag2mask.cli.app import app
from tag2mask.cli.tables import table
from tag2mask.config.recipe import shipped
from tag2mask.core.files import read_json
from tag2mask.core.palette import write_labels
from tag2mask.evaluation.measures.trivial import TRIVIAL
from tag2mask.pipeline.run_result import RunResult
from tests.helpers.draw import draw_voc
from tests.helpers.refused import lacking
from tests.helpers.results import read_results
from tests.helpers.tiny import TINY_NETWORK, tag2mask, tiny_run

VERBS = [command.name for command in app.registered_commands]


def test_the_verbs_of_the_design_are_there() -> None:
    assert set(VERBS) == {
        "run", "demo", "doctor", "eval", "predict", "prototypes", "report", "sweep", "compare", "export", "pack",
        "store", "ls", "show", "cp",
    }  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_each_verb_has_an_example(verb: str) -> None:
    done = tag2mask(str(verb), "--help")
    assert done.returncode == 0
    assert f"Example: tag2mask {verb}" in " ".join(done.stdout.split())


def test_ls_lists_recipes_stages_and_readers() -> None:
    done = tag2mask("ls")
    assert done.returncode == 0
    for name in (*shipped(), "classifier", "lpcam", "voc", "coco", "folder", "parts"):
        assert f"  {name} " in done.stdout
    wrong = tag2mask("ls", "recipe")
    assert wrong.returncode == 2
    assert not lacking(wrong.stderr, "error: … 'recipe' … did you mean 'recipes'? … Known: readers, recipes, stages")


def test_show_prints_the_resolved_recipe_and_cp_keeps_the_comments(tmp_path: Path) -> None:
    shown = tag2mask("show", "demo", "cam.scales=[1.0]")
    assert shown.returncode == 0
    assert "    mirror: true\n" in shown.stdout
    assert "    n_prototypes: 12      # K\n" in shown.stdout
    done = tag2mask("cp", "demo", str(tmp_path / "mine.yaml"))
    assert done.returncode == 0
    assert "# demo:" in (tmp_path / "mine.yaml").read_text()
    again = tag2mask("cp", "demo", str(tmp_path / "mine.yaml"))
    assert again.returncode == 2
    assert not lacking(again.stderr, "exists … remove it … name another file")
    assert tag2mask("cp", "demo", str(tmp_path / "mine.txt")).stderr.startswith("error: target")


def test_a_mistake_is_one_line_on_stderr_with_exit_code_2() -> None:
    done = tag2mask("show", "demo", "cam.scale=1")
    assert (done.returncode, done.stdout) == (2, "")
    assert not lacking(done.stderr, "error: … 'cam.scale' … did you mean 'scales'?")
    assert done.stderr.count("\n") == 1


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    return tiny_run(tmp_path_factory.mktemp("run"))


def test_run_prints_plain_lines_and_a_table(tmp_path: Path) -> None:
    words = [*TINY_NETWORK, "data.images=4", "data.size=64", "prototypes.n_prototypes=2"]
    done = tag2mask("run", "demo", *words, "--out", str(tmp_path / "runs" / "x"))
    assert done.returncode == 0, done.stderr
    assert "classifier: 4 images, 2 epochs; at most 3 MB on disk while it trains, 1 MB after" in done.stderr
    assert "cam: 4 images, at most 1 MB on disk" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == [
        "stage",
        "split",
        "images",
        "threshold",
        "at",
        "miou",
        "fg",
        "f1",
        *(["iou@2px"] if "iou@2px" in lines[0] else []),
        "fp",
        "fn",
        "precision",
        "recall",
    ]
    assert sum(line.startswith("lpcam ") for line in lines) == 2
    assert lines[-1] == f"report:     {tmp_path / 'runs' / 'x' / 'report.html'}"


def test_eval_at_given_thresholds_writes_the_columns_of_results(run: RunResult, tmp_path: Path) -> None:
    out = tmp_path / "rows.csv"
    done = tag2mask("eval", str(run.path), "--stage", "lpcam", "--threshold", "0.4", "--csv", str(out))
    assert done.returncode == 0, done.stderr
    rows = read_results(out)
    assert {r.threshold_kind for r in rows if r.method == "lpcam"} == {"fixed", "oracle"}
    assert {r.method for r in rows if r.threshold_kind == "none"} == set(TRIVIAL)
    wanted = next(r.value for r in run.metrics if (r.stage, r.metric, r.threshold_kind) == ("lpcam", "miou", "fixed"))
    assert next(r.value for r in rows if (r.metric, r.threshold_kind) == ("miou", "fixed")) == wanted


def test_prototypes_are_shown_dropped_recorded_and_the_maps_rerun(run: RunResult) -> None:
    shown = tag2mask("prototypes", str(run.path))
    assert shown.returncode == 0, shown.stderr
    assert "foreground:0" in shown.stdout
    page = (run.path / "prototypes.html").read_text()
    assert "foreground:0" in page
    assert "data:image" in page
    blocks = [b.splitlines() for b in shown.stdout.split("\n\n")]
    name = next(lines[0] for b in blocks if "foreground:0" in "".join(b) for lines in [[w for w in b if w]])
    keys = {n: read_json(run.path / n / "manifest.json")["key"] for n in ("cam", "prototypes", "lpcam-f", "lpcam")}
    dropped = tag2mask("prototypes", str(run.path), "drop", name, "foreground:0")
    assert dropped.returncode == 0, dropped.stderr
    assert f"- {name} foreground:0" in (run.path / "recipe.yaml").read_text()
    after = {n: read_json(run.path / n / "manifest.json")["key"] for n in keys}
    assert [n for n in keys if keys[n] != after[n]] == ["lpcam-f", "lpcam"]
    assert "dropped by hand" in tag2mask("prototypes", str(run.path)).stdout


def test_prototypes_that_are_not_there(run: RunResult) -> None:
    before = (run.path / "recipe.yaml").read_text()
    wrong = tag2mask("prototypes", str(run.path), "drop", "nobody", "foreground:0")
    assert wrong.stderr.startswith("error: unknown class 'nobody'")
    wrong = tag2mask("prototypes", str(run.path), "drop", "train", "foreground:77")
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("error: ")
    assert "class 'train' has" in wrong.stderr
    wrong = tag2mask("prototypes", str(run.path), "forget")
    assert f"write: tag2mask prototypes {run.path} drop CLASS foreground:N" in wrong.stderr
    assert (run.path / "recipe.yaml").read_text() == before


def test_doctor_finds_a_broken_image_and_says_so_with_its_exit_code(tmp_path: Path) -> None:
    draw_voc(tmp_path / "voc")
    fine = tag2mask("doctor", str(tmp_path / "voc"))
    assert fine.returncode == 0, fine.stdout
    assert "data: voc" in fine.stdout
    assert "images that carry both tags" in fine.stdout
    victim = sorted((tmp_path / "voc" / "JPEGImages").iterdir())[0]
    victim.write_bytes(b"")
    broken = tag2mask("doctor", "voc", f"root={tmp_path / 'voc'}")
    assert broken.returncode == 1
    assert "error [image]" in broken.stdout
    assert victim.stem in broken.stdout


def test_doctor_of_nothing_names_the_kinds() -> None:
    done = tag2mask("doctor", "nowhere")
    assert done.returncode == 2
    assert not lacking(done.stderr, "'nowhere' … (voc, coco, folder, parts) … folder")
    assert "is not key=value" in tag2mask("doctor", "parts", "images").stderr


def test_doctor_strict_takes_warnings_for_errors(tmp_path: Path) -> None:
    root = tmp_path / "voc"
    draw_voc(root)
    mask = sorted((root / "SegmentationClass").iterdir())[0]
    with Image.open(mask) as image:
        write_labels(mask, np.zeros((image.height, image.width), np.uint8))  # tagged, and nothing of it in the mask
    plain, strict = tag2mask("doctor", str(root)), tag2mask("doctor", str(root), "--strict")
    assert plain.returncode == 0, plain.stdout
    assert "warning [" in plain.stdout
    assert strict.returncode == 1


def test_tables_align_words_left_and_numbers_right() -> None:
    assert table(["name", "x"], [["a", "1.0"], ["long", "12.5"]]) == "name     x\n----  ----\na      1.0\nlong  12.5"
