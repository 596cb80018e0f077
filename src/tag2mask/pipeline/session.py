"""State of a run in progress: what is done, what each stage is given, and the keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tag2mask.config.settings import key_values
from tag2mask.core.errors import Tag2MaskError
from tag2mask.core.files import value_hash
from tag2mask.core.links import is_link
from tag2mask.core.locks import exclusive
from tag2mask.core.manifest import Manifest
from tag2mask.core.processes.ranks import rank
from tag2mask.core.resources import peak_memory
from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset, Ground
from tag2mask.data.registry import open_split
from tag2mask.data.split_views import on_ground
from tag2mask.evaluation.background import CONSTANT, rule_on
from tag2mask.methods.artefact import Artefact
from tag2mask.methods.context import StageContext
from tag2mask.methods.stage_kinds import BACKGROUND, TrainingStage
from tag2mask.pipeline.keys import SampleKeys, keys_of, stage_key
from tag2mask.pipeline.plan import Plan, PlannedStage
from tag2mask.pipeline.run_folder import RunFolder
from tag2mask.pipeline.store import sweep


@dataclass(frozen=True, slots=True)
class Done:
    """A finished stage of this run."""

    stage: PlannedStage
    artefact: Artefact
    manifest: Manifest


class Session:
    """State of a run, the same in each of its processes.

    Args:
        plan: the checked recipe.
        folder: of the run, prepared.

    Attributes:
        done: finished stages by instance name.
        keys: sample keys.
    """

    def __init__(self, plan: Plan, folder: RunFolder) -> None:
        self.plan, self.folder, self.store = plan, folder, folder.store
        self.engine = plan.recipe.engine
        self.rank = rank()
        self.keys = keys_of(self.store.root, self.rank)
        self.done: dict[str, Done] = {}
        self._splits: dict[str, Dataset] = {}
        self._grounds: dict[tuple[str, Ground], Dataset] = {}

    def open_split(self, name: str) -> Dataset:
        """A split by its name, opened once."""
        if name not in self._splits:
            self._splits[name] = open_split(self.plan.data_kind, self.plan.data, name)
        return self._splits[name]

    def dataset(self, stage: PlannedStage) -> Dataset | None:
        """The split that a stage works on; None only where that is ``val`` and the data has none."""
        name = self.plan.split_of(stage)
        if name is None:
            return None
        place = name, self.ground(stage)
        if place not in self._grounds:
            self._grounds[place] = on_ground(self.open_split(name), place[1])
        return self._grounds[place]

    def ground(self, stage: PlannedStage) -> Ground:
        """What the pixels of no class are to a stage; a background as long as it is not decided."""
        done = self.done.get(stage.reads.get(BACKGROUND, ""))
        return ground_of(stage, self.plan, None if done is None else done.artefact)

    def context(self, stage: PlannedStage, key: str) -> StageContext[Any]:
        """What the stage is given."""
        return StageContext(
            kind=stage.kind,
            name=stage.name,
            settings=stage.settings,
            reads={role: self.done[source].artefact for role, source in stage.reads.items()},
            split=self.dataset(stage),
            out=self.store.folder(stage.kind.name, key),
            seed=stage.seed,
            engine=self.engine,
            rank=self.rank,
        )

    def key(self, stage: PlannedStage) -> str:
        """The stage's key; everything it reads must be done."""
        kind = stage.kind
        return stage_key(
            kind=kind.name,
            version=kind.version,
            settings=key_values(stage.settings) | _of_ground(self.ground(stage)),
            inputs=self.inputs(stage),
            seed=stage.seed if isinstance(kind, TrainingStage) else None,
            fingerprint=kind.fingerprint(stage.settings) if kind.fingerprint else "",
            data=self._data(stage),
        )

    def _data(self, stage: PlannedStage) -> str:
        """What a stage's key takes of the data: for one made as a whole its samples and classes, and ground truth.

        Those made image by image have the samples in the keys of their files.
        """
        dataset = self.dataset(stage)
        if dataset is None:
            return "none"
        samples = self.samples(stage, dataset)
        whole = not stage.kind.per_image
        parts = [self.keys.all(dataset, samples, self.sidecars(stage)), *dataset.classes] if whole else []
        if stage.kind.looks_at_ground_truth(stage.settings):
            parts += [self.keys.hashes.truth(dataset, s) for s in samples]
        return ",".join(parts)

    def fingerprints(self) -> dict[str, str]:
        """Split -> image count, and a hash of its classes, images, tags and mask files, of the splits opened so far.

        Ground truth without files of its own, such as COCO's annotations, is in the keys of the stages that read it.
        """
        return {name: f"{len(data)} images, {self._fingerprint(data)[:16]}" for name, data in self._splits.items()}

    def _fingerprint(self, dataset: Dataset) -> str:
        files = [(s.id, s.truth) for s in dataset.samples if s.truth is not None and s.truth.is_file()]
        masks = [[name, self.keys.hashes.file(path)] for name, path in files]
        reading = [dataset.truth_reading] if masks and dataset.truth_reading else []
        return value_hash([list(dataset.classes), self.keys.all(dataset), masks, *reading])

    def samples(self, stage: PlannedStage, dataset: Dataset) -> Sequence[Sample]:
        """What a stage made as a whole looks at: all samples of its split, unless its kind names fewer."""
        few = stage.kind.samples
        return few(stage.settings, dataset) if few else dataset.samples

    def sidecars(self, stage: PlannedStage) -> tuple[str, ...]:
        """As `sidecars_behind`; everything that the stage reads must be done."""
        reads = [self.done[source].artefact for source in stage.reads.values()]
        return sidecars_behind(stage, reads, self.ground(stage))

    def sample_key(self, stage: PlannedStage, key: str, dataset: Dataset, sample: Sample) -> str:
        """The key that the stage's file of one sample carries."""
        return self.keys.of(key, dataset, sample, self.sidecars(stage))

    def inputs(self, stage: PlannedStage) -> dict[str, str]:
        """Role -> hash of what is read; of a decision about the background, keys take what was decided alone."""
        reads = {role: source for role, source in stage.reads.items() if role != BACKGROUND}
        return {role: self.done[source].manifest.output_hash() for role, source in reads.items()}

    def ledger(self, stage: PlannedStage) -> tuple[str, ...]:
        """Supervision that the stage has seen."""
        own = supervision_of(stage, self.ground(stage))
        return tuple(sorted(own.union(*(self.done[s].manifest.ledger for s in stage.reads.values()))))

    @contextmanager
    def lock(self, stage: PlannedStage, key: str) -> Iterator[None]:
        """Hold the lock of an artefact in the store, and clear what a killed run left there."""
        path = self.store.folder(stage.kind.name, key)
        with exclusive(path.with_name(f".{path.name}.lock"), f"stage {path.name}", wait=True):
            sweep(path)
            self.folder.note(path)
            yield

    def record(
        self,
        stage: PlannedStage,
        key: str,
        *,
        n_images: int,
        made: int = 0,
        seconds: float = 0.0,
        shared_with: Sequence[str] = (),
        files: Mapping[str, str] | None = None,
    ) -> Manifest:
        """Write the manifest of an artefact that was just made, which marks it as finished; the rest as `Manifest`."""
        manifest = Manifest(
            kind=stage.kind.name,
            key=key,
            made_from=self.inputs(stage),
            ledger=self.ledger(stage),
            n_images=n_images,
            seconds=seconds,
            made=made,
            peak_memory=peak_memory(),
            shared_with=tuple(shared_with),
            files=dict(files or {}),
        )
        if self.rank == 0:
            self.store.finish(manifest)
        return manifest

    def finish(self, stage: PlannedStage, manifest: Manifest) -> None:
        """Note a finished stage and link it in the run folder."""
        self.note(stage, manifest)
        if self.rank == 0:
            self.folder.link(stage.name, self.store.folder(stage.kind.name, manifest.key))

    def note(self, stage: PlannedStage, manifest: Manifest) -> None:
        """Note a finished stage, so that others can read it."""
        path = self.store.folder(stage.kind.name, manifest.key)
        reads = {role: self.done[source].artefact for role, source in stage.reads.items()}
        artefact = artefact_of(
            stage, path, manifest.key, self.keys, reads, self.folder.command, self.ground(stage)
        )  # fmt: skip
        self.done[stage.name] = Done(stage, artefact, manifest)

    def complete(self) -> bool:
        """Whether every stage of the plan is finished and linked, so that a run has nothing to do."""
        stages = self.plan.stages
        if not all(is_link(self.folder.path / stage.name) for stage in stages):
            return False
        try:
            return all(self._is_made(stage) for stage in stages)
        except (Tag2MaskError, OSError):  # reported when the stage is executed
            return False
        finally:
            self.done.clear()

    def _is_made(self, stage: PlannedStage) -> bool:
        manifest, _ = self.store.inspect(
            stage.kind.name, self.key(stage)
        )  # errors are reported when the stage is executed
        if manifest is None:
            return False
        dataset = self.dataset(stage)
        if stage.kind.per_image and manifest.n_images != (0 if dataset is None else len(dataset)):
            return False
        self.note(stage, manifest)
        return True


def ground_of(stage: PlannedStage, plan: Plan, decided: Artefact | None = None) -> Ground:
    """What the pixels of no class are to a stage of a plan, by its data or by what was decided, if anything was."""
    found = plan.data.background
    if not stage.kind.follows_background:
        return "present"
    if found == "auto":
        return "present" if decided is None else decided.decided().background
    return found


def _of_ground(ground: Ground) -> dict[str, str]:
    """What a key takes of it; nothing where the data has a background, as keys were before there was a choice."""
    return {} if ground == "present" else {"data.background": ground}


def supervision_of(stage: PlannedStage, ground: Ground) -> frozenset[str]:
    """What a stage adds to the ledger."""
    return stage.kind.supervision_of(stage.settings) | rule_on(ground, CONSTANT).supervision


def sidecars_of(stage: PlannedStage, ground: Ground) -> frozenset[str]:
    """Roles of the sidecars that a stage looks at."""
    return stage.kind.sidecars_of(stage.settings).union(rule_on(ground, CONSTANT).sidecars)


def sidecars_behind(stage: PlannedStage, reads: Iterable[Artefact], ground: Ground) -> tuple[str, ...]:
    """Roles of the sidecars that a stage depends on: its own, and those of the maps and masks that it reads.

    What else it reads is known by the hash of its files.
    """
    files = [artefact.sidecars for artefact in reads if artefact.kind is not None and artefact.kind.per_image]
    return tuple(sorted(sidecars_of(stage, ground).union(*files)))


def artefact_of(
    stage: PlannedStage,
    path: Path,
    key: str,
    keys: SampleKeys,
    reads: Mapping[str, Artefact],
    command: str,
    ground: Ground,
) -> Artefact:
    """The artefact of a finished stage as others read it; of a choice, what it has chosen.

    Args:
        stage: that made it.
        path: its folder in the store.
        key: its stage key.
        keys: sample keys.
        reads: what it read, by role.
        command: makes what is missing of it.
        ground: what the pixels of no class are to it.

    Raises:
        DamagedError: the file of a choice is not what was written.
    """
    roles = sidecars_behind(stage, reads.values(), ground)
    return Artefact(
        name=stage.name,
        path=path,
        key=key,
        sample_key=partial(keys.of, key, roles=roles),
        settings=stage.settings,
        reads=reads,
        command=command,
        kind=stage.kind,
        base_name=stage.base_name,
        sidecars=roles,
        background=ground,
    ).followed()
