"""Tags that a table parts or spells otherwise than it should: named with the remedy, and the remedy works."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tag2mask.core.errors import ConfigError, DataError
from tag2mask.data.base import Dataset, Finding
from tag2mask.data.doctor import checks as doctor
from tag2mask.data.registry import data_settings, load_dataset
from tag2mask.data.tag_names import several_in
from tests.helpers.draw import save_image, write
from tests.helpers.refused import refused


def table(root: Path, *rows: str) -> Path:
    """A folder with a table of these rows, and an image for each id in them."""
    for name in {row.partition(",")[0] for row in rows}:
        save_image(root / "images" / name, np.full((4, 4, 3), 7, dtype=np.uint8))
    write(root / "tags.csv", "image,tags\n" + "".join(f"{row}\n" for row in rows))
    return root


def tags(dataset: Dataset) -> dict[str, tuple[str, ...]]:
    return {s.id: tuple(dataset.classes[c] for c in s.tags) for s in dataset.samples}


def findings(root: Path, kind: str = "name", **settings: Any) -> list[Finding]:
    report = doctor.examine("folder", data_settings("folder", {"root": root, **settings}), ["all"], quiet=True)
    return [f for f in report.findings if f.kind == kind]


@pytest.mark.parametrize("separator", [",", "|", " ", "/", "+", "&", ", "])
def test_tags_parted_otherwise_are_named_with_the_setting_that_parts_them(tmp_path: Path, separator: str) -> None:
    both = separator.join(("cat", "dog"))
    root = table(tmp_path, f'1.png,"{both}"', "2.png,cat", "3.png,dog", "4.png,")
    (finding,) = findings(root)
    assert (finding.severity, finding.ids) == ("warning", (both,))
    assert f"data.separator='{separator.strip() or ' '}'" in finding.remedy
    assert findings(root, separator=separator) == []
    right = load_dataset("folder", root, "all", separator=separator)
    assert tags(right) == {"1": ("cat", "dog"), "2": ("cat",), "3": ("dog",), "4": ()}


@pytest.mark.parametrize(
    ("name", "names", "separator"),
    [
        ("traffic light", ["traffic sign", "red light", "car"], None),
        ("traffic light", ["traffic", "light"], " "),
        ("cat dog", ["dog cat"], " "),
        ("hot_dog", ["dog"], None),
        ("TV/monitor", ["chair"], None),
        ("TV/monitor", ["monitor"], "/"),
        ("tench, Tinca tinca", ["goldfish, Carassius auratus"], None),
        ("cat,dog", ["cow"], ","),
        ("cat|dog", [], "|"),
        ("Cat,Dog", ["cat", "dog"], ","),
        ("t-shirt", ["shirt"], None),
        ("a|", ["b"], None),
    ],
)
def test_names_of_one_thing_are_left_in_peace(name: str, names: list[str], separator: str | None) -> None:
    assert several_in(name, [name, *names]) == separator


def test_several_separators_may_be_given(tmp_path: Path) -> None:
    root = table(tmp_path, '1.png,"cat, dog|cow"', "2.png,cat;dog")
    dataset = load_dataset("folder", root, "all", separator=[",", "|", ";"])
    assert tags(dataset) == {"1": ("cat", "cow", "dog"), "2": ("cat", "dog")}


@pytest.mark.parametrize("value", ["", [], [""], 3, {"a": 1}])
def test_a_separator_is_text(value: object) -> None:
    with refused(ConfigError, "'data.separator' =", "between two tags", "separator=','"):
        data_settings("folder", {"separator": value})


def test_each_cell_behind_the_image_may_be_a_tag(tmp_path: Path) -> None:
    root = table(tmp_path, "1.png,cat,dog", "2.png,cat", "3.png,,")
    with pytest.raises(DataError, match=r"line 2: '1\.png,cat,dog' has 3 cells.*\"data\.separator=','\""):
        load_dataset("folder", root, "all")
    dataset = load_dataset("folder", root, "all", separator=",")
    assert tags(dataset) == {"1": ("cat", "dog"), "2": ("cat",), "3": ()}


def test_a_declared_class_list_says_which_separator_is_meant(tmp_path: Path) -> None:
    root = table(tmp_path, "1.png,cat dog", "2.png,cat")
    with pytest.raises(DataError, match=r"1\.png: unknown class 'cat dog'.*\"data\.separator=' '\""):
        load_dataset("folder", root, "all", all_classes=["cat", "dog"])


def test_classes_that_differ_in_case_are_named_and_folded(tmp_path: Path) -> None:
    root = table(tmp_path, "1.png,Cat;cat", "2.png,cat", "3.png,CAT;Dog")
    (finding,) = findings(root)
    assert (finding.severity, finding.ids) == ("warning", ("CAT", "Cat", "cat"))
    assert "data.fold_case=true" in finding.remedy
    folded = load_dataset("folder", root, "all", fold_case=True)
    assert tags(folded) == {"1": ("cat",), "2": ("cat",), "3": ("cat", "dog")}
    assert findings(root, fold_case=True) == []
    declared = load_dataset("folder", root, "all", fold_case=True, all_classes=["Dog", "Cat"], classes=["CAT"])
    assert (declared.classes, tags(declared)["3"]) == (("Cat",), ("Cat",))
    with refused(DataError, "data.fold_case", "Cat, cat one"):
        load_dataset("folder", root, "all", fold_case=True, all_classes=["Cat", "cat", "dog"])


def test_class_folders_that_differ_in_case_are_one_where_it_is_folded(tmp_path: Path) -> None:
    for number, name in enumerate(("Cat", "cat", "dog")):
        save_image(tmp_path / name / f"{number}.png", np.full((4, 4, 3), number, dtype=np.uint8))
    assert [f.ids for f in findings(tmp_path)] == [("Cat", "cat")]
    assert tags(load_dataset("folder", tmp_path, "all", fold_case=True)) == {
        "0": ("cat",),
        "1": ("cat",),
        "2": ("dog",),
    }


def test_names_that_differ_in_blanks_are_named(tmp_path: Path) -> None:
    root = table(tmp_path, "1.png,traffic light", "2.png,Traffic_Light", "3.png,")
    (finding,) = findings(root)
    assert finding.ids == ("Traffic_Light", "traffic light")
    assert "fold_case" not in finding.remedy


def test_a_row_for_each_tag_is_joined_and_noted(tmp_path: Path) -> None:
    root = table(tmp_path, "1.png,cat", "2.png,dog", "1.png,dog", "1.png,cat", "3.png,", "3.png,")
    assert tags(load_dataset("folder", root, "all")) == {"1": ("cat", "dog"), "2": ("dog",), "3": ()}
    (finding,) = findings(root, "tags")
    assert (finding.severity, finding.ids) == ("note", ("1", "3"))
    assert "several rows" in finding.text
    write(root / "tags.csv", "image,tags\n1.png,cat\n1.png,\n2.png,\n3.png,\n")
    with refused(DataError, "line 3: image '1'", "in line 2 already", "joined", "shows 'cat'"):
        load_dataset("folder", root, "all")
