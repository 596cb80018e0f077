"""The kinds of stage: a method is one folder and one line in `METHODS`, or an entry point of another package."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from functools import cache
from types import ModuleType
from typing import Any

from tag2mask.config.plugins import each_from_one, plugins
from tag2mask.core.errors import ConfigError, unknown
from tag2mask.core.names import shortened
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
GROUP = "tag2mask.methods"
"""Entry points of other packages; each names such a module."""


def _kinds_in(module: ModuleType) -> Sequence[StageKind[Any]]:
    """The kinds that a module offers.

    Raises:
        ConfigError: its ``KINDS`` is not a tuple or list of `StageKind`, or two of them have one name.
    """
    kinds = getattr(module, "KINDS", None)
    if isinstance(kinds, tuple | list) and all(isinstance(kind, StageKind) for kind in kinds):
        names = [kind.name for kind in kinds]
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(f"{module.__name__}.KINDS has two kinds of the name '{name}': expected one of each")
        return kinds
    raise ConfigError(f"{module.__name__}.KINDS = {shortened(repr(kinds))}: expected a tuple of StageKind")


@cache
def _kinds(owners: tuple[tuple[str, str], ...]) -> dict[str, StageKind[Any]]:
    """The kinds of modules, each with the package that it belongs to."""
    found = [(kind, owner) for module, owner in owners for kind in _kinds_in(importlib.import_module(module))]
    each_from_one("stage kind", ((kind.name, owner) for kind, owner in found))
    return {kind.name: kind for kind, _ in found}


def stage_kinds() -> dict[str, StageKind[Any]]:
    """Every kind by name: those of `METHODS`, and of the entry points ``tag2mask.methods`` of other packages.

    Raises:
        ConfigError: two packages have a kind of one name; both are named.
    """
    others = {plugin.module: plugin.package for plugin in plugins(GROUP, _kinds_in) if plugin.module not in METHODS}
    return _kinds(tuple(({module: module for module in METHODS} | others).items()))


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
    """Add a method to this process: a module with a tuple ``KINDS`` of `StageKind`.

    Raises:
        ConfigError: it offers no ``KINDS``, or one of them has the name of another's; it is not added.
    """
    if module in METHODS:
        return
    METHODS.append(module)
    try:
        stage_kinds()
    except BaseException:
        METHODS.remove(module)
        raise
