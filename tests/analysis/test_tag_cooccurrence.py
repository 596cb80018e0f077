"""Tags that come together, of a data set and of a run: files, numbers, the heat map, the gallery, mistakes."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest

from tag2mask.analysis.tag_cooccurrence import analyse_cooccurrence
from tag2mask.api import run
from tag2mask.core.errors import ConfigError, DataError
from tag2mask.data.cooccurrence import cooccurrence
from tag2mask.data.registry import load_dataset
from tag2mask.report.figures import draw_shares
from tests.helpers.draw import CLASSES, draw_folder
from tests.helpers.drawn_maps import drawn_maps_kind, few_masks_recipe  # noqa: F401  a fixture
from tests.helpers.refused import refused
from tests.helpers.tiny import tiny_run


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_tags_of_a_folder_are_counted_and_drawn(tmp_path: Path) -> None:
    draw_folder(tmp_path / "data", masks=False)  # no truth is needed
    words = [str(tmp_path / "data"), "tags=tags.csv"]
    report = analyse_cooccurrence(words, split="all", out=tmp_path / "out")
    dataset = load_dataset("folder", tmp_path / "data", "all", tags="tags.csv")
    expected = cooccurrence([s.tags for s in dataset.samples], dataset.classes)
    assert report.split == "all"
    np.testing.assert_array_equal(report.found.counts, expected.counts)
    names = ["co-occurrence.csv", "co-occurrence-classes.csv", "co-occurrence.svg"]
    assert list(report.files) == [tmp_path / "out" / name for name in names]
    pairs, classes = lines(report.files[0]), lines(report.files[1])
    assert [(p["a"], p["b"], int(p["images_both"])) for p in pairs] == [
        (p.a, p.b, p.images_both) for p in expected.pair_lines()
    ]
    assert [c["name"] for c in classes] == list(CLASSES)
    assert [int(c["images"]) for c in classes] == expected.images.tolist()
    svg = report.files[2].read_text()
    assert "Tags that come together, all, 12 images" in svg
    share = f"{100 * expected.conditional[0, 1]:.0f}"
    assert re.search(rf">\s*{share}\s*<", svg)
    assert report.prototypes == ()


def test_a_run_knows_its_data_and_the_split_that_trains(tmp_path: Path) -> None:
    path = few_masks_recipe(tmp_path)
    made = run(str(path), "allow_supervision=[tags,pixel-masks:threshold(3)]", out=tmp_path / "runs" / "run")
    report = analyse_cooccurrence([str(made.path)])
    assert report.split == "train"
    assert report.found.n_images == len(load_dataset("folder", tmp_path / "data", "train", tags="tags.csv"))
    assert report.files[0] == made.path / "analysis" / "co-occurrence.csv"
    assert len(report.files) == 3  # no prototypes, no gallery
    assert analyse_cooccurrence([str(made.path)], split="all").found.n_images == 12


def test_wrong_words_are_refused(tmp_path: Path) -> None:
    draw_folder(tmp_path / "data")
    with refused(DataError, "'nowhere'", "kind of data"):
        analyse_cooccurrence(["nowhere"])
    with pytest.raises(ConfigError, match="unknown setting 'data.tgas': did you mean 'tags'"):
        analyse_cooccurrence([str(tmp_path / "data"), "tgas=x"])
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").write_text("")
    with refused(ConfigError, "'tags=x'", "give --split, or name"):
        analyse_cooccurrence([str(tmp_path / "run"), "tags=x"])


def test_a_heat_map_writes_its_numbers_and_leaves_blanks(tmp_path: Path) -> None:
    shares = np.array([[1, 0.37], [np.nan, 1]])
    draw_shares(["a cat", "b"], shares, "Title", tmp_path / "a.svg")
    svg = (tmp_path / "a.svg").read_text()
    texts = [t.strip() for t in re.findall(r"<text[^>]*>([^<]*)</text>", svg)]
    assert {"Title", "a cat", "b", "37"} <= set(texts)
    assert "100" not in texts  # the diagonal says nothing
    assert "nan" not in svg
    draw_shares(["a cat", "b"], shares, "Title", tmp_path / "b.svg")
    assert (tmp_path / "b.svg").read_bytes() == (tmp_path / "a.svg").read_bytes()
    with refused(DataError, "shape (2, 2)", "1 names", "expected (1, 1)"):
        draw_shares(["a"], shares, "Title", tmp_path / "c.svg")


def test_many_classes_are_drawn_without_numbers(tmp_path: Path) -> None:
    names = [f"class {i}" for i in range(31)]
    draw_shares(names, np.full((31, 31), 0.37), "Title", tmp_path / "a.svg")
    svg = (tmp_path / "a.svg").read_text()
    assert "class 30" in svg
    assert not re.search(r">\s*37\s*<", svg)


@pytest.mark.slow
def test_prototypes_of_a_run_are_shown(tmp_path: Path) -> None:
    made = tiny_run(tmp_path)
    report = analyse_cooccurrence([str(made.path)], out=tmp_path / "out")
    assert [p.name for p in report.files[3:]] == ["co-occurrence-prototypes.csv", "co-occurrence.html"]
    written = lines(report.files[3])
    assert [line["prototype"] for line in written] == [line.prototype for line in report.prototypes]
    for name in {line.name for line in report.prototypes}:
        own = [line for line in report.prototypes if line.name == name]
        contexts = [line.score for line in own if line.prototype.startswith("context")]
        assert [line.prototype.startswith("context") for line in own[: len(contexts)]] == [True] * len(contexts)
        assert contexts == sorted(contexts, reverse=True)
    page = report.files[4].read_text()
    assert all(f"<code>{line.prototype}</code>" in page for line in report.prototypes)
