"""Stages that are made as a whole: trained weights, prototypes, numbers."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack

from tag2mask.core.files import cannot_write, system_errors
from tag2mask.core.locks import at_work, exclusive
from tag2mask.core.progress import progress
from tag2mask.core.ranks import barrier, join, rank, world_size
from tag2mask.core.resources import peak_memory, threads_for
from tag2mask.inference.settings import MapsSettings
from tag2mask.methods.stage_kinds import FeatureMapStage, ImageStage, Makes
from tag2mask.pipeline.per_image import Share, make_files, make_images, todo
from tag2mask.pipeline.plan import Plan, PlannedStage
from tag2mask.pipeline.preflight import look_ahead, preflight
from tag2mask.pipeline.run_folder import RunFolder
from tag2mask.pipeline.session import Done, Session
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


def pass_of(session: Session, first: PlannedStage) -> list[PlannedStage]:
    """The stages of maps that can share one forward pass with ``first``, itself in front."""

    def identity(stage: PlannedStage) -> object:
        networks = [stage.reads[role] for role, makes in stage.kind.reads.items() if makes is Makes.WEIGHTS]
        shared = stage.settings.model_dump(include=set(MapsSettings.model_fields))
        return sorted(session.done[n].artefact.key for n in networks), shared

    def ready(stage: PlannedStage) -> bool:
        waits = stage.name not in session.done and stage is not first and isinstance(stage.kind, FeatureMapStage)
        return waits and all(s in session.done for s in stage.reads.values())

    return [first, *(s for s in session.plan.stages if ready(s) and identity(s) == identity(first))]


def make_pass(session: Session, stages: Sequence[PlannedStage]) -> None:
    """Make what is missing of some stages that share a network, scales and precision.

    Raises:
        DataError: an image cannot be read; the maps made so far are kept.
        StageError: the disk is too small.
    """
    make_files(session, stages, _run_network)


def _run_network(shares: Sequence[Share]) -> float:
    """Run the network over the missing images of this process; returns the seconds it took."""
    samples, session, stage = todo(shares), shares[0].session, shares[0].stage
    if not samples:
        return 0.0
    from tag2mask.inference.runner import MapTask, make_maps
    from tag2mask.training.device import resolve_device

    programs = [share.stage.kind.load()(session.context(share.stage, share.key)) for share in shares]
    tasks = [MapTask(p.head, share.wants, share.write, p.raw) for p, share in zip(programs, shares, strict=True)]
    assert isinstance(stage.settings, MapsSettings)
    device = resolve_device(session.engine)
    started = time.monotonic()
    with progress(" + ".join(s.stage.name for s in shares), len(samples), quiet=session.rank > 0) as counter:
        make_maps(programs[0].network, tasks, shares[0].dataset, samples, stage.settings, device, counter)
    return time.monotonic() - started


def run_plan(plan: Plan, folder: RunFolder) -> list[Done]:
    """Go through a plan in a run folder that no other process uses.

    Raises:
        Tag2MaskError: whatever a stage finds wrong; what was made so far stays and is used by the next run.
    """
    with system_errors():
        return _go_through(plan, folder)


def _go_through(plan: Plan, folder: RunFolder) -> list[Done]:
    if world_size() > 1:
        from tag2mask.training.device import resolve_device

        join(resolve_device(plan.recipe.engine).type)
    preflight(plan)
    with ExitStack() as held:
        barrier()  # the cores are looked at while the other processes rest
        if rank() == 0:
            folder.prepare()
            held.enter_context(exclusive(folder.path / "lock", f"the run {folder.path}"))
            held.enter_context(at_work(folder.path))
            held.enter_context(at_work(folder.store.root, below=False))  # below it, stages have locks of their own
        session = Session(plan, folder)
        if rank() == 0:
            folder.adopt()
            look_ahead(session)
            folder.begin(plan.recipe, threads_for(plan.recipe.engine.threads, folder.threads()))
        barrier()
        _compute_with(folder.threads())
        done = _execute(session)
        if rank() == 0:
            folder.unlink_others({s.name for s in plan.stages})
            folder.end(session.fingerprints())
            session.keys.hashes.save()
        return done


def _compute_with(threads: int | None) -> None:
    import torch

    if threads is not None:
        torch.set_num_threads(threads)


def _execute(session: Session) -> list[Done]:
    for stage in session.plan.stages:
        if stage.name in session.done:
            continue
        if isinstance(stage.kind, FeatureMapStage):
            make_pass(session, pass_of(session, stage))
        elif isinstance(stage.kind, ImageStage):
            make_images(session, stage)
        else:
            make_whole(session, stage)
        session.keys.hashes.save()
    return [session.done[s.name] for s in session.plan.stages]
