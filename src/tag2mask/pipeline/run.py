"""Going through a plan: what is done stays, what is missing is made, and a kill at any moment costs little."""

from __future__ import annotations

from contextlib import ExitStack

from tag2mask.core.files import told
from tag2mask.core.locks import at_work, exclusive
from tag2mask.core.ranks import barrier, join, rank, world_size
from tag2mask.core.resources import threads_for
from tag2mask.methods.artefact import FOLDERS
from tag2mask.pipeline.images import make_images
from tag2mask.pipeline.maps import from_features, make_pass, pass_of
from tag2mask.pipeline.plan import Plan
from tag2mask.pipeline.preflight import look_ahead, preflight
from tag2mask.pipeline.runfolder import RunFolder
from tag2mask.pipeline.session import Done, Session
from tag2mask.pipeline.whole import make_whole


def run_plan(plan: Plan, folder: RunFolder) -> list[Done]:
    """Go through a plan in a run folder that no other process uses.

    Raises:
        Tag2MaskError: whatever a stage finds wrong; what was made so far stays and is used by the next run.
    """
    with told():
        return _run(plan, folder)


def _run(plan: Plan, folder: RunFolder) -> list[Done]:
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
        if from_features(stage):
            make_pass(session, pass_of(session, stage))
        elif stage.kind.makes in FOLDERS:
            make_images(session, stage)
        else:
            make_whole(session, stage)
        session.keys.hashes.save()
    return [session.done[s.name] for s in session.plan.stages]
