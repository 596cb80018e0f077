"""The table of tags: what people's spreadsheets write, and what is wrong with it in words."""

from pathlib import Path

import pytest

from tag2mask.core.errors import DataError
from tag2mask.data.readers.tag_table import read_table, split_tags
from tests.helpers.draw import write
from tests.helpers.refused import refused

IMAGES = {name: Path(f"{name}.jpg") for name in ("one", "two", "three")}


def tags(tmp_path: Path, text: str) -> dict[str, tuple[str, ...]]:
    return {i: row.tags for i, row in read_table(write(tmp_path / "tags.csv", text), IMAGES).items()}


EXPECTED = {"one": ("cat", "dog"), "two": (), "three": ("café au lait",)}


@pytest.mark.parametrize(
    "text",
    [
        "image,tags\none.jpg,cat;dog\ntwo.jpg,\nthree.jpg,café au lait\n",
        "\ufeffimage,tags\r\none.jpg,cat;dog\r\ntwo.jpg,\r\nthree.jpg,café au lait\r\n",
        'image,tags\n\n"one.jpg","cat; dog ;"\ntwo,""\nthree,cafe\u0301 au lait',
        'image;tags\r\none.jpg;"cat;dog"\r\ntwo.jpg;\r\nthree.jpg;café au lait\r\n',
        " image , tags \n one.jpg , cat ; dog \ntwo.jpg, \n,\nthree.jpg,café au lait\n",
    ],
    ids=["plain", "bom-crlf", "quotes-nfd", "semicolon", "spaces"],
)
def test_every_usual_spelling_gives_the_same_tags(tmp_path: Path, text: str) -> None:
    assert tags(tmp_path, text) == EXPECTED


def test_an_empty_cell_is_a_negative_and_a_missing_row_an_error(tmp_path: Path) -> None:
    assert tags(tmp_path, "image,tags\none,a\ntwo,\nthree,\n")["two"] == ()
    with refused(DataError, "tags.csv", "no row for 2 images", "'two'", "empty tag cell ('two,')"):
        tags(tmp_path, "image,tags\none,a\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\none,a\n", "tags.csv starts with 'file,label' … 'image,tags'"),
        ("one.jpg,cat\n", "starts with 'one.jpg,cat' … 'image,tags'"),
        ("image\ttags\none\tcat\n", "starts with 'image\ttags': expected"),
        ("", "starts with '' … 'image,tags'"),
        ("image,tags\none,cat,dog\n", "line 2: 'one,cat,dog' has 3 cells … parted by ';'"),
        (
            "image;tags\none;cat;dog\n",
            "line 2: 'one;cat;dog' has 3 cells … need quotes: photo1.jpg;\"cat;dog\"",
        ),
        ("image,tags\none\n", "line 2: 'one' has 1 cells … expected image and tags"),
        ("image,tags\n,cat\n", "line 2: ',cat' has 2 cells"),
        (
            "image,tags\none,a\none.jpg,\n",
            "line 3: image 'one' … in line 2 already … empty tag cell … are joined",
        ),
        ("image,tags\nthre.jpg,a\n", "line 2 … no image 'thre' … did you mean 'three.jpg'?"),
        ("image,tags\nqqqqqq.jpg,a\n", "line 2: there is no image 'qqqqqq'"),
        ("image,tags\nsub/one.jpg,a\n", "line 2 … 'sub/one.jpg' names a folder … the file name alone"),
        ("image,tags\n..\\one.jpg,a\n", "line 2: image '..\\one.jpg' names a folder"),
        ('image,tags\none,"cat\n', "tags.csv, line 2 … not valid CSV … unexpected end of data"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with refused(DataError, message) as caught:
        tags(tmp_path, text)
    assert ("did you mean" in str(caught.value)) == ("did you mean" in message), "a far name is nobody's"


def test_other_encodings_and_missing_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes("image,tags\none,Löwe\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin\.csv is not UTF-8: save it as 'CSV UTF-8'"):
        read_table(tmp_path / "latin.csv", IMAGES)
    (tmp_path / "excel.csv").write_bytes("image,tags\n".encode("utf-16"))
    with pytest.raises(DataError, match=r"excel\.csv is not UTF-8"):
        read_table(tmp_path / "excel.csv", IMAGES)
    with refused(DataError, "cannot read", "gone.csv: No such file"):
        read_table(tmp_path / "gone.csv", IMAGES)


def test_tags_are_split_at_every_separator_given() -> None:
    assert split_tags(" cat ;dog;; ") == ("cat", "dog")
    assert split_tags("cat+dog,bird;cow", ";,+") == ("cat", "dog", "bird", "cow")
    assert split_tags("cat+dog") == ("cat+dog",)
    assert split_tags("") == ()
