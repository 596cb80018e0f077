"""Checks a run before its first stage: supervision, weight files, names, and the data; remembers checked files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tag2mask.core.errors import ConfigError, DataError, StageError, Tag2MaskError, WeightsError, command
from tag2mask.core.files import read_json, stamp, value_hash, write_json
from tag2mask.core.manifest import sealed, unsealed
from tag2mask.core.processes.ranks import world_size
from tag2mask.core.progress import LOG
from tag2mask.core.types import Sample, check_ledger
from tag2mask.data.base import Dataset, Finding
from tag2mask.data.doctor.checks import Inspection, Key, each_once, findings_of, in_order, open_splits
from tag2mask.data.doctor.files import Pixels
from tag2mask.data.doctor.first_look import first_look
from tag2mask.data.sidecars import check_sidecars
from tag2mask.methods.artefact import FOLDERS
from tag2mask.methods.stage_kinds import Makes, MetricStage, TrainingStage
from tag2mask.pipeline.plan import Plan, PlannedStage
from tag2mask.pipeline.session import Session, ground_of, sidecars_of, supervision_of

_ROLES = ("train", "val", "infer")
_LISTED = 5
"""Errors, and warnings of a kind, that a run writes out; the doctor lists all."""


def preflight(plan: Plan) -> None:
    """Check the settings of every stage: supervision that the recipe does not allow, weight files, names, devices.

    Raises:
        LedgerError: a stage would train on something that the recipe does not allow.
        ConfigError: a device or settings that are not available; the stage is named.
        WeightsError: missing weights; the stage is named.
    """
    from tag2mask.training.device import check_precision, resolve_device
    from tag2mask.training.images import check_parts

    device = resolve_device(plan.recipe.engine)
    seen: dict[str, frozenset[str]] = {}
    for stage in plan.stages:
        own = supervision_of(stage, ground_of(stage, plan))
        seen[stage.name] = own.union(*(seen[source] for source in stage.reads.values()))
        if isinstance(stage.kind, TrainingStage):
            check_ledger(seen[stage.name], plan.recipe.allow_supervision, stage.name)
        try:
            stage.kind.validate(stage.settings, stage.reads)
            _check_scores(plan, stage)
            if isinstance(stage.kind, TrainingStage) and (schedule := stage.kind.schedule_of(stage.settings)):
                check_precision(schedule.precision, device)
                check_parts(schedule, world_size())
        except (ConfigError, WeightsError) as error:
            raise _of_stage(error, stage) from error


def _check_scores(plan: Plan, stage: PlannedStage) -> None:
    """See that raw scores are read of maps that have them, and that a threshold is of the form of maps it cuts.

    Raises:
        ConfigError: it names the setting that is to change.
    """
    raw = stage.kind.raw_wanted(stage.settings)
    made = [one for name in stage.reads.values() for one in plan.may_be(plan.stage(name))]
    for source in made if raw else ():
        if source.kind.makes is Makes.MAPS and not source.kind.raw_beside(source.settings):
            able = "raw" in type(source.settings).model_fields
            remedy = f"set {source.name}.raw=true, or" if able else f"maps of kind '{source.kind.name}' have none: set"
            raise ConfigError(
                f"scores = raw, but '{source.name}' keeps no raw scores beside its maps; {remedy} "
                f"{stage.name}.scores=normalised"
            )
    for source in made:
        theirs = source.kind.raw_wanted(source.settings)
        if source.kind.makes is Makes.THRESHOLD and theirs is not raw and Makes.MAPS in stage.kind.reads.values():
            forms = ("normalised", "raw")
            raise ConfigError(
                f"scores = {forms[raw]}, but the threshold of '{source.name}' is for {forms[theirs]} scores: set "
                f"{stage.name}.scores={forms[theirs]} or {source.name}.scores={forms[raw]}"
            )


def check_run_data(session: Session) -> None:
    """Check the data that the stages need, log warnings, and stop where a later stage would.

    Splits and their lists, images that one stage takes from another, networks and first weights, headers of all images
    and masks, and as many of them decoded as 45 seconds allow. A run that is complete is not checked, and a file that
    has not changed since an earlier run is not reread. Called in one process of a run.

    Raises:
        Tag2MaskError: what would stop a stage.
    """
    if session.complete():
        return
    plan = session.plan
    by_name, findings = open_splits(_splits(plan), session.open_split)
    _stop_at(findings, plan)
    doubts = [f"stage '{stage.name}': {text}" for stage in plan.stages for text in _stage_doubts(session, stage)]
    checked = CheckedFiles(session.store.root, plan, list(by_name.values()))
    soon = {(s.id, s.image) for s in by_name[plan.data.train].samples} if plan.data.train in by_name else set()
    inspected = first_look(by_name.values(), soon, checked.known())
    findings = in_order(findings_of(by_name, inspected, plan.data))
    _stop_at(findings, plan)
    if inspected:
        checked.remember(inspected)
    _warn([f for f in findings if f.severity == "warning"], plan)
    for text in doubts:
        LOG.warning("%s", text)


def _warn(warnings: Iterable[Finding], plan: Plan) -> None:
    """Log warnings; of a kind that each class may have, the first few."""
    count: Counter[str] = Counter()
    for finding in warnings:
        count[finding.kind] += 1
        if count[finding.kind] <= _LISTED:
            LOG.warning("%s", finding.lines())
    more = sum(max(number - _LISTED, 0) for number in count.values())
    if more:
        LOG.warning("and %d more of the same kinds: %s", more, _doctor(plan))


def _splits(plan: Plan) -> list[str]:
    """The splits that stages work on, and that whose images the report shows."""
    names = [plan.split_of(stage) for stage in plan.stages]
    return list(dict.fromkeys(name for name in [*names, plan.data.infer] if name is not None))


def _stop_at(findings: Iterable[Finding], plan: Plan) -> None:
    """Raise the errors of the data, the first few in words."""
    errors = [f for f in findings if f.severity == "error"]
    if not errors:
        return
    lines = [_error_line(f, plan) for f in errors[:_LISTED]]
    if len(errors) == 1:
        raise DataError(lines[0] if errors[0].kind == "open" else f"{lines[0]}. Look through all: {_doctor(plan)}")
    more = f"\n  and {len(errors) - _LISTED} more" if len(errors) > _LISTED else ""
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
    """Warnings about a stage on its split; what would stop it is raised, settings and weights with the stage named."""
    dataset = session.dataset(stage)
    if dataset is None:
        return ()
    try:
        _check_sources(session, stage, dataset)
        roles = sidecars_of(stage, session.ground(stage))
        if roles:
            check_sidecars(dataset, _read_of(stage, dataset), sorted(roles), stage.name)
        return stage.kind.validate_data(stage.settings, dataset)
    except (ConfigError, WeightsError) as error:
        raise _of_stage(error, stage) from error


def _check_sources(session: Session, stage: PlannedStage, dataset: Dataset) -> None:
    """Check that the files that a stage reads are made for all images that it reads them of."""
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
    """The samples of its split whose files of other stages a stage reads."""
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


_SCHEMA = 1
"""Raise it when a check finds more than before: what earlier ones found is forgotten then."""


class CheckedFiles:
    """What earlier runs have found in images and masks, by data set and way of reading it.

    A file that has not changed since is not reread.

    Args:
        store: folder of the store.
        plan: of the run.
        opened: its splits.
    """

    def __init__(self, store: Path, plan: Plan, opened: Sequence[Dataset]) -> None:
        settings = plan.data.model_dump(mode="json", exclude=set(_ROLES))
        setup = value_hash([_SCHEMA, plan.data_kind, settings, [list(d.classes) for d in opened[:1]]])
        self._path = store / f"looked-{setup[:16]}.json"
        self._wanted = each_once(opened)
        self._stamps: dict[Key, list[Any]] = {}

    def known(self) -> dict[Key, Inspection]:
        """What was found in images that have not changed since."""
        stored = self._stored()
        found = {}
        for key, (dataset, sample) in self._wanted.items():
            entry = stored.get(_name(key))
            if sample.image is None or entry is None:
                continue
            try:
                if entry["stamps"] == self._stamp(key, dataset):
                    findings = tuple(Finding(k, s, tuple(i), t, r) for k, s, i, t, r in entry["findings"])
                    found[key] = Inspection(sample, tuple(entry["size"]), _pixels(sample.id, entry["pixels"]), findings)
            except (KeyError, TypeError, ValueError, OSError):
                continue
        return found

    def remember(self, inspected: Mapping[Key, Inspection]) -> None:
        """Keep what was found in files without errors."""
        entries = {}
        for key, one in inspected.items():
            if one.size is None or any(f.severity == "error" for f in one.findings):
                continue
            pixels, shown = one.pixels, None if one.shown is None else sorted(one.shown)
            findings = [[f.kind, f.severity, list(f.ids), f.text, f.remedy] for f in one.findings]
            entries[_name(key)] = {
                "stamps": self._stamp(key, self._wanted[key][0]),
                "size": one.size,
                "pixels": [shown, pixels.ignored, pixels.grey],
                "findings": findings,
            }
        if entries:
            write_json(self._path, sealed(self._stored() | entries))

    def _stored(self) -> dict[str, Any]:
        """What is in the file; empty where there is none, or a damaged one."""
        try:
            return unsealed(read_json(self._path), self._path) if self._path.is_file() else {}
        except StageError as error:
            LOG.warning("%s; the images are rechecked", error)
            return {}

    def _stamp(self, key: Key, dataset: Dataset) -> list[Any]:
        """What shows that the files behind a sample have changed."""
        if key not in self._stamps:
            sample = self._wanted[key][1]
            files = [p for p in (sample.image, sample.truth, *sample.sidecars.values(), *dataset.sources) if p]
            self._stamps[key] = [[str(p), *stamp(p)] for p in files]
        return self._stamps[key]


def _pixels(sample: str, entry: Sequence[Any]) -> Pixels:
    shown, ignored, grey = entry
    return Pixels(sample, None if shown is None else frozenset(shown), ignored, None if grey is None else tuple(grey))


def _name(key: Key) -> str:
    return f"{key[0]}:{key[1]}"
