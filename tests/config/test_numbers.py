"""Yes and no are no numbers: no setting counts them as 1 and 0."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_origin

import pytest
from pydantic import Field

from tag2mask.config.engine import Engine
from tag2mask.config.recipe import Recipe, load_recipe
from tag2mask.config.settings import Settings, validate
from tag2mask.core.errors import ConfigError
from tag2mask.data.registry import READERS, reader
from tag2mask.methods.registry import stage_kinds
from tag2mask.pipeline import plan
from tests.helpers.refused import refused

SCHEMAS: dict[str, type[Settings]] = {
    **{name: kind.settings for name, kind in stage_kinds().items()},
    **{f"data {name}": reader(name).SETTINGS for name in READERS},
    "engine": Engine,
    "recipe": Recipe,
}


def types(annotation: Any) -> set[Any]:
    """All that an annotation names, however deep."""
    return {annotation, get_origin(annotation)}.union(*map(types, get_args(annotation)))


def numbers(schema: type[Settings]) -> Iterator[tuple[str, Any]]:
    """Dotted key of every field that holds numbers and no booleans, and true in the form of its value."""
    for name, field in schema.model_fields.items():
        named = types(field.annotation)
        for inner in (t for t in named if isinstance(t, type) and issubclass(t, Settings)):
            yield from ((f"{name}.{key}", value) for key, value in numbers(inner))
        if named & {int, float} and bool not in named:
            yield name, filled(field.annotation, len(field.default) if isinstance(field.default, tuple) else 1)


def filled(annotation: Any, length: int) -> Any:
    """A value of that form with true in the place of each number; None where there is none."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if annotation in {int, float}:
        return True
    if origin is tuple:
        return [filled(parts[0], 1)] * (max(length, 1) if parts[-1] is ... else len(parts))
    if origin in {dict, Mapping}:
        return {(1 if int in types(parts[0]) else "a"): filled(parts[1], 1)}
    return next((value for value in (filled(part, length) for part in parts) if value is not None), None)


def nested(key: str, value: Any) -> dict[str, Any]:
    first, _, rest = key.partition(".")
    return {first: nested(rest, value) if rest else value}


@pytest.mark.parametrize("name", SCHEMAS)
def test_yes_is_no_number_in_any_setting(name: str) -> None:
    for key, value in numbers(SCHEMAS[name]):
        with pytest.raises(ConfigError) as caught:
            validate(SCHEMAS[name], nested(key, value), "here")
        told = [line for line in str(caught.value).splitlines() if line.startswith(f"setting 'here.{key}")]
        assert told, f"{key}: {caught.value}"
        assert "True" in told[0]
        assert "should be" in told[0]


def test_the_schemas_have_numbers_of_each_form() -> None:
    found = {f"{name}.{key}": value for name in SCHEMAS for key, value in numbers(SCHEMAS[name])}
    assert len(found) > 100
    assert found["classifier.train.epochs"] is True
    assert found["recipe.seeds"] == [True]
    assert {1: True} in found.values()


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("classifier.train.epochs=yes", "classifier.train.epochs' = True … valid integer, not true"),
        ("seeds=[0, true]", "seeds' = [0, True] … valid integer, not true"),
        ("cam.scales=[1.0, on]", "cam.scales' = [1.0, True] … valid number, not true"),
        ("engine.workers=off", "engine.workers' = False … valid integer, not false"),
    ],
)
def test_the_text_has_the_key_the_value_and_what_was_expected(word: str, text: str) -> None:
    with refused(ConfigError, text):
        plan.make_plan(load_recipe("demo", [word]))


class Mixed(Settings):
    whole: int = 1
    real: float = 1.0
    pair: tuple[float, ...] = ()
    flag: bool = False
    either: dict[str, bool | int] = Field(default_factory=dict)
    inner: tuple[Engine, ...] = ()


def test_what_is_meant_stays() -> None:
    given = {"whole": 2.0, "real": 3, "pair": [1, "1e-3"], "flag": True, "either": {"a": True, "b": 1}}
    read = validate(Mixed, given, "")
    assert (read.whole, read.real, read.pair, read.flag) == (2, 3.0, (1.0, 1e-3), True)
    assert [type(v) for v in read.either.values()] == [bool, int]
    assert validate(Mixed, {"flag": 0}, "").flag is False


def test_a_list_of_settings_is_looked_into() -> None:
    with pytest.raises(ConfigError, match=r"inner.0.workers' = True"):
        validate(Mixed, {"inner": [{"workers": True}]}, "")
