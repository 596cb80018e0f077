"""Going through a plan: what is done stays, what is missing is made, and a kill at any moment costs little."""

from __future__ import annotations

import logging
import resource
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache, partial

from tag2mask.core import ledger
from tag2mask.core.files import megabytes, require_room
from tag2mask.core.progress import progress
from tag2mask.core.ranks import barrier, join, rank, world_size
from tag2mask.core.types import ActivationMaps, Sample
from tag2mask.data.base import Dataset
from tag2mask.data.registry import reader
from tag2mask.inference.maps_file import maps_key, stride4, write_maps
from tag2mask.inference.settings import MapsSettings
from tag2mask.methods.context import Artefact, StageContext
from tag2mask.pipeline.keys import ContentHashes, SampleKeys, stage_key
from tag2mask.pipeline.plan import Plan, PlannedStage
from tag2mask.pipeline.runfolder import RunFolder
from tag2mask.pipeline.store import Manifest, exclusive

LOG = logging.getLogger("tag2mask")


@dataclass(frozen=True, slots=True)
class Done:
    """A finished stage of this run."""

    stage: PlannedStage
    artefact: Artefact
    manifest: Manifest


class Executor:
    """Runs a plan in a run folder.

    Args:
        plan: checked recipe.
        folder: of the run, prepared.
    """

    def __init__(self, plan: Plan, folder: RunFolder) -> None:
        self.plan, self.folder, self.store = plan, folder, folder.store
        self.engine = plan.recipe.engine
        self.rank = rank()
        self.keys = SampleKeys(ContentHashes(self.store.root / f"hashes-{self.rank}.json"))
        self.done: dict[str, Done] = {}
        self.open_split = cache(self._open_split)

    def execute(self) -> list[Done]:
        """Make every artefact of the plan that is not there yet, in order."""
        for stage in self.plan.stages:
            if stage.name in self.done:
                continue
            if stage.kind.makes == "maps":
                self._maps(self._pass_of(stage))
            else:
                self._whole(stage)
            self.keys.hashes.save()
        return [self.done[s.name] for s in self.plan.stages]

    # -- what stages are given ------------------------------------------------------------------------------------

    def _open_split(self, name: str) -> Dataset | None:
        data = self.plan.data
        split = {"train": data.train, "val": data.val, "infer": data.infer}.get(name, name)
        return None if split is None else reader(self.plan.data_kind).open_split(data, split)

    def _context(self, stage: PlannedStage, key: str) -> StageContext:
        return StageContext(
            name=stage.name,
            settings=stage.settings,
            reads={role: self.done[source].artefact for role, source in stage.reads.items()},
            open_split=self.open_split,
            out=self.store.folder(stage.kind.name, key),
            seed=stage.seed,
            engine=self.engine,
            rank=self.rank,
        )

    def _dataset(self, stage: PlannedStage) -> Dataset:
        name = getattr(stage.settings, "split", None) or stage.kind.split
        dataset = self.open_split(name)
        assert dataset is not None  # only val may be null, and no kind works on val by default
        return dataset

    def _key(self, stage: PlannedStage) -> str:
        kind = stage.kind
        data = ""
        if kind.makes != "maps":
            dataset = self._dataset(stage)
            data = self.keys.all(dataset) + ",".join(dataset.classes)
            if kind.makes == "metrics":
                data += ",".join(self.keys.hashes.truth(dataset, s) for s in dataset.samples)
        return stage_key(
            kind=kind.name,
            version=kind.version,
            settings=stage.settings.model_dump(mode="json"),
            inputs=self._inputs(stage),
            seed=stage.seed if kind.makes in {"weights", "prototypes"} else None,
            fingerprint=kind.fingerprint(stage.settings) if kind.fingerprint else "",
            data=data,
        )

    def _inputs(self, stage: PlannedStage) -> dict[str, str]:
        return {role: self.done[source].manifest.output_hash() for role, source in stage.reads.items()}

    def _ledger(self, stage: PlannedStage) -> tuple[str, ...]:
        seen = set(stage.kind.supervision).union(*(self.done[s].manifest.ledger for s in stage.reads.values()))
        if stage.kind.makes in {"weights", "prototypes"}:
            ledger.check(seen, self.plan.recipe.allow_supervision, stage.name)
        return tuple(sorted(seen))

    def _finish(self, stage: PlannedStage, manifest: Manifest) -> None:
        artefact = Artefact(
            stage.name,
            self.store.folder(stage.kind.name, manifest.key),
            manifest.key,
            partial(self.keys.of, manifest.key),
        )
        self.done[stage.name] = Done(stage, artefact, manifest)
        if self.rank == 0:
            self.folder.link(stage.name, artefact.path)

    # -- stages that are made as a whole --------------------------------------------------------------------------

    def _whole(self, stage: PlannedStage) -> None:
        key, kind = self._key(stage), stage.kind
        seen = self._ledger(stage)
        with ExitStack() as held:
            if self.rank == 0:
                held.enter_context(self._lock(kind.name, key))
            barrier()
            known = self.store.manifest(kind.name, key)
            barrier()
            if known is not None:
                LOG.info("%s: done already (%s)", stage.name, self.store.folder(kind.name, key).name)
                self._finish(stage, known)
                return
            started = time.monotonic()
            context = self._context(stage, key)
            context.out.mkdir(parents=True, exist_ok=True)
            kind.load()(context)
            barrier()
            count = len(self._dataset(stage))
            manifest = Manifest(
                kind=kind.name,
                key=key,
                made_from=self._inputs(stage),
                ledger=seen,
                n_images=count,
                seconds=time.monotonic() - started,
                made=count,
                peak_memory=peak_memory(),
                files=self.store.hash_files(kind.name, key),
            )
            if self.rank == 0:
                self.store.finish(manifest)
            barrier()
            self._finish(stage, manifest)

    def _lock(self, kind: str, key: str) -> exclusive:  # type: ignore[valid-type]
        path = self.store.folder(kind, key)
        return exclusive(path.with_name(f".{path.name}.lock"), f"stage {path.name}", wait=True)

    # -- stages that are made image by image ----------------------------------------------------------------------

    def _pass_of(self, first: PlannedStage) -> list[PlannedStage]:
        """The stages of maps that can share one forward pass with ``first``, itself in front."""

        def identity(stage: PlannedStage) -> object:
            assert isinstance(stage.settings, MapsSettings)
            networks = [stage.reads[r] for r, makes in stage.kind.reads.items() if makes == "weights"]
            shared = stage.settings.model_dump(include=set(MapsSettings.model_fields))
            return sorted(self.done[n].artefact.key for n in networks), shared

        def ready(stage: PlannedStage) -> bool:
            return (
                stage.kind.makes == "maps"
                and stage.name not in self.done
                and all(source in self.done for source in stage.reads.values())
            )

        return [first] + [s for s in self.plan.stages if s is not first and ready(s) and identity(s) == identity(first)]

    def _maps(self, stages: Sequence[PlannedStage]) -> None:
        dataset = self._dataset(stages[0])
        keys = [self._key(stage) for stage in stages]
        with ExitStack() as held:
            if self.rank == 0:
                for stage, key in sorted(zip(stages, keys, strict=True), key=lambda pair: pair[1]):
                    held.enter_context(self._lock(stage.kind.name, key))
            barrier()
            missing = [self._missing(stage, key, dataset) for stage, key in zip(stages, keys, strict=True)]
            barrier()
            seconds = self._make_missing(stages, keys, missing, dataset)
            barrier()
            self._finish_maps(stages, keys, missing, dataset, seconds)

    def _missing(self, stage: PlannedStage, key: str, dataset: Dataset) -> frozenset[str]:
        folder = self.store.folder(stage.kind.name, key) / "maps"
        return frozenset(
            s.id for s in dataset.samples if maps_key(folder / f"{s.id}.npz") != self.keys.of(key, dataset, s)
        )

    def _make_missing(
        self, stages: Sequence[PlannedStage], keys: Sequence[str], missing: Sequence[frozenset[str]], dataset: Dataset
    ) -> float:
        from tag2mask.inference.runner import MapTask, make_maps
        from tag2mask.training.device import resolve_device

        wanted = frozenset().union(*missing)
        names = " + ".join(s.name for s in stages)
        if not wanted:
            LOG.info("%s: done already (%d images)", names, len(dataset))
            return 0.0
        todo = [s for s in dataset.samples if s.id in wanted]
        self._announce(names, todo, dataset, len(stages))
        programs = [s.kind.load()(self._context(s, key)) for s, key in zip(stages, keys, strict=True)]
        tasks = [
            MapTask(program.head, lambda s, m=ids: s.id in m, partial(self._write, stage, key, dataset))
            for program, stage, key, ids in zip(programs, stages, keys, missing, strict=True)
        ]
        mine = [s for s in dataset.samples[self.rank :: world_size()] if s.id in wanted]
        settings = stages[0].settings
        assert isinstance(settings, MapsSettings)
        started = time.monotonic()
        with progress(names, len(mine), quiet=self.rank > 0) as counter:
            make_maps(programs[0].network, tasks, dataset, mine, settings, resolve_device(self.engine), counter)
        return time.monotonic() - started

    def _announce(self, names: str, todo: Sequence[Sample], dataset: Dataset, n_stages: int) -> None:
        probe = todo[:: max(1, len(todo) // 8)]
        sizes = [(stride4(*dataset.image(s).size), len(s.tags)) for s in probe]
        each = sum(h * w * 2 * tags + 700 for (h, w), tags in sizes) / len(sizes)
        needed = round(each * len(todo) * n_stages)
        require_room(self.store.root, needed, names)
        LOG.info("%s: %d images, about %s on disk", names, len(todo), megabytes(needed))

    def _write(
        self, stage: PlannedStage, key: str, dataset: Dataset, sample: Sample, maps: ActivationMaps, size: tuple[int, int]
    ) -> None:
        path = self.store.folder(stage.kind.name, key) / "maps" / f"{sample.id}.npz"
        write_maps(path, maps, size, self.keys.of(key, dataset, sample))

    def _finish_maps(
        self,
        stages: Sequence[PlannedStage],
        keys: Sequence[str],
        missing: Sequence[frozenset[str]],
        dataset: Dataset,
        seconds: float,
    ) -> None:
        for stage, key, ids in zip(stages, keys, missing, strict=True):
            known = self.store.manifest(stage.kind.name, key)
            manifest = known if known is not None and not ids else Manifest(
                kind=stage.kind.name,
                key=key,
                made_from=self._inputs(stage),
                ledger=self._ledger(stage),
                n_images=len(dataset),
                seconds=seconds,
                made=len(ids),
                peak_memory=peak_memory(),
                shared_with=tuple(s.name for s in stages if s is not stage),
            )  # fmt: skip
            if self.rank == 0:
                self.store.finish(manifest)
            self._finish(stage, manifest)


def peak_memory() -> int:
    """Largest resident memory of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def run_plan(plan: Plan, folder: RunFolder) -> list[Done]:
    """Go through a plan in a run folder that no other process uses.

    Raises:
        Tag2MaskError: whatever a stage finds wrong; what was made so far stays and is used by the next run.
    """
    if plan.recipe.engine.threads is not None:
        import torch

        torch.set_num_threads(plan.recipe.engine.threads)
    join(plan.recipe.engine.device)
    with ExitStack() as held:
        if rank() == 0:
            folder.prepare()
            held.enter_context(exclusive(folder.path / "lock", f"the run {folder.path}"))
            folder.begin(plan.recipe)
        barrier()
        done = Executor(plan, folder).execute()
        if rank() == 0:
            folder.unlink_others({s.name for s in plan.stages})
        return done
