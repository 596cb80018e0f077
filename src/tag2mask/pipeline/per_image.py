"""Per-image stages: find missing outputs, write them, mark the stage complete."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tag2mask.core.files import megabytes, require_room, settle
from tag2mask.core.manifest import Manifest
from tag2mask.core.palette import labels_key, write_labels
from tag2mask.core.prefetch import Later, in_background, prefetch
from tag2mask.core.processes.ranks import barrier, world_size
from tag2mask.core.progress import LOG
from tag2mask.core.types import ActivationMaps, Sample
from tag2mask.data.base import Dataset
from tag2mask.inference.maps_file import maps_key, stride4, write_maps
from tag2mask.methods.artefact import FOLDERS
from tag2mask.methods.stage_kinds import ImageStage, Makes
from tag2mask.pipeline.plan import PlannedStage
from tag2mask.pipeline.session import Session

Size = tuple[int, int]
_KEY_OF = {Makes.MAPS: maps_key, Makes.MASKS: labels_key}
_BESIDE = 1100
"""Bytes of a file beside its maps or labels: names, key, palette."""
_ABSENT = 200
"""Bytes of an absent class's histogram of raw scores, packed."""
_READERS = 2
"""Threads that check the files that are there."""
_SHRINKS = 8
"""A label image takes less than this part of a byte a pixel: it is compressed, and its regions are large."""


@dataclass(frozen=True, slots=True)
class PerImageJob:
    """One stage's part of a pass over the images.

    Attributes:
        session: of the run.
        stage: what is made.
        key: its stage key.
        dataset: the split it works on.
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
        key = self.session.sample_key(self.stage, self.key, self.dataset, sample)
        if isinstance(result, ActivationMaps):
            self.later(write_maps, path, result, size, key)
        else:
            self.later(write_labels, path, result, key)

    def bytes_of(self, size: Size, n_tags: int) -> int:
        """An upper estimate of the file of an image of ``size`` with that many tags."""
        if self.stage.kind.makes is Makes.MAPS:
            height, width = stride4(*size)
            found = height * width * 2 * n_tags + _BESIDE
            if self.stage.kind.raw_beside(self.stage.settings):
                found += height * width * n_tags + _ABSENT * len(self.dataset.classes)
            return found
        return size[0] * size[1] // _SHRINKS + _BESIDE


def make_files(
    session: Session, stages: Sequence[PlannedStage], make: Callable[[Sequence[PerImageJob]], float]
) -> None:
    """Make what is missing of stages that one pass over the images serves, and note them as done.

    Args:
        session: of the run.
        stages: on the same split. Those of one key, such as of two seeds that are one in all they read, are one
            artefact: it is made once and noted for each of them.
        make: computes and writes the missing files of this process; returns the seconds it took.

    Raises:
        Tag2MaskError: what ``make`` raises; the files made so far stay, and the next run resumes after them.
    """
    dataset = session.dataset(stages[0])
    if dataset is None:
        for stage in stages:
            LOG.warning("%s: data.val is null, so there is no image; set it, or %s.split", stage.name, stage.name)
            session.finish(stage, session.record(stage, session.key(stage), n_images=0))
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
            jobs = [_job(session, ones[0], key, dataset, later) for key, ones in same.items()]
            barrier()
            seconds = make(jobs)
        barrier()
        for job in jobs:
            manifest = _finish(job, seconds, [s.name for s in stages if s is not job.stage])
            for stage in same[job.key]:
                session.finish(stage, manifest)


def todo(jobs: Sequence[PerImageJob]) -> list[Sample]:
    """The samples of this process of which something is missing, after a check that the disk has room for them.

    Processes share by position in the whole list, so that the split does not depend on what is missing.

    Raises:
        StageError: the disk is too small.
    """
    session, dataset = jobs[0].session, jobs[0].dataset
    names = " + ".join(job.stage.name for job in jobs)
    missing = [s for s in dataset.samples if any(job.wants(s) for job in jobs)]
    if not missing:
        LOG.info("%s: done already (%d images)", names, len(dataset))
        return []
    probe = missing[:: max(1, len(missing) // 8)]
    whole = any(isinstance(job.stage.kind, ImageStage) and job.stage.kind.photo_size for job in jobs)
    sizes = [((dataset.photo(s) if whole else dataset.image(s)).size[::-1], len(s.tags)) for s in probe]
    each = sum(job.bytes_of(size, tags) for job in jobs for size, tags in sizes) / len(sizes)
    require_room(session.store.root, round(each * len(missing)), names)
    LOG.info("%s: %d images, at most %s on disk", names, len(missing), megabytes(each * len(missing)))
    mine = {s.id for s in dataset.samples[session.rank :: world_size()]}
    return [s for s in missing if s.id in mine]


def _path(session: Session, stage: PlannedStage, key: str, sample: Sample) -> Path:
    folder, ending = FOLDERS[stage.kind.makes]
    return session.store.folder(stage.kind.name, key) / folder / f"{sample.id}{ending}"


def _job(session: Session, stage: PlannedStage, key: str, dataset: Dataset, later: Later) -> PerImageJob:
    stored = _KEY_OF[stage.kind.makes]
    damaged: list[Path] = []

    def missing(sample: Sample) -> str | None:
        """The sample's id where its file is to be made."""
        path = _path(session, stage, key, sample)
        found = stored(path)
        if found == session.sample_key(stage, key, dataset, sample):
            return None
        if found is None and path.exists():
            damaged.append(path)
        return sample.id

    absent = frozenset(name for name in prefetch(missing, dataset.samples, _READERS) if name is not None)
    if damaged:
        LOG.warning(
            "%s: %d files are damaged, first %s; they count as not made and are recomputed",
            stage.name, len(damaged), min(damaged),
        )  # fmt: skip
    return PerImageJob(session, stage, key, dataset, absent, later)


def _finish(job: PerImageJob, seconds: float, shared_with: Sequence[str]) -> Manifest:
    """The manifest of a job that is done: a new one where something of it was made."""
    session, stage = job.session, job.stage
    manifest = session.store.manifest(stage.kind.name, job.key)
    if manifest is not None and not job.missing and manifest.n_images == len(job.dataset):
        return manifest
    if session.rank == 0:
        settle(session.store.folder(stage.kind.name, job.key) / FOLDERS[stage.kind.makes][0])
    return session.record(
        stage, job.key, n_images=len(job.dataset), made=len(job.missing), seconds=seconds, shared_with=shared_with
    )
