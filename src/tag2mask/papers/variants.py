"""The one recipe of an experiment: its variants combined, equal stages shared, others renamed; on data of any size.

Generated scenes stand in if no data is named; the small size is for trying an experiment out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tag2mask.config.recipe import Recipe, load_recipe, reduced
from tag2mask.core.errors import ConfigError
from tag2mask.core.files import value_hash, write_text
from tag2mask.data.base import Dataset
from tag2mask.data.registry import data_settings, open_split
from tag2mask.data.split_views import MARK
from tag2mask.methods.registry import stage_kind
from tag2mask.methods.stage_kinds import MetricStage
from tag2mask.papers.catalogue import StageRef, Variant
from tag2mask.pipeline.plan import make_plan

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


_Specs = dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Combined:
    """One recipe for all variants."""

    recipe: Recipe  # complete, every default filled in
    stages: Mapping[str, str]  # name of a row -> the stage that is our side of it


def combine(
    name: str, title: str, refs: Mapping[str, StageRef], words: Sequence[str] = (), scale: Scale | None = None
) -> Combined:
    """Build the recipe that makes and measures the stages of all rows, at least one.

    Of the user's ``key=value`` one about a stage goes to the variants that have it.
    """
    scale = scale or Scale()
    variants = list(dict.fromkeys(ref.variant for ref in refs.values()))
    bases = {v: load_recipe(v.recipe, [*scale.data, *_data(words), *v.overrides]) for v in variants}
    known = set().union(*(base.stages for base in bases.values()))
    stages: _Specs = {}
    renamed: dict[Variant, dict[str, str]] = {}
    recipes: list[Recipe] = []
    for variant in variants:
        base = bases[variant]
        mine = [w for w in words if _stage(w) in base.stages or _stage(w) not in known]
        own = [*scale.data, *variant.overrides, *scale.words(base), *mine]
        recipe = make_plan(load_recipe(variant.recipe, own)).recipe
        wanted = [ref.stage for ref in refs.values() if ref.variant == variant]
        recipes.append(recipe)
        renamed[variant] = _merge(stages, part(recipe, wanted), variant.name)
    mine_of = {row: renamed[ref.variant][ref.stage] for row, ref in refs.items()}
    _check_apart(mine_of)
    allowed = tuple(dict.fromkeys(word for recipe in recipes for word in recipe.allow_supervision))
    changes = {"name": name, "description": title, "stages": stages, "allow_supervision": allowed}
    return Combined(recipes[0].model_copy(update=changes), mine_of)


def _data(words: Sequence[str]) -> list[str]:
    """The words about data: those about stages apply after the variant's own."""
    return [word for word in words if word.startswith(("data=", "data."))]


def _stage(word: str) -> str:
    """The first part of a word's key, such as ``cam`` of ``stages.cam.scales=[1.0]``."""
    return word.partition("=")[0].removeprefix("stages.").partition(".")[0]


def part(recipe: Recipe, wanted: Sequence[str]) -> Recipe:
    """The recipe with only the stages that make and measure the wanted ones."""
    return reduced(recipe, [*wanted, *_measuring(recipe, wanted)])


def _measuring(recipe: Recipe, wanted: Sequence[str]) -> list[str]:
    """The stages that measure one of ``wanted``: they read it in the first role of their kind."""
    found = []
    for name, spec in recipe.stages.items():
        kind = stage_kind(str(spec["kind"]))
        if isinstance(kind, MetricStage) and spec["reads"][kind.first_role] in wanted:
            found.append(name)
    return found


def _merge(stages: _Specs, recipe: Recipe, variant: str) -> dict[str, str]:
    """Add the stages of a planned recipe in its order; gives their names there -> names in ``stages``."""
    names: dict[str, str] = {}
    for name, spec in recipe.stages.items():
        own = (
            {**spec, "reads": {role: names[source] for role, source in spec["reads"].items()}}
            if "reads" in spec
            else spec
        )
        same = next((known for known, other in stages.items() if other == own), None)
        names[name] = same or (name if name not in stages else f"{name}_{variant}")
        stages[names[name]] = own
    return names


def _check_apart(stages: Mapping[str, str]) -> None:
    seen: dict[str, str] = {}
    for row, stage in stages.items():
        if stage in seen:
            raise ConfigError(
                f"'{seen[stage]}' and '{row}' would be the same: an override sets what the experiment "
                "varies. Leave it out"
            )
        seen[stage] = row
