"""What can be known to be wrong with a run before anything of it is made."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence

from tag2mask.core.errors import ConfigError, DataError, StageError, Tag2MaskError, WeightsError, command
from tag2mask.core.progress import LOG
from tag2mask.core.ranks import world_size
from tag2mask.core.types import Sample, check_ledger
from tag2mask.data.base import Dataset, Finding
from tag2mask.data.doctor.checks import findings_of, in_order, open_splits
from tag2mask.data.doctor.first_look import first_look
from tag2mask.data.sidecars import check_sidecars
from tag2mask.methods.artefact import FOLDERS
from tag2mask.methods.stage_kinds import MetricStage, TrainingStage
from tag2mask.pipeline.plan import Plan, PlannedStage
from tag2mask.pipeline.seen_files import Looked
from tag2mask.pipeline.session import Session

_ROLES = ("train", "val", "infer")
_TOLD = 5
"""Errors, and warnings of a kind, that a run writes out; the doctor lists all."""


def preflight(plan: Plan) -> None:
    """Look over every stage: supervision that the recipe does not allow, missing weight files, names nobody knows.

    Raises:
        LedgerError: a stage would train on something that the recipe does not allow.
        ConfigError: a device or settings that cannot be had; the stage is named.
        WeightsError: weights that are not there; the stage is named.
    """
    from tag2mask.training.device import check_precision, resolve_device
    from tag2mask.training.order import check_parts

    device = resolve_device(plan.recipe.engine)
    seen: dict[str, frozenset[str]] = {}
    for stage in plan.stages:
        own = stage.kind.supervision_of(stage.settings)
        seen[stage.name] = own.union(*(seen[source] for source in stage.reads.values()))
        if isinstance(stage.kind, TrainingStage):
            check_ledger(seen[stage.name], plan.recipe.allow_supervision, stage.name)
        try:
            stage.kind.validate(stage.settings, stage.reads)
            if isinstance(stage.kind, TrainingStage) and (schedule := stage.kind.schedule_of(stage.settings)):
                check_precision(schedule.precision, device)
                check_parts(schedule, world_size())
        except (ConfigError, WeightsError) as error:
            raise _of_stage(error, stage) from error


def look_ahead(session: Session) -> None:
    """Look at all that any stage needs of the data, say what is doubtful, and stop where a later stage would.

    Splits and their lists, images that one stage takes from another, networks and first weights, headers of all images
    and masks, and as many of them decoded as a minute allows. Nothing is looked at for a run that is complete, and a
    file that has not changed since an earlier run is not read again. For one process of a run.

    Raises:
        Tag2MaskError: what would stop a stage.
    """
    if session.complete():
        return
    plan = session.plan
    by_name, findings = open_splits(_splits(plan), lambda name: _opened(session, name))
    _stop_at(findings, plan)
    doubts = [f"stage '{stage.name}': {text}" for stage in plan.stages for text in _stage_doubts(session, stage)]
    looked = Looked(session.store.root, plan, list(by_name.values()))
    soon = {(s.id, s.image) for s in by_name[plan.data.train].samples} if plan.data.train in by_name else set()
    looks = first_look(by_name.values(), soon, looked.known())
    findings = in_order(findings_of(by_name, looks, plan.data))
    _stop_at(findings, plan)
    if looks:
        looked.remember(looks)
    _warn([f for f in findings if f.severity == "warning"], plan)
    for text in doubts:
        LOG.warning("%s", text)


def _warn(warnings: Iterable[Finding], plan: Plan) -> None:
    """Say what is doubtful; of a kind that each class may have, the first few."""
    count: Counter[str] = Counter()
    for finding in warnings:
        count[finding.kind] += 1
        if count[finding.kind] <= _TOLD:
            LOG.warning("%s", finding.lines())
    more = sum(max(number - _TOLD, 0) for number in count.values())
    if more:
        LOG.warning("and %d more of the same kinds: %s", more, _doctor(plan))


def _splits(plan: Plan) -> list[str]:
    """The splits that stages go over, and that whose images the report shows."""
    names = [plan.split_of(stage) for stage in plan.stages]
    return list(dict.fromkeys(name for name in [*names, plan.data.infer] if name is not None))


def _opened(session: Session, name: str) -> Dataset:
    dataset = session.open_split(name)
    assert dataset is not None  # only the role of a split can be without one
    return dataset


def _stop_at(findings: Iterable[Finding], plan: Plan) -> None:
    """Raise what is wrong with the data, the first few in words."""
    errors = [f for f in findings if f.severity == "error"]
    if not errors:
        return
    lines = [_error_line(f, plan) for f in errors[:_TOLD]]
    if len(errors) == 1:
        raise DataError(lines[0] if errors[0].kind == "open" else f"{lines[0]}. Look through all: {_doctor(plan)}")
    more = f"\n  and {len(errors) - _TOLD} more" if len(errors) > _TOLD else ""
    listed = "".join(f"\n  {line}" for line in lines)
    raise DataError(f"{len(errors)} problems in the data, found before anything was made:{listed}{more}\n"
                    f"All of them: {_doctor(plan)}")  # fmt: skip


def _error_line(finding: Finding, plan: Plan) -> str:
    """An error in one sentence, with the setting that names a split which does not open."""
    if finding.kind != "open":
        return f"{finding.text}. {finding.remedy}"
    if len(finding.ids) > 1:
        return finding.text
    (name,) = finding.ids
    roles = [f"data.{role}" for role in _ROLES if getattr(plan.data, role) == name]
    own = [f"{s.name}.split" for s in plan.stages if s.kind.split_of(s.settings) == name]
    settings = ", ".join([*roles, *own])
    return f"{settings} = {name}: {finding.text}" if settings else finding.text


def _doctor(plan: Plan) -> str:
    """The command that lists everything."""
    values = plan.data.model_dump(mode="json", exclude_defaults=True)
    words = [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in values.items()]
    return command("doctor", plan.data_kind, *words)


def _stage_doubts(session: Session, stage: PlannedStage) -> Sequence[str]:
    """What may spoil a stage on its split.

    Raises:
        Tag2MaskError: what would stop it; settings and weights with the stage named.
    """
    dataset = session.dataset(stage)
    if dataset is None:
        return ()
    try:
        _check_sources(session, stage, dataset)
        roles = stage.kind.sidecars_of(stage.settings)
        if roles:
            check_sidecars(dataset, _read_of(stage, dataset), sorted(roles), stage.name)
        return stage.kind.validate_data(stage.settings, dataset)
    except (ConfigError, WeightsError) as error:
        raise _of_stage(error, stage) from error


def _check_sources(session: Session, stage: PlannedStage, dataset: Dataset) -> None:
    """See that what a stage reads image by image is made for all images that it reads it of."""
    sources = {s.name: s for s in session.plan.stages}
    for source in (sources[name] for name in stage.reads.values()):
        if source.kind.makes not in FOLDERS:
            continue
        made = session.dataset(source)
        have = set() if made is None else {s.id for s in made.samples}
        missing = [s.id for s in _read_of(stage, dataset) if s.id not in have]
        if missing and not (_takes_part(stage) and len(missing) < len(dataset)):
            split = session.plan.split_of(source)
            raise StageError(
                f"stage '{stage.name}' reads '{source.name}' of the images of split '{dataset.split}', but that is "
                f"made for split '{split}', which lacks {len(missing)} of them, first '{missing[0]}'. Let data.infer "
                f"name a split that holds all of them, or {stage.name}.split one that is part of '{split}'"
            )


def _read_of(stage: PlannedStage, dataset: Dataset) -> Sequence[Sample]:
    """The samples of its split of which a stage reads what others made."""
    if stage.kind.samples is not None:
        return stage.kind.samples(stage.settings, dataset)
    if isinstance(stage.kind, MetricStage):
        return [s for s in dataset.samples if s.truth is not None] if dataset.has_truth else ()
    if isinstance(stage.kind, TrainingStage) and stage.kind.reads_of is not None:
        return stage.kind.reads_of(stage.settings, dataset)
    return dataset.samples


def _takes_part(stage: PlannedStage) -> bool:
    """Whether a stage reads the files of a part of its split's images only, known when it runs."""
    return isinstance(stage.kind, TrainingStage) and stage.kind.reads_any


def _of_stage(error: Tag2MaskError, stage: PlannedStage) -> Tag2MaskError:
    """The error with the stage named in front."""
    text = str(error)
    return type(error)(text if text.startswith(f"stage '{stage.name}'") else f"stage '{stage.name}': {text}")
