"""The doctor: each kind of problem is found, all of them at once, and healthy data is left in peace."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tag2mask.core.errors import ConfigError
from tag2mask.core.palette import read_labels, write_labels
from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset, DataSettings, Finding, Labels
from tag2mask.data.cooccurrence import cooccurrence
from tag2mask.data.doctor import checks as doctor
from tag2mask.data.doctor.checks import Report
from tag2mask.data.doctor.tables import ClassCount, SplitCount
from tag2mask.data.registry import data_settings
from tag2mask.data.tag_remarks import remarks
from tests.helpers.draw import draw_coco, draw_folder, draw_voc
from tests.helpers.refused import refused


def examine(kind: str, root: Path | None = None, splits: Sequence[str] | None = None, **settings: Any) -> Report:
    """A quiet examination."""
    return doctor.examine(kind, data_settings(kind, {"root": root, **settings}), splits, workers=2, quiet=True)


def of(report: Report, kind: str) -> list[Finding]:
    """The findings of one kind."""
    return [f for f in report.findings if f.kind == kind]


class Toys(Dataset):
    """A data set in memory: tags and truths by id."""

    name = "toys"

    def __init__(
        self, split: str, classes: Sequence[str], tags: Mapping[str, tuple[int, ...]], truths: Any = None
    ) -> None:
        self.split, self.classes, self.truths = split, tuple(classes), truths or {}
        self.samples = [Sample(i, t) for i, t in sorted(tags.items())]

    def image(self, sample: Sample) -> Image.Image:
        return Image.new("RGB", (4, 3))

    def truth(self, sample: Sample) -> Labels | None:
        return self.truths.get(sample.id)

    @property
    def has_truth(self) -> bool:
        return bool(self.truths)


def examine_toys(monkeypatch: pytest.MonkeyPatch, *datasets: Toys, **settings: Any) -> Report:
    """Examine data sets in memory as if a reader had opened them."""
    by_name = {d.split: d for d in datasets}
    monkeypatch.setattr(doctor, "open_split", lambda _, __, split: by_name[split])
    return doctor.examine("toys", DataSettings(**settings), list(by_name), workers=2, quiet=True)


def labels(*values: int) -> Labels:
    """A 3 x 4 truth that holds the values and background."""
    return np.array([*values] + [0] * (12 - len(values)), np.uint8).reshape(3, 4)


def test_healthy_drawn_scenes_have_no_finding() -> None:
    report = examine("parts", images=30, size=64)
    assert report.findings == ()
    assert (report.exit_code(), report.exit_code(strict=True)) == (0, 0)
    assert report.splits == (SplitCount("train", 30, 0, 30, 0), SplitCount("val", 30, 0, 30, 0))
    assert all(min(c.images) >= 5 for c in report.classes)


@pytest.mark.parametrize("kind", ["voc", "folder"])
def test_healthy_files_have_no_finding(kind: str, tmp_path: Path) -> None:
    scenes = (draw_voc if kind == "voc" else draw_folder)(tmp_path, n=12)
    report = examine(kind, tmp_path)
    assert [f for f in report.findings if f.severity != "note"] == []
    for column, row in enumerate(report.classes):
        with_tag = sum(column in s.tags for s in scenes.values())
        parts = row.images[:2] if kind == "voc" else row.images[2:]
        assert sum(parts) == with_tag == report.together[column][column]


def test_everything_wrong_is_found_in_one_go(tmp_path: Path) -> None:
    """A truncated, an empty and a wrong file, a mask of another size, one with a strange index, one that is broken."""
    draw_folder(tmp_path, n=12)
    images, masks = tmp_path / "images", tmp_path / "masks"
    names = sorted(p.stem for p in images.iterdir())
    whole = (images / f"{names[0]}.png").read_bytes()
    (images / f"{names[0]}.png").write_bytes(whole[: len(whole) // 2])
    (images / f"{names[1]}.png").write_bytes(b"")
    (images / f"{names[2]}.png").write_text("not an image")
    write_labels(masks / f"{names[3]}.png", np.zeros((5, 5), np.uint8))
    write_labels(masks / f"{names[4]}.png", np.full_like(read_labels(masks / f"{names[4]}.png"), 9))
    (masks / f"{names[5]}.png").write_bytes(b"")
    report = examine("folder", tmp_path, ["all"])
    assert sorted(f.ids[0] for f in of(report, "image")) == names[:3]
    assert sorted(f.ids[0] for f in of(report, "mask")) == names[3:6]
    text = {f.ids[0]: f.text for f in report.findings}
    assert "truncated" in text[names[0]]
    assert "is empty (0 bytes)" in text[names[1]]
    assert "no image that can be read" in text[names[2]]
    assert "is 5 x 5 pixels, its image" in text[names[3]]
    assert "holds index 9: expected 0 (background), 1..3" in text[names[4]]
    assert "is empty (0 bytes)" in text[names[5]]
    assert not any("doctor" in t for t in text.values())
    assert report.splits == (SplitCount("all", 12, 3, 6, 0),)
    assert (report.count("error"), report.exit_code()) == (6, 1)


def test_a_tag_outside_the_class_list_does_not_hide_broken_files(tmp_path: Path) -> None:
    draw_folder(tmp_path, n=6)
    (tmp_path / "classes.txt").write_text("disc\nsquare\n")
    broken = sorted((tmp_path / "images").iterdir())[4]
    broken.write_bytes(b"")
    Image.new("RGB", (4, 4)).save(tmp_path / "images" / f"{broken.stem}.bmp")
    report = examine("folder", tmp_path)
    assert report.splits == ()
    assert any(f.ids == (broken.stem,) and "0 bytes" in f.text for f in of(report, "image"))
    assert [f.text.rpartition(" holds ")[2] for f in of(report, "stem")] == [
        f"{broken.stem}.bmp, {broken.name}: one name before the ending"
    ]
    assert len(of(report, "open")) == 1
    assert report.exit_code() == 1
    (tmp_path / "images" / f"{broken.stem}.bmp").unlink()
    (opening,) = of(examine("folder", tmp_path), "open")
    assert "unknown class 'stripe'" in opening.text
    assert opening.ids == ("train", "val", "all")


def test_one_split_that_does_not_open_leaves_the_other_examined(tmp_path: Path) -> None:
    draw_voc(tmp_path, n=4)
    (tmp_path / "Annotations" / "2007_000001.xml").write_text("<annotation><object>")
    report = examine("voc", tmp_path)
    assert [s.split for s in report.splits] == ["val"]
    (opening,) = of(report, "open")
    assert opening.ids == ("train",)
    assert "2007_000001.xml, line 1: not valid XML" in opening.text


def test_a_missing_root_is_one_error_for_all_splits(tmp_path: Path) -> None:
    report = examine("voc", tmp_path / "nowhere")
    (finding,) = report.findings
    assert (finding.kind, finding.severity, finding.ids) == ("open", "error", ("train", "val"))
    assert "does not exist: expected a folder with JPEGImages/" in finding.text
    assert (report.classes, report.together) == ((), ())


def test_unknown_reader_names_the_nearest() -> None:
    with refused(ConfigError, "'vox'", "did you mean 'voc'"):
        doctor.examine("vox", data_settings("parts", {}), quiet=True)


def test_two_files_with_one_stem_that_the_reader_bears_are_a_warning(tmp_path: Path) -> None:
    draw_coco(tmp_path, n=3)
    folder = tmp_path / "train2017"
    Image.new("RGB", (4, 4)).save(folder / "000000000001.png")
    report = examine("coco", tmp_path)
    (finding,) = of(report, "stem")
    assert (finding.severity, finding.ids) == ("warning", ("000000000001",))
    assert "000000000001.jpg, 000000000001.png: one name before the ending" in finding.text
    assert (report.exit_code(), report.exit_code(strict=True)) == (0, 1)


def test_ids_in_two_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    train = Toys("train", "ab", {"x": (0,), "y": (1,)})
    val, everything = Toys("val", "ab", {"y": (1,), "z": (0,)}), Toys("all", "ab", dict.fromkeys("xyz", (0, 1)))
    report = examine_toys(monkeypatch, train, val, everything, infer="all")
    (finding,) = of(report, "split")
    assert (finding.severity, finding.ids, finding.text) == ("warning", ("y",), "1 ids are in 'train' and in 'val'")
    assert finding.kind == "split"
    assert len(of(examine_toys(monkeypatch, train, val, everything), "split")) == 2


def test_classes_without_images_are_a_warning_where_they_should_train(monkeypatch: pytest.MonkeyPatch) -> None:
    train, val = Toys("train", ["cat", "dog", "cow"], {"1": (0,)}), Toys("val", ["cat", "dog", "cow"], {"2": (0, 2)})
    report = examine_toys(monkeypatch, train, val)
    first, second = of(report, "class")
    assert (first.severity, first.ids, first.text) == (
        "warning", ("dog", "cow"), "2 of 3 classes have no image in 'train'",
    )  # fmt: skip
    assert (second.severity, second.ids) == ("note", ("dog",))
    assert report.classes == (ClassCount("cat", (1, 1)), ClassCount("dog", (0, 0)), ClassCount("cow", (0, 1)))


def test_the_training_split_is_known_by_the_name_requested(tmp_path: Path) -> None:
    """COCO opens `train` as `train2017`."""
    draw_coco(tmp_path, n=1)
    finding = of(examine("coco", tmp_path), "class")[0]
    assert (finding.severity, finding.text) == ("warning", "2 of 3 classes have no image in 'train2017'")


def test_splits_with_other_classes_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    report = examine_toys(monkeypatch, Toys("train", "ab", {"1": (0,)}), Toys("val", "ba", {"2": (0,)}))
    finding = of(report, "class")[0]
    assert (finding.severity, finding.ids) == ("error", ("val",))
    assert finding.text == "split 'val' has classes ['b', 'a'], 'train' ['a', 'b']"
    assert [s.split for s in report.splits] == ["train"]


def test_cooccurrence_is_counted_over_distinct_images(monkeypatch: pytest.MonkeyPatch) -> None:
    tags = {f"{i:02d}": t for i, t in enumerate([(0,), (0, 1), (0, 1), (1, 2), (), (0, 1, 2)])}
    report = examine_toys(monkeypatch, Toys("train", "abc", tags), Toys("again", "abc", tags))
    slow = [[sum(a in t and b in t for t in tags.values()) for b in range(3)] for a in range(3)]
    assert [list(row) for row in report.together] == slow == [[4, 3, 1], [3, 4, 2], [1, 2, 2]]
    assert report.splits[0].untagged == 1


def paired(n_b: int, n_both: int, n_other: int = 5) -> Toys:
    """Class 1 in ``n_b`` images, ``n_both`` of them with class 0, and ``n_other`` images of class 0 and of none."""
    rows: list[tuple[int, ...]] = [(0, 1)] * n_both + [(1,)] * (n_b - n_both) + [(0,)] * n_other * 4 + [()] * n_other
    return Toys("train", ["person", "horse"], {f"{i:03d}": t for i, t in enumerate(rows)})


@pytest.mark.parametrize(
    ("n_b", "n_both", "found"), [(10, 9, True), (10, 8, False), (9, 9, False), (20, 18, True), (20, 17, False)]
)
def test_pairs_that_come_together_in_nine_of_ten_images(
    monkeypatch: pytest.MonkeyPatch, n_b: int, n_both: int, found: bool
) -> None:
    findings = of(examine_toys(monkeypatch, paired(n_b, n_both)), "together")
    assert len(findings) == found
    if found:
        assert findings[0].ids == ("horse", "person")
        assert findings[0].text == f"'horse' is hardly ever seen without 'person': {n_both} of the {n_b} images"
        assert findings[0].severity == "warning"


@pytest.mark.parametrize(
    "tags",
    [[(0, 1)] * 9 + [(1,)] + [(0,)] * 20, [(0, 1)] * 9 + [(0,)] * 20, [(0, 1)] * 10 + [(0,)], [(0,)] * 10, [(0,)] * 9],
)
def test_the_doctor_says_of_tags_what_the_analysis_of_them_says(
    monkeypatch: pytest.MonkeyPatch, tags: list[tuple[int, ...]]
) -> None:
    report = examine_toys(monkeypatch, Toys("train", "ab", {f"{i:02d}": t for i, t in enumerate(tags)}))
    found = [f for f in report.findings if f.kind == "together" or "images are tagged" in f.text]
    said = [r for r in remarks(cooccurrence(tags, "ab")) if r.kind in {"together", "everywhere"}]
    assert [(f.ids, f.text, f.remedy) for f in found] == [(r.classes, r.text, r.remedy) for r in said]


def test_a_class_in_every_image_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tags = {f"{i:02d}": (0, 1 + i % 2) for i in range(20)}
    report = examine_toys(monkeypatch, Toys("train", "abc", tags))
    assert [(f.kind, f.ids) for f in report.findings if f.severity == "warning"] == [("class", ("a",))]
    assert of(report, "class")[0].text == "all 20 images are tagged 'a'"


def test_masks_and_tags_that_disagree(monkeypatch: pytest.MonkeyPatch) -> None:
    truths = {"1": labels(1), "2": labels(1, 2, 255), "3": labels(255), "4": labels(2)}
    tags = {"1": (0,), "2": (0,), "3": (0,), "4": (1,), "5": (0,)}
    findings = of(examine_toys(monkeypatch, Toys("train", ["cat", "dog"], tags, truths)), "tags")
    assert [(f.severity, f.ids, f.text) for f in findings] == [
        ("warning", ("3",), "1 of 4 images with masks are tagged 'cat' but their masks show none"),
        ("warning", ("2",), "1 of 4 images with masks show 'dog' in the mask but lack the tag"),
    ]


def test_what_a_careless_reader_lets_through_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    truths = {"1": np.zeros((4, 3), np.uint8), "2": labels(1, 7, 9)}
    report = examine_toys(monkeypatch, Toys("train", ["cat"], {"1": (), "2": (0,)}, truths))
    assert [f.text for f in of(report, "mask")] == [
        "the mask of '1' is 3 x 4 pixels, its image 4 x 3",
        "the mask of '2' holds 7, 9: expected 0..1 or 255",
    ]
    assert report.exit_code() == 1


def test_no_masks_is_a_note_and_some_missing_a_warning(tmp_path: Path) -> None:
    draw_folder(tmp_path, n=9)
    (tmp_path / "masks" / "photo 04.png").unlink()
    (finding,) = of(examine("folder", tmp_path, ["all"]), "truth")
    assert (finding.severity, finding.ids) == ("warning", ("photo 04",))
    assert finding.text == "1 of 9 images in 'all' have no mask, the others have"
    draw_folder(tmp_path / "bare", n=9, masks=False)
    report = examine("folder", tmp_path / "bare", ["all"])
    (finding,) = of(report, "truth")
    assert (finding.severity, finding.text) == ("note", "split 'all' has no masks")
    assert report.exit_code(strict=True) == 0


def test_errors_come_first_and_examining_twice_finds_the_same(tmp_path: Path) -> None:
    draw_folder(tmp_path, n=6)
    (tmp_path / "masks" / "photo 05.png").unlink()
    (tmp_path / "images" / "photo 01.png").write_bytes(b"")
    first, second = examine("folder", tmp_path), examine("folder", tmp_path)
    assert first == second
    order = [f.severity for f in first.findings]
    assert order == sorted(order, key=["error", "warning", "note"].index)
    assert len(set(first.findings)) == len(first.findings)


def test_a_folder_that_cannot_be_listed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_folder(tmp_path, n=3)
    (tmp_path / "classes.txt").write_text("disc\n")
    closed = tmp_path / "closed"
    closed.mkdir()
    listing = Path.iterdir

    def refuse(self: Path) -> Any:
        if self == closed:
            raise PermissionError(13, "Permission denied")
        return listing(self)

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert [f.ids for f in of(examine("folder", tmp_path), "image")] == [("closed",)]
