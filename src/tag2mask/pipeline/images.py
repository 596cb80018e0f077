"""Stages that make one file an image from the files of other stages: an `ImageProgram`, here or in a pool."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing, nullcontext
from typing import TYPE_CHECKING, Any

from tag2mask.core.prefetch import ahead
from tag2mask.core.progress import progress
from tag2mask.core.types import Sample
from tag2mask.pipeline.plan import PlannedStage
from tag2mask.pipeline.pool import in_pool, one_thread, workers
from tag2mask.pipeline.session import Session
from tag2mask.pipeline.share import Share, make_files, todo

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
    sized = share.stage.kind.makes == "maps"

    def prepare(batch: Sequence[Sample]) -> tuple[_Batch, list[Any]]:
        sizes = [share.dataset.image(s).size[::-1] if sized else (0, 0) for s in batch]  # labels have a size themselves
        return (batch, sizes), [program.prepare(s) for s in batch]

    batches = [samples[i : i + program.batch] for i in range(0, len(samples), program.batch)]
    n_workers = workers(session.engine) if len(samples) > WORTH_A_POOL else 1
    started = time.monotonic()
    with (
        progress(share.stage.name, len(samples), quiet=session.rank > 0) as counter,
        closing(_results(program, ahead(prepare, batches), n_workers)) as results,
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
