"""Stages that keep one file an image: what is missing of them, how a file is written, when they are done."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tag2mask.core.files import megabytes, require_room, settle
from tag2mask.core.palette import labels_key, write_labels
from tag2mask.core.prefetch import Later, in_background, prefetch
from tag2mask.core.progress import progress
from tag2mask.core.ranks import barrier, world_size
from tag2mask.core.resources import peak_memory
from tag2mask.core.types import ActivationMaps, Sample
from tag2mask.data.base import Dataset
from tag2mask.inference.maps_file import maps_key, stride4, write_maps
from tag2mask.methods.artefact import FOLDERS
from tag2mask.methods.stage_kinds import Makes
from tag2mask.pipeline.plan import PlannedStage
from tag2mask.pipeline.session import Session
from tag2mask.pipeline.store import Manifest
from tag2mask.pipeline.worker_pool import in_pool, one_thread, workers

LOG = logging.getLogger("tag2mask")
Size = tuple[int, int]
_KEY_OF = {Makes.MAPS: maps_key, Makes.MASKS: labels_key}
_BESIDE = 1100
"""Bytes of a file beside its maps or labels: names, key, palette."""
_READERS = 2
"""Threads that see whether the files that are there are whole."""
_SHRINKS = 8
"""A label image takes less than this part of a byte a pixel: it is compressed, and its regions are large."""


@dataclass(frozen=True, slots=True)
class Share:
    """One stage's share of a pass over the images.

    Attributes:
        session: of the run.
        stage: what is made.
        key: its stage key.
        dataset: the split it goes over.
        missing: ids of the samples whose file is absent, damaged or of another key.
        later: writes a file while the next one is computed.
    """

    session: Session
    stage: PlannedStage
    key: str
    dataset: Dataset
    missing: frozenset[str]
    later: Later

    def wants(self, sample: Sample) -> bool:
        """Whether the sample's file is still to be made."""
        return sample.id in self.missing

    def write(self, sample: Sample, result: ActivationMaps | NDArray[np.uint8], size: Size) -> None:
        """Have the file of one sample written, an image of ``size`` = (height, width)."""
        path = _path(self.session, self.stage, self.key, sample)
        key = self.session.keys.of(self.key, self.dataset, sample)
        if isinstance(result, ActivationMaps):
            self.later(write_maps, path, result, size, key)
        else:
            self.later(write_labels, path, result, key)

    def bytes_of(self, size: Size, n_tags: int) -> int:
        """About what the file of an image of ``size`` with that many tags takes, rather too much than too little."""
        if self.stage.kind.makes is Makes.MAPS:
            height, width = stride4(*size)
            return height * width * 2 * n_tags + _BESIDE
        return size[0] * size[1] // _SHRINKS + _BESIDE


def make_files(session: Session, stages: Sequence[PlannedStage], make: Callable[[Sequence[Share]], float]) -> None:
    """Make what is missing of stages that one pass over the images serves, and note them as done.

    Args:
        session: of the run.
        stages: on the same split. Those of one key, such as of two seeds that are one in all they read, are one
            artefact: it is made once and noted for each of them.
        make: computes and writes the missing files of this process; returns the seconds it took.

    Raises:
        Tag2MaskError: what ``make`` raises; the files made so far stay, and the next run goes on from them.
    """
    dataset = session.dataset(stages[0])
    if dataset is None:
        _make_nothing(session, stages)
        return
    same: dict[str, list[PlannedStage]] = {}
    for stage in stages:
        same.setdefault(session.key(stage), []).append(stage)
    with ExitStack() as held:
        if session.rank == 0:
            for key in sorted(same):  # one order for all runs: no deadlock
                held.enter_context(session.lock(same[key][0], key))
        barrier()
        with in_background() as later:
            shares = [_share(session, ones[0], key, dataset, later) for key, ones in same.items()]
            barrier()
            seconds = make(shares)
        barrier()
        for share in shares:
            manifest = _finish(share, seconds, [s.name for s in stages if s is not share.stage])
            for stage in same[share.key]:
                session.finish(stage, manifest)


def _make_nothing(session: Session, stages: Sequence[PlannedStage]) -> None:
    """Note stages as done whose split is data.val, where the data has none."""
    for stage in stages:
        LOG.warning("%s: data.val is null, so there is no image; set it, or %s.split", stage.name, stage.name)
        manifest = Manifest(
            kind=stage.kind.name,
            key=session.key(stage),
            made_from=session.inputs(stage),
            ledger=session.ledger(stage),
            n_images=0,
            seconds=0.0,
            made=0,
            peak_memory=peak_memory(),
        )
        if session.rank == 0:
            session.store.finish(manifest)
        session.finish(stage, manifest)


def todo(shares: Sequence[Share]) -> list[Sample]:
    """The samples of this process of which something is missing; says what the disk has to hold.

    Processes share by position in the whole list, so that the split does not depend on what is missing.

    Raises:
        StageError: the disk is too small.
    """
    session, dataset = shares[0].session, shares[0].dataset
    names = " + ".join(share.stage.name for share in shares)
    missing = [s for s in dataset.samples if any(share.wants(s) for share in shares)]
    if not missing:
        LOG.info("%s: done already (%d images)", names, len(dataset))
        return []
    probe = missing[:: max(1, len(missing) // 8)]
    sizes = [(dataset.image(s).size[::-1], len(s.tags)) for s in probe]
    each = sum(share.bytes_of(size, tags) for share in shares for size, tags in sizes) / len(sizes)
    require_room(session.store.root, round(each * len(missing)), names)
    LOG.info("%s: %d images, at most %s on disk", names, len(missing), megabytes(each * len(missing)))
    mine = {s.id for s in dataset.samples[session.rank :: world_size()]}
    return [s for s in missing if s.id in mine]


def _path(session: Session, stage: PlannedStage, key: str, sample: Sample) -> Path:
    folder, ending = FOLDERS[stage.kind.makes]
    return session.store.folder(stage.kind.name, key) / folder / f"{sample.id}{ending}"


def _share(session: Session, stage: PlannedStage, key: str, dataset: Dataset, later: Later) -> Share:
    stored = _KEY_OF[stage.kind.makes]

    damaged: list[Path] = []

    def missing(sample: Sample) -> str | None:
        """The sample's id where its file is to be made."""
        path = _path(session, stage, key, sample)
        found = stored(path)
        if found == session.keys.of(key, dataset, sample):
            return None
        if found is None and path.exists():
            damaged.append(path)
        return sample.id

    absent = frozenset(name for name in prefetch(missing, dataset.samples, _READERS) if name is not None)
    if damaged:
        LOG.warning(
            "%s: %d files are damaged, first %s; they count as not made and are made again",
            stage.name, len(damaged), min(damaged),
        )  # fmt: skip
    return Share(session, stage, key, dataset, absent, later)


def _finish(share: Share, seconds: float, shared_with: Sequence[str]) -> Manifest:
    """The manifest of a share that is made: a new one where something of it was."""
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
            folder = session.store.folder(stage.kind.name, share.key)
            settle(folder / FOLDERS[stage.kind.makes][0])
            session.store.finish(manifest)
    return manifest


if TYPE_CHECKING:
    from tag2mask.methods.context import ImageProgram

_Batch = tuple[Sequence[Sample], list[tuple[int, int]]]
"""Samples that are computed together, and the (height, width) of their images."""

WORTH_A_POOL = 24
"""Images from which on a pool gains more than the seconds that starting it costs."""


def make_images(session: Session, stage: PlannedStage) -> None:
    """Make what is missing of a stage whose runner gives an `ImageProgram`.

    Raises:
        DataError: an image, or what another stage made of it, cannot be used; the files made so far are kept.
        StageError: the disk is too small, or a worker was killed.
    """
    make_files(session, [stage], _run_program)


def _run_program(shares: Sequence[Share]) -> float:
    """Compute the missing images of this process; returns the seconds it took."""
    (share,) = shares
    samples, session = todo(shares), share.session
    if not samples:
        return 0.0
    program: ImageProgram = share.stage.kind.load()(session.context(share.stage, share.key))
    sized = share.stage.kind.makes is Makes.MAPS

    def prepare(batch: Sequence[Sample]) -> tuple[_Batch, list[Any]]:
        sizes = [share.dataset.image(s).size[::-1] if sized else (0, 0) for s in batch]  # labels have a size themselves
        return (batch, sizes), [program.prepare(s) for s in batch]

    batches = [samples[i : i + program.batch] for i in range(0, len(samples), program.batch)]
    n_workers = workers(session.engine) if len(samples) > WORTH_A_POOL else 1
    started = time.monotonic()
    with (
        progress(share.stage.name, len(samples), quiet=session.rank > 0) as counter,
        closing(_results(program, prefetch(prepare, batches), n_workers)) as results,
    ):
        for (batch, sizes), made in results:
            for sample, size, result in zip(batch, sizes, made, strict=True):
                share.write(sample, result, size)
                counter.advance()
    return time.monotonic() - started


def _results(
    program: ImageProgram, prepared: Iterable[tuple[_Batch, list[Any]]], n_workers: int
) -> Generator[tuple[_Batch, Sequence[Any]]]:
    """Batches with what the program makes of them; the same bytes whichever way they are computed."""
    if program.pooled and n_workers > 1:
        yield from in_pool(program.compute, prepared, n_workers)
        return
    for batch, inputs in prepared:
        with one_thread() if program.pooled else nullcontext():
            made = program.compute(inputs)
        yield batch, made
