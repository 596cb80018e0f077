"""The base of every settings schema: frozen, complete, strict about unknown keys, errors one line each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_serializer,
)

from tag2mask.core.errors import ConfigError, nearest
from tag2mask.core.names import shortened

_MOST_LINES = 20
S = TypeVar("S", bound="Settings")

ADDED: Final[dict[str, Any]] = {"added": True}
"""``json_schema_extra`` of a field that came after the first release: at its default it is in no key, so that what a
store holds is not rerun for a setting that changes nothing."""
UNPRINTED: Final[dict[str, Any]] = {**ADDED, "unprinted": True}
"""As `ADDED`, of a field that a resolved recipe does not show at its default either."""


class Settings(BaseModel):
    """Settings of a stage, data set or recipe; subclasses list fields with types, ranges and descriptions."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)

    @field_validator("*", mode="wrap")
    @classmethod
    def _numbers_are_numbers(cls, given: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        """Refuse yes and no in the place of a number: pydantic would count them as 1 and 0."""
        found = handler(given)
        if (counted := next(_counted(given, found), None)) is not None:
            yes, number = counted
            kind = "integer" if isinstance(number, int) else "number"
            word = str(yes).lower()
            raise ValueError(f"input should be a valid {kind}, not {word} (yes and on are true, no and off are false)")
        return found

    @model_serializer(mode="wrap")
    def _without_unprinted(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = handler(self)
        for name, field in type(self).model_fields.items():
            if field.json_schema_extra == UNPRINTED and getattr(self, name) == field.get_default(
                call_default_factory=True
            ):
                values.pop(name, None)
        return values


def _counted(given: Any, found: Any) -> Iterator[tuple[bool, int | float]]:
    """The booleans of what was given, however deep, that became numbers, each with what it became."""
    if isinstance(given, bool):
        if isinstance(found, int | float) and not isinstance(found, bool):
            yield given, found
    elif isinstance(given, Mapping) and isinstance(found, Mapping):
        yield from _counted([*given, *given.values()], [*found, *found.values()])
    elif isinstance(given, Sequence) and isinstance(found, Sequence) and not isinstance(given, str):
        for one, its in zip(given, found, strict=False):
            yield from _counted(one, its)


def key_values(settings: Settings) -> dict[str, Any]:
    """What a stage's key takes of its settings: all as plain values, but `ADDED` fields only off their default."""
    values = settings.model_dump(mode="json")
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if field.json_schema_extra == ADDED and value == field.default:
            del values[name]
        elif isinstance(value, Settings) and name in values:
            values[name] = key_values(value)
    return values


def validate(schema: type[S], values: Mapping[str, Any], where: str) -> S:
    """Build a settings class from values of YAML; ``where`` is a prefix for errors, such as ``stages.cam``."""
    try:
        return schema.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError("\n".join(describe(error, schema, where))) from error


def describe(error: ValidationError, schema: type[BaseModel], where: str = "") -> list[str]:
    """One line for each problem that pydantic found, in the words of the recipe."""
    every = error.errors()
    around = {e["loc"][:-1] for e in every}  # a list that is too short, as pydantic counts, only by its wrong parts
    found = [e for e in every if e["type"] != "too_short" or e["loc"] not in around]
    more = [f"and {len(found) - _MOST_LINES} more problems"] if len(found) > _MOST_LINES else []
    return [*(_line(dict(e), schema, where) for e in found[:_MOST_LINES]), *more]


def _line(problem: dict[str, Any], schema: type[BaseModel], where: str) -> str:
    path = [shortened(p) for p in problem["loc"]]
    key = ".".join([where, *path] if where else path)
    if problem["type"] == "extra_forbidden":
        valid = _fields_at(schema, path[:-1])
        near = nearest(path[-1], valid)
        hint = f"did you mean '{near}'?" if near else f"known: {', '.join(sorted(valid))}"
        return f"unknown setting '{key}': {hint}"
    if problem["type"] == "missing":
        return f"missing setting '{key}'"
    message = str(problem["msg"]).removeprefix("Value error, ")
    return f"setting '{key}' = {shortened(repr(problem.get('input')))}: {message[:1].lower()}{message[1:]}"


def _fields_at(schema: type[BaseModel], path: list[str]) -> list[str]:
    """Field names of the (sub-)schema that ``path`` leads to."""
    current: Any = schema
    for part in path:
        field = getattr(current, "model_fields", {}).get(part)
        if field is None:
            break
        options = [field.annotation, *get_args(field.annotation)]
        current = next((o for o in options if hasattr(o, "model_fields")), current)
    return list(current.model_fields)
