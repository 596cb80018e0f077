"""Stages that are made image by image: maps, several methods in one pass over the network where they can share it."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from tag2mask.core.files import megabytes, require_room
from tag2mask.core.progress import progress
from tag2mask.core.ranks import barrier, world_size
from tag2mask.core.types import ActivationMaps, Sample
from tag2mask.data.base import Dataset
from tag2mask.inference.maps_file import maps_key, stride4, write_maps
from tag2mask.inference.settings import MapsSettings
from tag2mask.pipeline.plan import PlannedStage
from tag2mask.pipeline.session import Session, peak_memory
from tag2mask.pipeline.store import Manifest

LOG = logging.getLogger("tag2mask")
_BESIDE = 700
"""Bytes of a file of maps beside the maps themselves."""


@dataclass(frozen=True, slots=True)
class _Share:
    """One stage's share of a pass: what is missing of it, and how a file is written."""

    session: Session
    stage: PlannedStage
    key: str
    dataset: Dataset
    missing: frozenset[str]

    def wants(self, sample: Sample) -> bool:
        """Whether the sample's file is still to be made."""
        return sample.id in self.missing

    def write(self, sample: Sample, maps: ActivationMaps, size: tuple[int, int]) -> None:
        """Write one file."""
        path = self.session.store.folder(self.stage.kind.name, self.key) / "maps" / f"{sample.id}.npz"
        write_maps(path, maps, size, self.session.keys.of(self.key, self.dataset, sample))


def pass_of(session: Session, first: PlannedStage) -> list[PlannedStage]:
    """The stages of maps that can share one forward pass with ``first``, itself in front."""

    def identity(stage: PlannedStage) -> object:
        networks = [stage.reads[role] for role, makes in stage.kind.reads.items() if makes == "weights"]
        shared = stage.settings.model_dump(include=set(MapsSettings.model_fields))
        return sorted(session.done[n].artefact.key for n in networks), shared

    def ready(stage: PlannedStage) -> bool:
        waits = stage.name not in session.done and stage is not first
        return waits and stage.kind.makes == "maps" and all(s in session.done for s in stage.reads.values())

    return [first, *(s for s in session.plan.stages if ready(s) and identity(s) == identity(first))]


def make_pass(session: Session, stages: Sequence[PlannedStage]) -> None:
    """Make what is missing of some stages that share a network, scales and precision.

    Raises:
        DataError: an image cannot be read; the maps made so far are kept.
        StageError: the disk is too small.
    """
    dataset = session.dataset(stages[0])
    assert dataset is not None  # maps are made of data.infer, which is never null
    keys = {stage.name: session.key(stage) for stage in stages}
    with ExitStack() as held:
        if session.rank == 0:
            for stage in sorted(stages, key=lambda s: keys[s.name]):  # one order for all runs: no deadlock
                held.enter_context(session.lock(stage, keys[stage.name]))
        barrier()
        shares = [_share(session, stage, keys[stage.name], dataset) for stage in stages]
        barrier()
        seconds = _make_missing(session, shares, dataset)
        barrier()
        for share in shares:
            _finish(share, seconds, [s.name for s in stages if s is not share.stage])


def _share(session: Session, stage: PlannedStage, key: str, dataset: Dataset) -> _Share:
    folder = session.store.folder(stage.kind.name, key) / "maps"

    def missing(sample: Sample) -> bool:
        return maps_key(folder / f"{sample.id}.npz") != session.keys.of(key, dataset, sample)

    return _Share(session, stage, key, dataset, frozenset(s.id for s in dataset.samples if missing(s)))


def _make_missing(session: Session, shares: Sequence[_Share], dataset: Dataset) -> float:
    """Run the network over the missing images of this process; returns the seconds it took."""
    wanted = frozenset[str]().union(*(share.missing for share in shares))
    names = " + ".join(share.stage.name for share in shares)
    if not wanted:
        LOG.info("%s: done already (%d images)", names, len(dataset))
        return 0.0
    from tag2mask.inference.runner import MapTask, make_maps
    from tag2mask.training.device import resolve_device

    _announce(session, names, [s for s in dataset.samples if s.id in wanted], dataset, len(shares))
    programs = [share.stage.kind.load()(session.context(share.stage, share.key)) for share in shares]
    tasks = [MapTask(p.head, share.wants, share.write) for p, share in zip(programs, shares, strict=True)]
    # By position in the whole list, so that the split does not depend on what is missing.
    mine = [s for s in dataset.samples[session.rank :: world_size()] if s.id in wanted]
    settings = shares[0].stage.settings
    assert isinstance(settings, MapsSettings)
    device = resolve_device(session.engine)
    started = time.monotonic()
    with progress(names, len(mine), quiet=session.rank > 0) as counter:
        make_maps(programs[0].network, tasks, dataset, mine, settings, device, counter)
    return time.monotonic() - started


def _announce(session: Session, names: str, todo: Sequence[Sample], dataset: Dataset, n_stages: int) -> None:
    """Say what the maps will take of the disk, from the sizes of a few images; refuse if there is not as much."""
    probe = todo[:: max(1, len(todo) // 8)]
    sizes = [(stride4(*dataset.image(s).size), len(s.tags)) for s in probe]
    each = sum(height * width * 2 * tags + _BESIDE for (height, width), tags in sizes) / len(sizes)
    needed = round(each * len(todo) * n_stages)
    require_room(session.store.root, needed, names)
    LOG.info("%s: %d images, at most %s on disk", names, len(todo), megabytes(needed))


def _finish(share: _Share, seconds: float, shared_with: Sequence[str]) -> None:
    session, stage = share.session, share.stage
    manifest = session.store.manifest(stage.kind.name, share.key)
    if manifest is None or share.missing or manifest.n_images != len(share.dataset):
        manifest = Manifest(
            kind=stage.kind.name,
            key=share.key,
            made_from=session.inputs(stage),
            ledger=session.ledger(stage),
            n_images=len(share.dataset),
            seconds=seconds,
            made=len(share.missing),
            peak_memory=peak_memory(),
            shared_with=tuple(shared_with),
        )
        if session.rank == 0:
            session.store.finish(manifest)
    session.finish(stage, manifest)
