"""The kinds of stage: a method is one folder and one line in `METHODS`."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

from tag2mask.config.settings import Settings
from tag2mask.core.errors import ConfigError, unknown
from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset

Makes = Literal["weights", "prototypes", "maps", "masks", "threshold", "metrics"]

METHODS: list[str] = [
    "tag2mask.methods.cam.kinds",
    "tag2mask.methods.lpcam.kinds",
    "tag2mask.methods.irn.kinds",
    "tag2mask.methods.amn.kinds",
    "tag2mask.thresholds.kinds",
    "tag2mask.label_images.kinds",
    "tag2mask.segmentation.kinds",
]
"""Modules with a tuple ``KINDS`` of `StageKind`; they import no torch."""


@dataclass(frozen=True, slots=True)
class StageKind:
    """One kind of stage.

    Attributes:
        name: as recipes write it, such as ``cam``.
        makes: what the artefact is. ``weights`` and ``prototypes`` are trained once; ``maps`` and ``masks`` are made
            image by image; a ``threshold`` is chosen on a few masks or by a rule; ``metrics`` are rows of numbers.
        settings: schema of its settings.
        reads: role -> what the artefact in that role must be.
        may_read: roles that a recipe may leave out, in the same form.
        runner: ``module:function``, called with a `StageContext`. For ``maps`` whose settings are `MapsSettings` it
            returns a `MapsProgram`: methods on one network share its forward passes. For other ``maps`` and for
            ``masks`` it returns an `ImageProgram`. For all others it writes into ``context.out``, returns nothing.
        version: raised whenever the output changes for the same settings; part of the key.
        split: role of the split that it works on unless its settings name one.
        fingerprint: hash of weight files that the settings name, part of the key.
        supervision: what it adds to the ledger, or a function of its settings that says so.
        check: ``module:function``, called with the settings and the roles that are read before a run begins: what
            is wrong with them is said then, not hours later.
        check_data: ``module:function``, called likewise with the settings and the split that the stage works on. It
            gives, in words, what may spoil the stage, and raises what would stop it.
        samples: for a kind made as a whole that looks at a part of its split: which, from its settings and the split.
        same: role -> a role that what is read there has read too: both must be the same instance, as prototypes and
            classifier of one network must.
        blind: for a kind that chooses a threshold: it never looks at a truth, which is then no part of its key.
    """

    name: str
    makes: Makes
    settings: type[Settings]
    reads: Mapping[str, Makes]
    runner: str
    version: int = 1
    split: Literal["train", "val", "infer"] = "infer"
    fingerprint: Callable[[Any], str] | None = None
    supervision: frozenset[str] | Callable[[Any], frozenset[str]] = frozenset()
    may_read: Mapping[str, Makes] = field(default_factory=dict)
    samples: Callable[[Any, Dataset], Sequence[Sample]] | None = None
    check: str | None = None
    check_data: str | None = None
    same: Mapping[str, str] = field(default_factory=dict)
    blind: bool = False

    def adds(self, settings: Any) -> frozenset[str]:
        """What a stage with these settings adds to the ledger."""
        return self.supervision(settings) if callable(self.supervision) else self.supervision

    def load(self) -> Callable[[Any], Any]:
        """Import and return the runner."""
        return _function(self.runner)

    def look_over(self, settings: Any, roles: Iterable[str]) -> None:
        """Find what is wrong with settings that their schema does not see: files, names, roles.

        Raises:
            Tag2MaskError: what is wrong.
        """
        if self.fingerprint is not None:
            self.fingerprint(settings)
        if self.check is not None:
            _function(self.check)(settings, frozenset(roles))

    def look_at_data(self, settings: Any, dataset: Dataset) -> Sequence[str]:
        """Find what of a split does not do for a stage with these settings.

        Returns:
            What may spoil the stage, in words.

        Raises:
            Tag2MaskError: what would stop it.
        """
        if self.samples is not None:
            self.samples(settings, dataset)
        found: Sequence[str] = () if self.check_data is None else _function(self.check_data)(settings, dataset)
        return found


def _function(path: str) -> Callable[..., Any]:
    module, _, name = path.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function


@cache
def _kinds(modules: tuple[str, ...]) -> dict[str, StageKind]:
    found: dict[str, StageKind] = {}
    for module in modules:
        for kind in importlib.import_module(module).KINDS:
            if kind.name in found:
                raise ConfigError(f"stage kind '{kind.name}' of {module} is taken; choose another name")
            found[kind.name] = kind
    return found


def stage_kinds() -> dict[str, StageKind]:
    """Every registered kind by name."""
    return _kinds(tuple(METHODS))


def stage_kind(name: str) -> StageKind:
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
