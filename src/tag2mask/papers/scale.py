"""Data and size of an experiment: generated scenes if no data is named, and the small size for trying it out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tag2mask.config.recipe import Recipe
from tag2mask.core.errors import ConfigError
from tag2mask.core.files import value_hash, write_text
from tag2mask.data.base import Dataset
from tag2mask.data.registry import data_settings, open_split
from tag2mask.data.split_views import MARK

IMAGES = 300
"""Images of the small size."""

LISTS = "lists"
"""Folder beside the runs for the image lists of the small size, which several experiments share."""

Words = Mapping[str, tuple[str, ...]]
"""Kind of a stage -> settings of each stage of that kind."""

_NETWORKS = ("amn", "irn", "segmenter")

SCENES = ("data=parts", "data.images=200", "data.size=128")
"""Default data: generated scenes, nothing to download."""

_SCENE_STAGES: Words = {
    "classifier": (
        "train.epochs=8", "train.accumulate=2", "train.lr=1.0e-4", "train.head_lr=1.0e-3", "train.long_side=[96,128]",
        "train.crop=128",
    ),
    **dict.fromkeys(_NETWORKS, ("train.crop=128",)),
}  # fmt: skip
"""The demo's settings for scenes of that size."""

_MAPS = ("cam", "lpcam", "amn-maps")

_SMALL_STAGES: Words = {
    **dict.fromkeys(_MAPS, ("scales=[1.0,0.5]",)),
    "amn": ("train.epochs=3", "train.crop=256"),
    "irn": ("train.epochs=3", "train.crop=256"),
}

_SMALL_SCENE_STAGES: Words = dict.fromkeys(_MAPS, ("scales=[1.0,2.0]",))
"""At half their size scenes of 128 pixels have maps of 4 x 4 cells, which is too coarse."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Overrides for data and size."""

    data: tuple[str, ...] = ()  # before those of a variant
    stages: tuple[Words, ...] = ()  # by kind, later ones win; the user's own come after them

    def words(self, recipe: Recipe) -> list[str]:
        """The overrides of the stages of one recipe."""
        return [
            f"{name}.{word}"
            for words in self.stages
            for name, spec in recipe.stages.items()
            for word in words.get(str(spec.get("kind")), ())
        ]


def default_data(words: Sequence[str], light: bool) -> Scale:
    """Generated scenes if the words name no data and the recipes are the light ones."""
    named = any(word.startswith(("data=", "data.root=")) for word in words)
    return Scale() if named or not light else Scale(SCENES, (_SCENE_STAGES,))


def small(data: Mapping[str, Any], folder: Path, scale: Scale) -> Scale:
    """The light settings, and a list of `IMAGES` images of the training split if it has more.

    The classifier is trained on the whole split; maps, AMN, IRN and later stages use the list, which is written into
    ``lists`` in the ``folder`` of the runs. ``data`` is the section of that name of a recipe.
    """
    values = dict(data)
    kind = str(values.pop("kind"))
    settings = data_settings(kind, values)
    if MARK in settings.train:
        raise ConfigError(f"data.train = {settings.train} is already a part of a split: leave --size small out")
    dataset = open_split(kind, settings, settings.train)
    stages = (_SMALL_STAGES, *((_SMALL_SCENE_STAGES,) if scale.data else ()), *scale.stages)
    if len(dataset) <= IMAGES:
        return Scale(scale.data, stages)
    split = json.dumps(f"{settings.train}{MARK}{_write_list(dataset, folder)}")
    part: Words = dict.fromkeys(_NETWORKS, (f"split={split}",))
    return Scale((*scale.data, f"data.infer={split}"), (*stages, part))


def _write_list(dataset: Dataset, folder: Path) -> Path:
    """Choose the images with the smallest hashes of their ids, those with ground truth first; write their list."""
    ranked = sorted(dataset.samples, key=lambda s: value_hash(["small", s.id]))
    chosen: list[str] = []
    for sample in ranked if dataset.has_truth else ():
        if len(chosen) < IMAGES and (sample.truth is not None or dataset.truth(sample) is not None):
            chosen.append(sample.id)
    taken = set(chosen)
    chosen += [s.id for s in ranked if s.id not in taken][: IMAGES - len(chosen)]
    path = folder / LISTS / f"{dataset.split}-{IMAGES}-{value_hash(sorted(chosen))[:8]}.txt"
    write_text(path, "".join(f"{name}\n" for name in sorted(chosen)))
    return path
