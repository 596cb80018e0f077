"""The kinds of stage: a method is one folder and one line in `METHODS`."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

from tag2mask.core.errors import ConfigError, unknown
from tag2mask.methods.stage_kinds import StageKind

METHODS: list[str] = [
    "tag2mask.methods.cam.kinds",
    "tag2mask.methods.lpcam.kinds",
    "tag2mask.methods.irn.kinds",
    "tag2mask.methods.amn.kinds",
    "tag2mask.thresholds.kinds",
    "tag2mask.label_images.kinds",
    "tag2mask.segmentation.kinds",
    "tag2mask.pipeline.metric_stages",
]
"""Modules with a tuple ``KINDS`` of `StageKind`; they import no torch."""


@cache
def _kinds(modules: tuple[str, ...]) -> dict[str, StageKind[Any]]:
    found: dict[str, StageKind[Any]] = {}
    for module in modules:
        for kind in importlib.import_module(module).KINDS:
            if kind.name in found:
                raise ConfigError(f"stage kind '{kind.name}' of {module} is taken; choose another name")
            found[kind.name] = kind
    return found


def stage_kinds() -> dict[str, StageKind[Any]]:
    """Every registered kind by name."""
    return _kinds(tuple(METHODS))


def stage_kind(name: str) -> StageKind[Any]:
    """The kind of that name.

    Raises:
        ConfigError: there is none; the nearest name is given.
    """
    kinds = stage_kinds()
    if name not in kinds:
        raise ConfigError(unknown("stage kind", name, kinds))
    return kinds[name]


def register_method(module: str) -> None:
    """Add a method: a module with a tuple ``KINDS`` of `StageKind`."""
    if module not in METHODS:
        METHODS.append(module)
        stage_kinds()
