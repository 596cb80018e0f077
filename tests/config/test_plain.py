"""YAML that people write: what is read as what, and that nothing odd ends in anything but a text with its place."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import pytest

from tag2mask.config.plain import parse_yaml, read_yaml
from tag2mask.config.recipe import load_recipe, recipe_text
from tag2mask.core.errors import ConfigError
from tag2mask.pipeline.plan import make_plan
from tests.helpers.refused import refused

READ: list[tuple[str, Any]] = [
    ("{a: 1, b: [1.5, -2, null, true, x]}", {"a": 1, "b": [1.5, -2, None, True, "x"]}),
    ("2020-01-01", "2020-01-01"),  # a day is a name, such as that of a split
    ("2020-01-01 10:00:00", "2020-01-01 10:00:00"),
    ("{255: 1}", {255: 1}),
    ("1e-3", "1e-3"),  # YAML's own rule; the setting makes a number of it
    ("", None),
    ("a: &x {b: 1}\nc: *x", {"a": {"b": 1}, "c": {"b": 1}}),
    ("a: &x {b: 1, c: 2}\nd: {<<: *x, b: 3}", {"a": {"b": 1, "c": 2}, "d": {"b": 3, "c": 2}}),
    ("{<<: [{a: 1}, {a: 2, b: 2}], c: 3}", {"a": 1, "b": 2, "c": 3}),
]

REFUSED = {
    "an integer without digits": ("a: 0x_", r"'0x_' is not an integer.*\(line 1, column 4\)"),
    "a float without digits": ("!!float q", "'q' is not a number"),
    "5000 digits": ("9" * 5000, r"999… \(4940 more characters\)' is not an integer of at most 64 bits"),
    "5000 hex digits": ("0x" + "f" * 5000, "is not an integer of at most 64 bits"),
    "65 bits": ("18446744073709551616", "is not an integer of at most 64 bits"),
    "no ground truth": ("!!bool maybe", "'maybe' is not true or false"),
    "deep lists": ("[" * 3000 + "]" * 3000, r"nested deeper than 32 \(line 1, column 33\)"),
    "deep mappings": ("{a: " * 3000, "nested deeper than 32"),
    "deep by anchors": (
        "- &n0 [1]\n" + "".join(f"- &n{i} [*n{i - 1}]\n" for i in range(1, 40)),
        "nested deeper than 32",
    ),
    "an anchor in itself": ("&a [*a]", "an anchor that holds itself"),
    "billion laughs": (
        "a: &a [1,1,1,1,1,1,1,1,1]\n"
        + "".join(f"{c}: &{c} [{','.join([f'*{p}'] * 9)}]\n" for p, c in itertools.pairwise("abcdefghi")),
        "more than 20000 values",
    ),
    "a key twice": ("a: 1\nb: 2\na: 3", r"'a' stands twice, first in line 1; keep one \(line 3, column 1\)"),
    "a key twice, inside": ("x: {b: 1, b: 1}", "'b' stands twice"),
    "a key that is true": ("{yes: 1}", "the key 'yes' is read as true or false.*quotes"),
    "a key that is null": ("{~: 1}", "the key '~' is read as null"),
    "a key that is a number": ("{1.5: 1}", "the key '1.5' is read as a number"),
    "a key that is a list": ("{[a]: 1}", "the key a list or mapping is read as no key"),
    "half a character": (r'"\ud800"', "is not text without NUL, in Unicode"),
    "NUL": (r'"a\0"', "is not text without NUL"),
    "a bare NUL": ("a\0", r"the character \\x00 at position 1"),
    "a byte that is not UTF-8": (os.fsdecode(b"caf\xe9"), r"the character \\xe9 at position 3"),
    "no character": (r'"\Uffffffff"', "is not YAML"),
    "a binary": ("!!binary aGk=", "the tag 'tag:yaml.org,2002:binary' has no meaning here"),
    "an object": ("!!python/object/apply:os.system [x]", "has no meaning here"),
    "a set": ("!!set {a}", "has no meaning here"),
    "a merge of a list": ("{<<: [1]}", "'<<' takes a mapping"),
    "two documents": ("--- a\n--- b", "expected a single document"),
    "a tab": ("a:\n\tb: 1", r"not YAML.*\(line 2, column 1\)"),
    "an end too early": ("a: [1", "not YAML"),
}


@pytest.mark.parametrize(("text", "value"), READ)
def test_plain_values_are_read(text: str, value: Any) -> None:
    assert parse_yaml(text, "it") == value


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_plain_is_refused_with_its_place(case: str) -> None:
    text, message = REFUSED[case]
    with pytest.raises(ConfigError, match=message) as caught:
        parse_yaml(text, "recipe mine.yaml")
    assert "recipe mine.yaml" in str(caught.value)
    assert len(str(caught.value)) < 500
    str(caught.value).encode("utf-8")


def test_files_that_are_no_recipe(tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "latin.yaml").write_bytes("name: café".encode("latin-1"))
    (tmp_path / "wide.yaml").write_bytes("name: x".encode("utf-16"))
    (tmp_path / "large.yaml").write_text("#" * (1 << 20))
    for name, message in {
        "folder.yaml": "is a folder or a device: name a .yaml file",
        "pipe.yaml": "is a folder or a device",
        "latin.yaml": "byte 9 is not UTF-8; save it as UTF-8",
        "wide.yaml": "byte 0 is not UTF-8",
        "large.yaml": "has more than 256 kB",
        "missing.yaml": "No such file",
        f"{'n' * 5000}.yaml": "File name too long",
    }.items():
        with pytest.raises(ConfigError, match=message) as caught:
            read_yaml(tmp_path / name, "recipe")
        assert len(str(caught.value)) < 1000


def test_a_key_that_stands_twice_in_a_recipe_is_named(tmp_path: Path) -> None:
    text = recipe_text("own-data")
    path = tmp_path / "mine.yaml"
    path.write_text(f"{text}seeds: [3]\n", encoding="utf-8")
    with refused(ConfigError, "mine.yaml", "'seeds' stands twice", "first in line", "keep one"):
        load_recipe(str(path))


ODD = {
    "stages=3": "setting 'stages' = 3",
    "stages={1: {kind: cam}}": "setting 'stages.1",
    "cam=null": "setting 'stages.cam' = None",
    "cam.kind=[cam]": "'stages.cam.kind' = ['cam'] is not a name",
    "cam.reads=[classifier]": "cam.reads = ['classifier'] … a stage for each role",
    "cam.reads=3": "cam.reads = 3",
    "cam.reads={classifier: [classifier]}": "cam.reads.classifier = ['classifier'] … name of one stage",
    "cam.reads={classifier: null}": "cam.reads.classifier = None",
    "cam.reads={1: classifier}": "unknown role 'cam.reads.1'",
    "cam.seed=-1": "cam.seed = -1: expected an integer from 0",
    "seeds=[-1]": "setting 'seeds.0' = -1",
    "seeds=[18446744073709551615]": "setting 'seeds.0'",
    "data.kind=[voc]": "'data.kind' = ['voc'] is not a name",
    "data=3": "setting 'data' = 3",
    "classifier.train.lr=.inf": "classifier.train.lr' = inf … a finite number",
    "classifier.train.lr=.nan": "finite number",
    f"{'x.' * 5000}y=1": "no setting is 5001 levels deep",
    f"{'x' * 5000}=1": "unknown setting 'xxxxxxxx … (4800 more characters)'",
    f"name={'n' * 5000}-ä": "setting 'name'",
    f"allow_supervision=[{','.join(['1'] * 500)}]": "and 480 more problems",
}


@pytest.mark.parametrize("override", ODD, ids=lambda text: text[:40])
def test_odd_overrides_are_refused_by_name(override: str) -> None:
    with refused(ConfigError, ODD[override]) as caught:
        make_plan(load_recipe("demo", [override]))
    assert len(str(caught.value)) < 4000
