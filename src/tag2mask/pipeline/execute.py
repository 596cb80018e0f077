"""Executes a plan: finished stages are skipped, an interrupted run resumes at the first missing image or epoch.

A stage is made in one of three ways: from a forward pass that it shares, image by image, or as a whole.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Sequence
from contextlib import ExitStack, closing, nullcontext
from typing import Any

from tag2mask.core.errors import ConfigError, StageError
from tag2mask.core.files import cannot_write, system_errors, value_hash
from tag2mask.core.locks import at_work, exclusive
from tag2mask.core.prefetch import prefetch
from tag2mask.core.processes.alike import check_alike, check_shared, versions
from tag2mask.core.processes.ranks import barrier, join, rank, world_size
from tag2mask.core.progress import LOG, progress
from tag2mask.core.resources import threads_for
from tag2mask.core.types import Sample
from tag2mask.inference.settings import MapsSettings
from tag2mask.methods.artefact import Choice
from tag2mask.methods.context import ImageProgram
from tag2mask.methods.stage_kinds import ChoiceStage, FeatureMapStage, ImageStage, Makes
from tag2mask.pipeline.per_image import PerImageJob, Size, make_files, todo
from tag2mask.pipeline.plan import Plan, PlannedStage
from tag2mask.pipeline.preflight import check_run_data, preflight
from tag2mask.pipeline.run_folder import RunFolder
from tag2mask.pipeline.session import Done, Session
from tag2mask.pipeline.worker_pool import in_pool, one_thread, workers

WORTH_A_POOL = 24
"""Images from which on a pool gains more than the seconds that starting it costs."""
_Batch = tuple[Sequence[Sample], list[Size]]
"""Samples that are computed together, and the (height, width) of their images."""


def run_plan(plan: Plan, folder: RunFolder) -> list[Done]:
    """Execute a plan in a run folder that no other process uses.

    Raises:
        Tag2MaskError: whatever a stage finds wrong; what was made so far stays and is used by the next run.
    """
    with system_errors():
        return _prepare_and_execute(plan, folder)


def _prepare_and_execute(plan: Plan, folder: RunFolder) -> list[Done]:
    if world_size() > 1:
        from tag2mask.training.device import resolve_device

        join(resolve_device(plan.recipe.engine).type)
        _check_alike(plan, folder)
    preflight(plan)
    for place, root in (("--out", folder.path), ("the store", folder.store.root)):
        check_shared(root, place)
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
            check_run_data(session)
            folder.begin(plan.recipe, threads_for(plan.recipe.engine.threads, folder.threads()))
        barrier()
        if world_size() > 1:
            _check_data(session)
        _compute_with(folder.threads())
        done = _execute(session)
        if rank() == 0:
            folder.unlink_others({s.name for s in plan.stages})
            folder.end(session.fingerprints())
            session.keys.hashes.save()
        return done


def _check_alike(plan: Plan, folder: RunFolder) -> None:
    """See that all processes have the same versions and recipe; their engines may differ."""
    recipe = value_hash(plan.recipe.model_dump(mode="json", exclude={"engine"}))
    cure = "Start all processes with the same command, in the same folder"
    check_alike(versions() | {"the run folder": (str(folder.path), cure), "the recipe": (recipe[:8], cure)})


def _check_data(session: Session) -> None:
    """See that all processes have the same images and tags, in the same order."""
    names = sorted({name for stage in session.plan.stages if (name := session.plan.split_of(stage)) is not None})
    facts = {}
    for name in names:
        samples = session.open_split(name).samples
        found = f"{len(samples)} images ({value_hash([(s.id, s.tags) for s in samples])[:8]})"
        facts[f"split {name} of the data"] = found, "Name a data.root that all machines share, or copy it anew"
    check_alike(facts)


def _compute_with(threads: int | None) -> None:
    import torch

    if threads is not None:
        torch.set_num_threads(threads)


def _execute(session: Session) -> list[Done]:
    for stage in session.plan.stages:
        if stage.name in session.done:
            continue
        if isinstance(stage.kind, FeatureMapStage):
            make_files(session, sharing_pass(session, stage), _run_network)
        elif isinstance(stage.kind, ImageStage):
            make_files(session, [stage], _run_program)
        else:
            make_artefact(session, stage)
        session.keys.hashes.save()
    return [session.done[s.name] for s in session.plan.stages]


def sharing_pass(session: Session, first: PlannedStage) -> list[PlannedStage]:
    """The stages of maps that can share one forward pass with ``first``, itself in front."""

    def identity(stage: PlannedStage) -> object:
        networks = [stage.reads[role] for role, makes in stage.kind.reads.items() if makes is Makes.WEIGHTS]
        shared = stage.settings.model_dump(include=set(MapsSettings.model_fields))
        levels = isinstance(stage.kind, FeatureMapStage) and stage.kind.levels(session.plan.read_settings(stage))
        return sorted(session.done[n].artefact.key for n in networks), shared, session.plan.split_of(stage), levels

    def ready(stage: PlannedStage) -> bool:
        waits = stage.name not in session.done and stage is not first and isinstance(stage.kind, FeatureMapStage)
        return waits and all(s in session.done for s in stage.reads.values())

    return [first, *(s for s in session.plan.stages if ready(s) and identity(s) == identity(first))]


def _run_network(jobs: Sequence[PerImageJob]) -> float:
    """A shared pass: run the network over the missing images of this process; returns the seconds it took."""
    samples, session, stage = todo(jobs), jobs[0].session, jobs[0].stage
    if not samples:
        return 0.0
    from tag2mask.inference.runner import MapTask, make_maps
    from tag2mask.training.device import resolve_device

    programs = [job.stage.kind.load()(session.context(job.stage, job.key)) for job in jobs]
    for job, program in zip(jobs, programs, strict=True):
        if job.stage.kind.raw_beside(job.stage.settings) and program.raw is None:
            raise ConfigError(
                f"stage '{job.stage.name}': raw = true, but its kind '{job.stage.kind.name}' has no raw scores; leave "
                "it out, and scores=raw of the stages that read it"
            )
    tasks = [MapTask(p.head, job.wants, job.write, p.raw) for p, job in zip(programs, jobs, strict=True)]
    assert isinstance(stage.settings, MapsSettings)  # as `FeatureMapStage` declares
    device = resolve_device(session.engine)
    started = time.monotonic()
    with progress(" + ".join(job.stage.name for job in jobs), len(samples), quiet=session.rank > 0) as counter:
        first = programs[0]
        make_maps(
            first.network, tasks, jobs[0].dataset, samples, stage.settings, device, counter, first.side, first.levels
        )
    return time.monotonic() - started


def _run_program(jobs: Sequence[PerImageJob]) -> float:
    """Image by image: compute the missing images of this process; returns the seconds it took."""
    (job,) = jobs
    samples, session = todo(jobs), job.session
    if not samples:
        return 0.0
    program: ImageProgram = job.stage.kind.load()(session.context(job.stage, job.key))
    sized = job.stage.kind.makes is Makes.MAPS

    def prepare(batch: Sequence[Sample]) -> tuple[_Batch, list[Any]]:
        sizes = [job.dataset.image(s).size[::-1] if sized else (0, 0) for s in batch]  # labels have a size themselves
        return (batch, sizes), [program.prepare(s) for s in batch]

    batches = [samples[i : i + program.batch] for i in range(0, len(samples), program.batch)]
    n_workers = workers(session.engine) if len(samples) > WORTH_A_POOL else 1
    started = time.monotonic()
    with (
        progress(job.stage.name, len(samples), quiet=session.rank > 0) as counter,
        closing(_results(program, prefetch(prepare, batches), n_workers)) as results,
    ):
        for (batch, sizes), made in results:
            for sample, size, result in zip(batch, sizes, made, strict=True):
                job.write(sample, result, size)
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


def make_artefact(session: Session, stage: PlannedStage) -> None:
    """Make the artefact of a stage that is not per image, or take it from the store.

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
            seconds = _run_stage(session, stage, key)
            dataset = session.dataset(stage)
            count = len(session.samples(stage, dataset)) if dataset is not None else 0
            files = session.store.hash_files(kind.name, key, before)
            manifest = session.record(stage, key, n_images=count, made=count, seconds=seconds, files=files)
            barrier()
        session.finish(stage, manifest)
    if isinstance(kind, ChoiceStage) and session.rank == 0:
        LOG.info("%s: %s", stage.name, session.done[stage.name].artefact.choices()[stage.name])


def _run_stage(session: Session, stage: PlannedStage, key: str) -> float:
    context, runner = session.context(stage, key), stage.kind.load()
    try:
        context.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(context.out, error) from error
    started = time.monotonic()
    if not isinstance(stage.kind, ChoiceStage):
        runner(context)
    elif session.rank == 0:
        choice: Choice = runner(context)
        candidates = stage.kind.candidates(stage.reads)
        if choice.role not in candidates:
            raise StageError(
                f"stage '{stage.name}' chose '{choice.role}': expected one of {', '.join(candidates)}. That is a fault "
                f"of its kind '{stage.kind.name}', {stage.kind.runner}"
            )
        choice.write(context.out, session.inputs(stage)[choice.role])
    barrier()
    return time.monotonic() - started
