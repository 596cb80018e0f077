"""Names that cannot be printed as they are, in a form that can."""

import os
from pathlib import Path

import pytest

from tag2mask.core.names import is_utf8, printable, shown


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("photo ä 日本.jpg", "photo ä 日本.jpg"),
        (os.fsdecode(b"caf\x82.jpg"), r"caf\x82.jpg"),
        (Path(os.fsdecode(b"d\xff/caf\x82.jpg")), r"d\xff/caf\x82.jpg"),
        ("a\ud800b\udfff", r"a\ud800b\udfff"),
        ("a\x1b[31mb\nc\x85\u2028", r"a\x1b[31mb\nc\x85\u2028"),
        ("a\u202egpj.exe", r"a\u202egpj.exe"),
        ("back\\slash", "back\\slash"),
    ],
)
def test_what_cannot_be_printed_is_escaped_on_one_line(name: str | Path, expected: str) -> None:
    assert shown(name) == expected
    assert shown(name).encode("utf-8").decode("utf-8").isprintable()


def test_a_text_keeps_its_lines() -> None:
    assert printable("one\n\ttwo \x1b\udc82") == "one\n\ttwo \\x1b\\x82"


def test_names_in_another_encoding_are_known() -> None:
    assert is_utf8("ä")
    assert is_utf8(Path("ä/b"))
    assert not is_utf8(os.fsdecode(b"\xff"))
    assert not is_utf8("\ud800")
