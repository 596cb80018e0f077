"""From a recipe to the ordered list of stages that a run goes through, everything checked beforehand."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tag2mask.config.recipe import LARGEST_SEED, Recipe
from tag2mask.config.settings import Settings, validate
from tag2mask.core.errors import ConfigError, unknown
from tag2mask.core.names import shortened
from tag2mask.core.types import parse_ledger
from tag2mask.data.base import DataSettings
from tag2mask.data.registry import data_settings
from tag2mask.methods.registry import StageKind, register_method, stage_kind

register_method("tag2mask.pipeline.metric_stages")
register_method("tag2mask.pipeline.boundary_stage")
_NAME = re.compile(r"[a-z][a-z0-9_+-]*")


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """One stage instance, checked.

    Attributes:
        name: as in the recipe, with the suffix ``@seed`` where there are several seeds.
        kind: what runs.
        reads: role -> name of the instance read.
        settings: of the kind's schema.
        seed: of everything random in it.
        once: it has a seed of its own in the recipe, and is made once for all seeds of the recipe.
    """

    name: str
    kind: StageKind
    reads: Mapping[str, str]
    settings: Settings
    seed: int
    once: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """A checked recipe.

    Attributes:
        recipe: with every default filled in.
        data_kind: name of the reader.
        data: the reader's settings.
        stages: in an order in which each finds what it reads.
    """

    recipe: Recipe
    data_kind: str
    data: DataSettings
    stages: tuple[PlannedStage, ...]

    def split_of(self, stage: PlannedStage) -> str | None:
        """Name of the split that a stage goes over: its own, else that of what it measures, else its kind's.

        None only where that is ``data.val`` and the data has none.
        """
        own: str | None = getattr(stage.settings, "split", None)
        if own:
            return own
        if stage.kind.makes == "metrics" and stage.kind.split == "infer":
            source = measured_by(stage)
            return self.split_of(next(s for s in self.stages if s.name == source))
        name: str | None = getattr(self.data, stage.kind.split)
        return name


def measured_by(stage: PlannedStage) -> str:
    """The instance that a measuring stage measures: what it reads in its kind's first role."""
    return stage.reads[next(iter(stage.kind.reads))]


def make_plan(recipe: Recipe) -> Plan:
    """Check a recipe and order its stages.

    Raises:
        ConfigError: an unknown kind, setting, role or instance; a circle; each with what would be valid.
    """
    parse_ledger(recipe.allow_supervision)
    _check_distinct(recipe.seeds)
    values = dict(recipe.data)
    kind = values.pop("kind", None)
    if not isinstance(kind, str):
        raise ConfigError(f"{_missing('data.kind', kind)}: the reader, such as voc, coco, folder or parts")
    data = data_settings(kind, values)
    stages = {name: _stage(name, spec, recipe) for name, spec in recipe.stages.items()}
    ordered = [stages[name] for name in _order(stages)]
    _check_seeds(stages)
    _check_same(ordered)
    resolved = recipe.model_copy(
        update={
            "data": {"kind": kind, **data.model_dump(mode="json")},
            "stages": {s.name: _dump(s) for s in ordered},
        }
    )
    return Plan(resolved, kind, data, tuple(_seeded(ordered, recipe.seeds)))


def _stage(name: str, spec: Mapping[str, Any], recipe: Recipe) -> PlannedStage:
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"stage name '{shortened(name)}' must begin with a-z and hold only a-z, 0-9, '-', '_' and '+'"
        )
    values = dict(spec)
    kind_name = values.pop("kind", None)
    if not isinstance(kind_name, str):
        raise ConfigError(f"{_missing(f'stages.{name}.kind', kind_name)}: what it does; see: tag2mask ls stages")
    kind = stage_kind(kind_name)
    reads = values.pop("reads", None)
    if not isinstance(reads, Mapping | None):
        raise ConfigError(f"{name}.reads = {shortened(repr(reads))}: expected a stage for each role, {{role: stage}}")
    reads = reads or {}
    _check_reads(name, kind, reads, recipe)
    seed = values.pop("seed", None)
    if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed <= LARGEST_SEED):
        raise ConfigError(
            f"{name}.seed = {shortened(repr(seed))}: expected an integer from 0 to {LARGEST_SEED}, or null for the "
            "recipe's seeds"
        )
    settings = validate(kind.settings, values, name)
    return PlannedStage(name, kind, dict(reads), settings, recipe.seeds[0] if seed is None else seed, seed is not None)


def _missing(key: str, value: object) -> str:
    return f"missing setting '{key}'" if value is None else f"'{key}' = {shortened(repr(value))} is not a name"


def _check_reads(name: str, kind: StageKind, reads: Mapping[str, Any], recipe: Recipe) -> None:
    roles = {**kind.reads, **kind.may_read}
    for role, source in reads.items():
        if role not in roles:
            raise ConfigError(unknown("role", f"{name}.reads.{role}", [f"{name}.reads.{r}" for r in roles]))
        if not isinstance(source, str):
            raise ConfigError(f"{name}.reads.{role} = {shortened(repr(source))}: expected the name of one stage")
    for role, makes in kind.reads.items():
        if role not in reads:
            raise ConfigError(f"missing setting '{name}.reads.{role}': the stage that makes the {makes}")
    for role, source in reads.items():
        if source not in recipe.stages:
            raise ConfigError(f"{name}.reads.{role}: " + unknown("stage", source, recipe.stages))
        made, makes = stage_kind(str(recipe.stages[source].get("kind"))).makes, roles[role]
        if made != makes:
            needed = "a threshold is" if makes == "threshold" else f"{makes} are"
            raise ConfigError(f"{name}.reads.{role} = '{source}' makes {made}, but {needed} needed")


def _check_distinct(seeds: Sequence[int]) -> None:
    """Stages are named after their seeds."""
    once = [*dict.fromkeys(seeds)]
    if len(once) < len(seeds):
        twice = next(seed for seed in once if seeds.count(seed) > 1)
        named = ",".join(map(str, once))
        raise ConfigError(f"seeds = {list(seeds)} names seed {twice} twice: expected each once, seeds=[{named}]")


def _check_seeds(stages: Mapping[str, PlannedStage]) -> None:
    """A stage with one seed cannot read one that is made several times."""
    for stage in stages.values():
        for source in stage.reads.values():
            if stage.once and not stages[source].once:
                raise ConfigError(
                    f"{stage.name}.seed = {stage.seed}, but it reads '{source}', which follows the recipe's seeds: set "
                    f"{source}.seed too, or leave {stage.name}.seed out"
                )


def _check_same(ordered: Iterable[PlannedStage]) -> None:
    """What belongs to one network comes from one: such as prototypes, and the classifier whose features they are of."""
    before: dict[str, PlannedStage] = {}
    for stage in ordered:
        before[stage.name] = stage
        for role, shared in stage.kind.same.items():
            source = before[stage.reads[role]]
            theirs, own = source.reads.get(shared), stage.reads[shared]
            if theirs is not None and theirs != own:
                raise ConfigError(
                    f"{stage.name}.reads.{shared} = '{own}', but {stage.name}.reads.{role} = '{source.name}' is made "
                    f"with '{theirs}': they belong to one network. Set {stage.name}.reads.{shared}={theirs}, or read "
                    f"{role} made with '{own}'"
                )


def _order(stages: Mapping[str, PlannedStage]) -> Iterator[str]:
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> Iterator[str]:
        if name in path:
            raise ConfigError(f"stages read each other in a circle: {' -> '.join([*path, name])}")
        if name not in done:
            for source in stages[name].reads.values():
                yield from visit(source, (*path, name))
            done.add(name)
            yield name

    for name in stages:
        yield from visit(name, ())


def _dump(stage: PlannedStage) -> dict[str, Any]:
    reads = {"reads": dict(stage.reads)} if stage.reads else {}
    seed = {"seed": stage.seed} if stage.once else {}
    return {"kind": stage.kind.name, **reads, **seed, **stage.settings.model_dump(mode="json")}


def _seeded(stages: list[PlannedStage], seeds: tuple[int, ...]) -> Iterator[PlannedStage]:
    if len(seeds) == 1:
        yield from stages
        return
    several = {s.name for s in stages if not s.once}
    yield from (s for s in stages if s.once)
    for seed in seeds:
        for s in stages:
            if not s.once:
                reads = {role: f"{n}@{seed}" if n in several else n for role, n in s.reads.items()}
                yield PlannedStage(f"{s.name}@{seed}", s.kind, reads, s.settings, seed)
