"""Words of a grid: where commas cut, what is refused, names of folders."""

from __future__ import annotations

import pytest

from tag2mask.core.errors import ConfigError
from tag2mask.sweep.grid import as_numbers, check_grid, from_words, grid_points, point_name, split_values
from tests.helpers.refused import refused


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0.05,0.1", ("0.05", "0.1")),
        ("0.1, 0.2 ", ("0.1", "0.2")),
        ("[1.0,0.5],[1.0]", ("[1.0,0.5]", "[1.0]")),
        ("{a: 1, b: [2, 3]},null", ("{a: 1, b: [2, 3]}", "null")),
        ("'a,b',\"c,'d\"", ("'a,b'", '"c,\'d"')),
        ("[cat,cow]", ("[cat,cow]",)),
        ("'/data,old'", ("'/data,old'",)),
        ("x", ("x",)),
        ("1,", ("1", "")),
    ],
)
def test_commas_cut_outside_of_brackets_and_quotes(text: str, values: tuple[str, ...]) -> None:
    assert split_values(text) == values


def test_words_with_several_values_are_axes_and_the_others_overrides() -> None:
    words = ["lpcam.tau=0.1,0.2", "data.root=photos", "cam.scales=[1.0,0.5],[1.0]", "seeds=[0,1]", "data.root=a=b"]
    grid, overrides = from_words(words)
    assert grid == {"lpcam.tau": ("0.1", "0.2"), "cam.scales": ("[1.0,0.5]", "[1.0]")}
    assert overrides == ("data.root=photos", "seeds=[0,1]", "data.root=a=b")
    assert grid_points(grid) == (
        ("0.1", "[1.0,0.5]"), ("0.1", "[1.0]"), ("0.2", "[1.0,0.5]"), ("0.2", "[1.0]"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["a.b=1"], "nothing to sweep … such as prototypes.tau=0.05,0.1,0.2"),
        (["a.b=1,2", "a.b=3,4"], "'a.b=3,4': a.b is swept already"),
    ],
)
def test_words_without_a_grid(words: list[str], text: str) -> None:
    with refused(ConfigError, text):
        from_words(words)


@pytest.mark.parametrize(
    ("grid", "overrides", "text"),
    [
        ({}, [], "nothing to sweep … has no setting"),
        ({"seeds": ["0", "1"]}, [], "'seeds=0,1': 'seeds' cannot be swept … seeds=[0,1]"),
        ({"engine.device": ["cpu", "cuda"]}, [], "engine.device=cpu,cuda … a stage or data"),
        ({"a.b": ["1", "2"]}, ["a.b=3"], "a.b is swept ('a.b=1,2') and set ('a.b=3')"),
        ({"a.b": ["1", ""]}, [], "'a.b=1,' has an empty value"),
        ({"a.b": []}, [], "'a.b=' has an empty value"),
        ({"a.b": ["0.1", "0.2", "0.10"]}, [], "'a.b=0.1,0.2,0.10' has one value twice: 0.1 and 0.10"),
        ({"a.b": ["[1", "2"]}, [], "'a.b=[1,2': the value [1 is not YAML"),
    ],
)
def test_grids_that_are_refused(grid: dict[str, list[str]], overrides: list[str], text: str) -> None:
    with refused(ConfigError, text):
        check_grid(grid, overrides)


def test_names_of_points_are_the_settings_and_safe() -> None:
    assert point_name(["lpcam.tau", "lpcam.k"], ["0.1", "8"]) == "lpcam.tau=0.1+lpcam.k=8"
    lists = {point_name(["cam.scales"], [v]) for v in ("[1.0,0.5]", "[1.0 0.5]", "[1.0/0.5]")}
    assert len(lists) == 3  # told apart by a hash, as all would be cam.scales=-1.0-0.5-
    assert all(name.startswith("cam.scales=-1.0-0.5--") and "/" not in name for name in lists)
    assert len(point_name(["a"], ["x" * 500])) < 120


def test_numbers() -> None:
    assert as_numbers(["0.1", "1e-3", "2"]) == (0.1, 0.001, 2.0)
    assert as_numbers(["0.1", "null"]) is None
    assert as_numbers(["1", "inf"]) is None
