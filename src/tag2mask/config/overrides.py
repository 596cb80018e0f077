"""Overrides on the command line: ``key.key=value``, the value in YAML."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from tag2mask.config.plain import parse_yaml
from tag2mask.core.errors import ConfigError, unknown
from tag2mask.core.names import shortened

_DEEPEST = 16
_KEPT = ("min_side", "background")
"""Settings of the data that stay when another reader is chosen: how small images and pixels of no class are treated."""
_THRESHOLD = "threshold"
"""The setting, and the role in which a stage may read one instead."""
_PAIR = ("foreground", "background")
"""The settings of refined seeds that such a threshold takes the place of."""
_OWN_SIGNS = frozenset("[]{}'\"")
"""Whoever writes these means YAML."""


def apply_overrides(recipe: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A copy of a recipe with overrides applied in order.

    ``data=voc`` replaces the data section by a reader's defaults, but for what the recipe demands of any data, `_KEPT`.
    ``cam.scales=[1.0]`` and ``stages.cam.scales=[1.0]`` both set a setting of the stage instance ``cam``.
    """
    result: dict[str, Any] = copy.deepcopy(dict(recipe))
    # The kind of data comes first, so that the order of words on the command line does not matter.
    for text in sorted(overrides, key=lambda o: not o.startswith("data=")):
        key, sign, value = text.partition("=")
        if not sign or not key:
            raise ConfigError(
                f"override '{shortened(text)}' is not key=value, such as data.root=photos or cam.scales=[1.0]"
            )
        path = key.split(".")
        if len(path) > _DEEPEST:
            raise ConfigError(f"override '{shortened(text)}': no setting is {len(path)} levels deep")
        _set(result, path, _value(key, value))
    for text in overrides:
        _check_used(result, text)
    return result


def _check_used(recipe: Mapping[str, Any], text: str) -> None:
    """Refuse a threshold for a stage that reads one, where it would change nothing: those of refined seeds too.

    Seeds of normalised maps are measured at both.

    Raises:
        ConfigError: as said, with the words that take the other threshold away.
    """
    name, _, setting = text.partition("=")[0].removeprefix("stages.").rpartition(".")
    stages = recipe.get("stages")
    stage = stages.get(name) if isinstance(stages, Mapping) else None
    reads = stage.get("reads") if isinstance(stage, Mapping) else None
    if not isinstance(stage, Mapping) or not isinstance(reads, Mapping):
        return
    pair = setting in _PAIR and stage.get("kind") == "refined-seeds" and isinstance(stage.get(setting), int | float)
    if setting != _THRESHOLD and not pair:
        return
    if not reads.get(_THRESHOLD) or (stage.get("kind") == "seeds" and stage.get("scores") != "raw"):
        return
    left = ", ".join(f"{role}: {source}" for role, source in reads.items() if role != _THRESHOLD)
    raise ConfigError(
        f"override '{shortened(text)}' changes nothing: '{name}' reads its threshold from stage '{reads[_THRESHOLD]}'. "
        + (f"{name}.margin=… sets how far from it both lie. " if pair else "")
        + f'For one of your own, take that away beside it: "{name}.reads={{{left}}}"'
    )


def _value(key: str, text: str) -> Any:
    try:
        return parse_yaml(text, f"override '{shortened(f'{key}={text}')}': the value")
    except ConfigError as error:
        if _OWN_SIGNS & set(text) or not text.isprintable() or any(map(str.isalnum, text)):
            raise
        example = shortened(f"\"{key}='{text}'\"")
        raise ConfigError(
            f"{error}. A text of signs needs quotes, and others around them for the shell: {example}"
        ) from error


def _set(recipe: dict[str, Any], path: list[str], value: Any) -> None:
    if path == ["data"] and isinstance(value, str):
        before = recipe.get("data")
        kept = {key: before[key] for key in _KEPT if key in before} if isinstance(before, Mapping) else {}
        recipe["data"] = {"kind": value, **kept}
        return
    stages = recipe.get("stages")
    names = [str(name) for name in stages] if isinstance(stages, Mapping) else []
    if path[0] in names:
        path = ["stages", *path]
    elif path[0] not in {"name", "description", "data", "seeds", "allow_supervision", "engine", "stages"}:
        raise ConfigError(unknown("setting", ".".join(path), ["data", "seeds", "engine", "allow_supervision", *names]))
    node = recipe
    for part in path[:-1]:
        child = node.setdefault(part, {})
        if not isinstance(child, dict):
            raise ConfigError(
                f"override '{shortened('.'.join(path))}': '{shortened(part)}' is a value, it has no settings of its own"
            )
        node = child
    node[path[-1]] = value
