"""Many photos to a folder of masks, for `tag2mask predict`: finished masks are skipped, failures reported last."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tag2mask.core.errors import DataError
from tag2mask.core.files import value_hash
from tag2mask.core.names import printable, shown
from tag2mask.core.palette import own_bound
from tag2mask.core.prefetch import prefetch
from tag2mask.core.processes.alike import check_alike, check_shared, versions
from tag2mask.core.processes.ranks import barrier, everyone, join, rank, world_size
from tag2mask.core.progress import LOG, Counter, progress
from tag2mask.segmentation.predict.find_photos import Source
from tag2mask.segmentation.predict.labeller import Labeller, at_once
from tag2mask.segmentation.predict.mask_folder import MasksFolder
from tag2mask.segmentation.predict.photo_readers import MAX_PIXELS, ArrayPhoto, open_photo, reading
from tag2mask.segmentation.predict.tiles import Picture

_READERS = 2


@dataclass(frozen=True, slots=True)
class Failure:
    """A photo without a mask, and why."""

    path: Path
    reason: str


@dataclass(slots=True)
class Outcome:
    """Masks that were written, that were there, and photos that could not be read or computed."""

    made: int = 0
    skipped: int = 0
    failed: list[Failure] = field(default_factory=list)

    def check(self) -> None:
        """Raise `DataError` where a photo has no mask; each is listed with its reason."""
        if self.failed:
            lines = "".join(f"\n  {shown(failure.path)}: {failure.reason}" for failure in self.failed)
            total = self.made + self.skipped + len(self.failed)
            raise DataError(f"{len(self.failed)} of {total} photos have no mask:{lines}")


@dataclass(frozen=True, slots=True)
class _Work:
    """One photo to be computed, or only drawn."""

    source: Source
    key: str
    photo: Picture
    labels: bool


def predict_photos(
    sources: Sequence[Source], labeller: Labeller, folder: MasksFolder, max_pixels: int = MAX_PIXELS
) -> Outcome:
    """Write the masks of photos, and overlays where the folder makes them; photos of more than ``max_pixels`` fail.

    Photos of one size go through the network together, up to the labeller's batch. Several processes (``torchrun``)
    share the photos by their position; each has the outcome of all.
    """
    outcome = Outcome()
    if rank() == 0:
        folder.claim(sources)
    barrier()
    mine = sources[rank() :: world_size()]

    def prepare(source: Source) -> _Work | Failure | None:
        if source.problem is not None:
            return Failure(source.path, source.problem)
        try:
            with reading(source.path):
                return _prepared(source, folder, max_pixels)
        except DataError as error:
            return Failure(source.path, str(error))

    with own_bound(), progress("predict", len(mine), quiet=rank() > 0) as counter:
        ready = _counted(prefetch(prepare, mine, _READERS), outcome, counter)
        for batch in _batches(ready, labeller.batch):
            _make(batch, labeller, folder, outcome)
            counter.advance(len(batch))
    return _of_all(everyone(outcome), sources)


def _of_all(outcomes: Sequence[Outcome], sources: Sequence[Source]) -> Outcome:
    """The outcome of all processes, failures in the order of the photos."""
    place = {source.path: number for number, source in enumerate(sources)}
    failed = sorted((f for outcome in outcomes for f in outcome.failed), key=lambda failure: place[failure.path])
    return Outcome(sum(o.made for o in outcomes), sum(o.skipped for o in outcomes), failed)


def together(folder: MasksFolder, sources: Sequence[Source]) -> None:
    """Make the folder ready in process 0, once all processes know that they have the same to do; one needs no check.

    Args:
        folder: for the masks.
        sources: the photos, in the same order in every process.

    Raises:
        StageError: a process does not see the folder, has other photos or another network; or what
            `MasksFolder.prepare` finds wrong.
    """
    join()
    check_shared(folder.path, "--out")
    names = value_hash([os.fsencode(source.path).hex() for source in sources])  # which may be no text
    check_alike(
        versions()
        | {
            "what makes masks": (folder.identity, "Give all processes the same network and options"),
            "the list of photos": (f"{len(sources)} photos ({names[:8]})", "Name a folder that all machines share"),
        }
    )
    if rank() == 0:
        folder.prepare()
    barrier()


def _prepared(source: Source, folder: MasksFolder, max_pixels: int) -> _Work | None:
    """A photo's work, small photos decoded; None where nothing is left to do."""
    key = folder.key(source.path)
    made = folder.made(source, key)
    if made and folder.complete(source):
        return None
    photo = open_photo(source.path, max_pixels)
    if at_once(photo.size):  # larger ones are decoded when it is their turn, one at a time
        photo = ArrayPhoto(photo.window(0, 0, *photo.size))
    return _Work(source, key, photo, not made)


def _counted(items: Iterable[_Work | Failure | None], outcome: Outcome, counter: Counter) -> Iterator[_Work]:
    """The photos with work; the others are counted."""
    for item in items:
        if isinstance(item, _Work):
            yield item
            continue
        if item is None:
            outcome.skipped += 1
        else:
            outcome.failed.append(item)
            LOG.warning("%s", printable(item.reason))
        counter.advance()


def _batches(items: Iterable[_Work], size: int) -> Iterator[list[_Work]]:
    """Photos of one size together, up to ``size``; few are held back, as photos often have two or three sizes."""
    waiting: dict[tuple[int, int, bool], list[_Work]] = {}
    for item in items:
        same = waiting.setdefault((*item.photo.size, item.labels), [])
        same.append(item)
        if len(same) == size or not isinstance(item.photo, ArrayPhoto):
            yield waiting.pop((*item.photo.size, item.labels))
        elif sum(map(len, waiting.values())) >= 4 * size:
            yield waiting.pop(max(waiting, key=lambda key: len(waiting[key])))
    yield from waiting.values()


def _make(batch: Sequence[_Work], labeller: Labeller, folder: MasksFolder, outcome: Outcome) -> None:
    """Masks and overlays of photos of one size; what fails is counted."""
    labels: Sequence[NDArray[np.uint8] | None] = [None] * len(batch)
    try:
        if batch[0].labels:
            labels = labeller.labels([work.photo for work in batch])
    except DataError as error:
        outcome.failed += [Failure(work.source.path, str(error)) for work in batch]
        LOG.warning("%s", error)
        return
    for work, made in zip(batch, labels, strict=True):
        try:
            if made is not None:
                folder.write(work.source, work.key, made)
            if folder.overlay:
                folder.draw(work.source, work.photo)
        except DataError as error:
            outcome.failed.append(Failure(work.source.path, str(error)))
            LOG.warning("%s", error)
        else:
            outcome.made += 1
