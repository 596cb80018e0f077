"""The plan of a run: the checked stages of a recipe, each after all that it reads."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tag2mask.config.recipe import LARGEST_SEED, Recipe
from tag2mask.config.settings import Settings, validate
from tag2mask.core.errors import ConfigError, unknown
from tag2mask.core.names import of_seed, shortened
from tag2mask.core.types import parse_ledger
from tag2mask.data.base import DataSettings
from tag2mask.data.registry import data_settings
from tag2mask.evaluation.background import Learned
from tag2mask.methods.registry import stage_kind, stage_kinds
from tag2mask.methods.stage_kinds import BACKGROUND, ChoiceStage, ImageStage, Makes, SplitRole, StageKind

_NAME = re.compile(r"[a-z][a-z0-9_+-]*")
_MAPS = "maps"
"""Role of the maps that a stage cuts."""
_LETTERS = "a-z, 0-9, '-', '_' and '+'"


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """One stage instance, checked.

    Attributes:
        name: as in the recipe, with the suffix ``@seed`` where there are several seeds.
        base_name: as in the recipe.
        kind: what runs.
        reads: role -> name of the instance read.
        settings: of the kind's schema.
        seed: of everything random in it.
        once: it has a seed of its own in the recipe, so it is made once for all seeds of the recipe.
    """

    name: str
    base_name: str
    kind: StageKind[Any]
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
        stages: each after all that it reads.
    """

    recipe: Recipe
    data_kind: str
    data: DataSettings
    stages: tuple[PlannedStage, ...]

    def split_of(self, stage: PlannedStage) -> str | None:
        """Name of the split that a stage works on; None only where that is ``data.val`` and the data has none."""
        split = stage.kind.split_of(stage.settings)
        if isinstance(split, str):
            return split
        if split is SplitRole.READ:
            kind = stage.kind
            role = kind.candidates(stage.reads)[0] if isinstance(kind, ChoiceStage) else kind.first_role
            return self.split_of(self.stage(stage.reads[role]))
        return {SplitRole.TRAIN: self.data.train, SplitRole.VAL: self.data.val}.get(split, self.data.infer)

    def stage(self, name: str) -> PlannedStage:
        """The instance of that name."""
        return next(s for s in self.stages if s.name == name)

    def read_settings(self, stage: PlannedStage) -> dict[str, Settings]:
        """The settings of what a stage reads, by role."""
        return {role: self.stage(source).settings for role, source in stage.reads.items()}

    def may_be(self, stage: PlannedStage) -> list[PlannedStage]:
        """The stages whose artefact a stage may have: itself; of a choice its candidates, through further choices."""
        return list(_chosen_from(stage, {s.name: s for s in self.stages}))


def measured_by(stage: PlannedStage) -> str:
    """The instance that a metric stage measures: what it reads in its kind's first role."""
    return stage.reads[stage.kind.first_role]


def is_prediction(plan: Plan, stage: PlannedStage) -> bool:
    """Whether a stage's masks are the predictions of a network, or chosen among such."""
    return all(isinstance(s.kind, ImageStage) and s.kind.variant is not None for s in plan.may_be(stage))


def make_plan(recipe: Recipe) -> Plan:
    """Check a recipe and order its stages.

    Raises:
        ConfigError: an unknown kind, setting, role or instance; a circle; each with what would be valid.
    """
    recipe = _with_decision(recipe)
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
    plan = Plan(resolved, kind, data, tuple(_seeded(ordered, recipe.seeds)))
    _check_choices(plan)
    _check_learned(plan)
    for stage in plan.stages:
        stage.kind.validate_reads(stage.settings, plan.read_settings(stage))
    return plan


def _with_decision(recipe: Recipe) -> Recipe:
    """The recipe with a stage that decides about the background, and with all reading it that follow one.

    Only where ``data.background`` is ``auto``; a stage that the recipe has of that type is the one.
    """
    if recipe.data.get("background") != "auto":
        return recipe
    kinds = {name: stage_kinds().get(str(spec.get("kind"))) for name, spec in recipe.stages.items()}
    deciding = [name for name, kind in kinds.items() if kind is not None and kind.makes is Makes.BACKGROUND]
    added: dict[str, dict[str, Any]] = {}
    if not deciding:
        if BACKGROUND in recipe.stages:
            raise ConfigError(
                f"data.background = auto is decided by a stage '{BACKGROUND}', but the recipe has one of kind "
                f"'{recipe.stages[BACKGROUND].get('kind')}' under that name: give it another name"
            )
        maker = next(kind.name for kind in stage_kinds().values() if kind.makes is Makes.BACKGROUND)
        added = {BACKGROUND: {"kind": maker, "seed": 0}}  # the data is one, whatever the seeds
    source = deciding[0] if deciding else BACKGROUND
    stages = {name: _deciding(spec, kinds[name], source) for name, spec in recipe.stages.items()}
    return recipe.model_copy(update={"stages": {**added, **stages}})


def _deciding(spec: dict[str, Any], kind: StageKind[Any] | None, source: str) -> dict[str, Any]:
    """A stage's words that also name what decided about the background, where its kind follows one."""
    reads = spec.get("reads") or {}
    if kind is None or not kind.follows_background or not isinstance(reads, Mapping):
        return spec
    return {**spec, "reads": {BACKGROUND: source, **reads}}


def _stage(name: str, spec: Mapping[str, Any], recipe: Recipe) -> PlannedStage:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"stage name '{shortened(name)}' must begin with a-z and hold only {_LETTERS}")
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
    own = recipe.seeds[0] if seed is None else seed
    return PlannedStage(name, name, kind, dict(reads), settings, own, seed is not None)


def _missing(key: str, value: object) -> str:
    return f"missing setting '{key}'" if value is None else f"'{key}' = {shortened(repr(value))} is not a name"


def _check_reads(name: str, kind: StageKind[Any], reads: Mapping[str, Any], recipe: Recipe) -> None:
    roles = kind.roles
    if isinstance(kind, ChoiceStage):
        roles |= dict.fromkeys(_candidates(name, kind, reads), kind.makes)
    for role, source in reads.items():
        if role not in roles:
            raise ConfigError(unknown("role", f"{name}.reads.{role}", [f"{name}.reads.{r}" for r in roles]))
        if not isinstance(source, str):
            raise ConfigError(f"{name}.reads.{role} = {shortened(repr(source))}: expected the name of one stage")
    for role, makes in kind.reads.items():
        if role not in reads:
            made_by = (n for n, spec in recipe.stages.items() if stage_kind(str(spec.get("kind"))).makes is makes)
            such = next((f", such as {name}.reads.{role}={maker}" for maker in made_by if maker != name), "")
            raise ConfigError(f"missing setting '{name}.reads.{role}': the stage that makes the {makes}{such}")
    for role, source in reads.items():
        if source not in recipe.stages:
            raise ConfigError(f"{name}.reads.{role}: " + unknown("stage", source, recipe.stages))
        made, makes = stage_kind(str(recipe.stages[source].get("kind"))).makes, roles[role]
        if made is not makes:
            needed = "a threshold is" if makes is Makes.THRESHOLD else f"{makes} are"
            raise ConfigError(f"{name}.reads.{role} = '{source}' makes {made}, but {needed} needed")


def _candidates(name: str, kind: ChoiceStage[Any], reads: Mapping[str, Any]) -> list[str]:
    """The roles of what is chosen from, which the recipe names freely."""
    found = kind.candidates(map(str, reads))
    if not found:
        raise ConfigError(
            f"{name}.reads names nothing to choose from: expected stages that make {kind.makes}, each under a role of "
            f"its own, such as {name}.reads.a=STAGE"
        )
    if wrong := next((role for role in found if not _NAME.fullmatch(role)), None):
        raise ConfigError(f"{name}.reads.{shortened(wrong)}: a role must begin with a-z and hold only {_LETTERS}")
    return found


def _check_distinct(seeds: Sequence[int]) -> None:
    """Instances are named after their seeds, so each seed occurs once."""
    once = [*dict.fromkeys(seeds)]
    if len(once) < len(seeds):
        twice = next(seed for seed in once if seeds.count(seed) > 1)
        named = ",".join(map(str, once))
        raise ConfigError(f"seeds = {list(seeds)} names seed {twice} twice: expected each once, seeds=[{named}]")


def _check_seeds(stages: Mapping[str, PlannedStage]) -> None:
    """A stage with a seed of its own cannot read one that is made for each seed of the recipe."""
    for stage in stages.values():
        for source in stage.reads.values():
            if stage.once and not stages[source].once:
                raise ConfigError(
                    f"{stage.name}.seed = {stage.seed}, but it reads '{source}', which follows the recipe's seeds: set "
                    f"{source}.seed too, or leave {stage.name}.seed out"
                )


def _check_same(ordered: Iterable[PlannedStage]) -> None:
    """What belongs to one network comes from one, such as prototypes and the classifier of their features."""
    before: dict[str, PlannedStage] = {}
    for stage in ordered:
        before[stage.name] = stage
        for role, shared in stage.kind.same.items():
            source, own = before[stage.reads[role]], stage.reads[shared]
            for made in _chosen_from(source, before):
                theirs = made.reads.get(shared)
                if theirs is not None and theirs != own:
                    raise ConfigError(
                        f"{stage.name}.reads.{shared} = '{own}', but {stage.name}.reads.{role} = '{source.name}' is "
                        f"made with '{theirs}': they belong to one network. Set {stage.name}.reads.{shared}={theirs}, "
                        f"or read {role} made with '{own}'"
                    )


def _chosen_from(stage: PlannedStage, stages: Mapping[str, PlannedStage]) -> Iterator[PlannedStage]:
    """What a choice may follow to, through further choices; any other stage itself."""
    if not isinstance(stage.kind, ChoiceStage):
        yield stage
        return
    for role in stage.kind.candidates(stage.reads):
        yield from _chosen_from(stages[stage.reads[role]], stages)


def _check_choices(plan: Plan) -> None:
    """Files that a choice is made from are of the same images, whichever is chosen."""
    for stage in plan.stages:
        if not isinstance(stage.kind, ChoiceStage) or stage.kind.makes not in {Makes.MAPS, Makes.MASKS}:
            continue
        splits = {made.name: plan.split_of(made) for made in plan.may_be(stage)}
        if len(set(splits.values())) > 1 or plan.split_of(stage) not in splits.values():
            made = ", ".join(f"'{name}' of split '{split}'" for name, split in splits.items())
            raise ConfigError(
                f"{stage.name} chooses among {made}: expected stages over one split, so that all are of the same images"
            )


def _check_learned(plan: Plan) -> None:
    """The rule ``learned`` is for maps that know a background of their own."""
    for stage in plan.stages:
        cuts = stage.kind.threshold
        if cuts is None or _MAPS not in stage.reads or not isinstance(cuts(stage.settings).background, Learned):
            continue
        for made in plan.may_be(plan.stage(stage.reads[_MAPS])):
            if not made.kind.learns_background_of(made.settings):
                raise ConfigError(
                    f"{stage.name}.background = learned, but the maps of '{made.name}', of kind '{made.kind.name}', "
                    f"know no background of their own, as those of amn-maps with normalise=learned do: read such "
                    f"({stage.name}.reads.{_MAPS}=STAGE), or set {stage.name}.background=constant"
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
                reads = {role: of_seed(n, seed) if n in several else n for role, n in s.reads.items()}
                yield replace(s, name=of_seed(s.name, seed), reads=reads, seed=seed)
