"""A part of a split, asked of every registered reader that draws files, and the texts of its errors."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tag2mask.core.errors import DataError
from tag2mask.data.base import Dataset
from tag2mask.data.registry import load_dataset
from tests.helpers.draw import draw_coco, draw_folder, draw_voc

DRAWERS: dict[str, Callable[[Path], object]] = {"voc": draw_voc, "coco": draw_coco, "folder": draw_folder}


@pytest.fixture(params=[*sorted(DRAWERS), "parts"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], Dataset]:
    kind = str(request.param)
    if kind == "parts":
        return lambda split: load_dataset("parts", None, split, images=6, size=64)
    DRAWERS[kind](tmp_path / "data")
    return lambda split: load_dataset(kind, tmp_path / "data", split)


def test_a_part_has_the_listed_images_in_the_order_of_the_split(
    opened: Callable[[str], Dataset], tmp_path: Path
) -> None:
    whole = opened("train")
    first, last = whole.samples[0], whole.samples[-1]
    listed = tmp_path / "list.txt"
    listed.write_text(f"{last.id}\n\n{first.id}\n{last.id}\n", encoding="utf-8")
    part = opened(f"train@{listed}")
    assert part.samples == (first, last)
    assert part.classes == whole.classes
    assert part.split == f"{whole.split}@{listed}"
    assert np.array_equal(np.asarray(part.image(last)), np.asarray(whole.image(last)))
    truth, same = part.truth(first), whole.truth(first)
    assert truth is not None
    assert same is not None
    assert np.array_equal(truth, same)
    assert len(opened("train")) == len(whole)  # the split itself is as it was


def test_an_image_of_another_split_is_refused_with_the_line(opened: Callable[[str], Dataset], tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    stranger, whole = opened("val").samples[0].id, opened("train")
    listed.write_text(f"{whole.samples[0].id}\n{stranger}\n", encoding="utf-8")
    text = f"list.txt, line 2: split '{whole.split}' has no image '{stranger}'; did you mean '"
    with pytest.raises(DataError, match=text):
        opened(f"train@{listed}")


def test_an_empty_list_and_no_list_are_refused(opened: Callable[[str], Dataset], tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n")
    split = opened("train").split
    with pytest.raises(DataError, match=rf"empty\.txt lists no image: expected ids of split '{split}', one a line"):
        opened(f"train@{tmp_path / 'empty.txt'}")
    with pytest.raises(DataError, match=r"cannot read .*none\.txt"):
        opened(f"train@{tmp_path / 'none.txt'}")
