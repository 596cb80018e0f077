"""Stages that are made as a whole: trained weights, prototypes, numbers."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack

from tag2mask.core.files import cannot_write
from tag2mask.core.ranks import barrier
from tag2mask.core.resources import peak_memory
from tag2mask.pipeline.plan import PlannedStage
from tag2mask.pipeline.session import Session
from tag2mask.pipeline.store import Manifest

LOG = logging.getLogger("tag2mask")


def make_whole(session: Session, stage: PlannedStage) -> None:
    """Make a stage's artefact, or take it from the store.

    Rank 0 holds the lock and writes the manifest; the others wait at the barriers.
    """
    key, kind = session.key(stage), stage.kind
    with ExitStack() as held:
        if session.rank == 0:
            held.enter_context(session.lock(stage, key))
        barrier()
        manifest, before = session.store.manifest(kind.name, key), session.store.present(kind.name, key)
        barrier()
        if manifest is not None:
            LOG.info("%s: done already (%s)", stage.name, session.store.folder(kind.name, key).name)
        else:
            seconds = _run(session, stage, key)
            dataset = session.dataset(stage)
            count = len(session.samples(stage, dataset)) if dataset is not None else 0
            manifest = Manifest(
                kind=kind.name,
                key=key,
                made_from=session.inputs(stage),
                ledger=session.ledger(stage),
                n_images=count,
                seconds=seconds,
                made=count,
                peak_memory=peak_memory(),
                files=session.store.hash_files(kind.name, key, before),
            )
            if session.rank == 0:
                session.store.finish(manifest)
            barrier()
        session.finish(stage, manifest)


def _run(session: Session, stage: PlannedStage, key: str) -> float:
    context = session.context(stage, key)
    try:
        context.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(context.out, error) from error
    started = time.monotonic()
    stage.kind.load()(context)
    barrier()
    return time.monotonic() - started
