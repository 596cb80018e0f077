"""Combines the variants of an experiment into one recipe: equal stages are shared, others renamed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tag2mask.config.recipe import Recipe, load_recipe, reduced
from tag2mask.core.errors import ConfigError
from tag2mask.methods.registry import stage_kind
from tag2mask.methods.stage_kinds import Makes
from tag2mask.papers.definition import StageRef, Variant
from tag2mask.papers.scale import Scale
from tag2mask.pipeline.plan import make_plan

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
        if kind.makes is Makes.METRICS and spec["reads"][kind.first_role] in wanted:
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
