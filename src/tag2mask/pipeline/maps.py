"""Maps that come from a network's features, several methods in one pass over the network where they can share it."""

from __future__ import annotations

import time
from collections.abc import Sequence

from tag2mask.core.progress import progress
from tag2mask.inference.settings import MapsSettings
from tag2mask.pipeline.plan import PlannedStage
from tag2mask.pipeline.session import Session
from tag2mask.pipeline.share import Share, make_files, todo


def from_features(stage: PlannedStage) -> bool:
    """Whether a stage makes maps from a network's features, at the scales of its settings."""
    return stage.kind.makes == "maps" and isinstance(stage.settings, MapsSettings)


def pass_of(session: Session, first: PlannedStage) -> list[PlannedStage]:
    """The stages of maps that can share one forward pass with ``first``, itself in front."""

    def identity(stage: PlannedStage) -> object:
        networks = [stage.reads[role] for role, makes in stage.kind.reads.items() if makes == "weights"]
        shared = stage.settings.model_dump(include=set(MapsSettings.model_fields))
        return sorted(session.done[n].artefact.key for n in networks), shared

    def ready(stage: PlannedStage) -> bool:
        waits = stage.name not in session.done and stage is not first
        return waits and from_features(stage) and all(s in session.done for s in stage.reads.values())

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
    tasks = [MapTask(p.head, share.wants, share.write) for p, share in zip(programs, shares, strict=True)]
    assert isinstance(stage.settings, MapsSettings)
    device = resolve_device(session.engine)
    started = time.monotonic()
    with progress(" + ".join(s.stage.name for s in shares), len(samples), quiet=session.rank > 0) as counter:
        make_maps(programs[0].network, tasks, shares[0].dataset, samples, stage.settings, device, counter)
    return time.monotonic() - started
