"""Kinds of choice for tests: the maps with the larger mean, the smaller network, the last one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np

from tag2mask.config.settings import Settings
from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset
from tag2mask.methods.artefact import Choice
from tag2mask.methods.context import StageContext
from tag2mask.methods.registry import METHODS, register_method
from tag2mask.methods.stage_kinds import ChoiceStage, Makes, SplitRole


class NoSettings(Settings):
    """Nothing to set."""


class SmallerNetworkSettings(Settings):
    """On which part of the ground truth networks are compared."""

    n: int = 2


def compared(settings: SmallerNetworkSettings, dataset: Dataset) -> list[Sample]:
    """The first ``n`` images."""
    return list(dataset.samples[: settings.n])


def larger_mean(context: StageContext[NoSettings]) -> Choice:
    """The maps with the larger mean over all images."""
    dataset = context.dataset
    means = {}
    for role in context.reads:
        maps = [context.reads[role].maps(dataset, s).maps.mean().item() for s in dataset.samples if s.tags]
        means[role] = round(float(np.mean(maps)), 6)
    role = max(sorted(means), key=means.__getitem__)
    return Choice(role, (f"mean {means[role]:g} is the largest of {len(means)}",), means)


def smaller_network(context: StageContext[SmallerNetworkSettings]) -> Choice:
    """The network with the smaller file; the images count as looked at."""
    dataset = context.dataset
    sizes = {role: (made.path / "weights.safetensors").stat().st_size for role, made in context.reads.items()}
    role = min(sizes, key=sizes.__getitem__)
    ids = tuple(s.id for s in compared(context.settings, dataset))
    return Choice(role, ("its file is smaller",), {role: float(size) for role, size in sizes.items()}, ids)


def last(context: StageContext[Any]) -> Choice:
    """What is read in the last role."""
    return Choice(max(context.reads), ("it comes last",))


def wrong(context: StageContext[Any]) -> Choice:
    """A role that is not read."""
    return Choice("elsewhere", ("no reason",))


_kind = partial(ChoiceStage, settings=NoSettings, makes=Makes.MAPS)
KINDS = (
    _kind(name="larger-mean", runner=f"{__name__}:larger_mean"),
    _kind(name="last-masks", makes=Makes.MASKS, runner=f"{__name__}:last"),
    _kind(name="last-metrics", makes=Makes.METRICS, runner=f"{__name__}:last"),
    _kind(name="last-prototypes", makes=Makes.PROTOTYPES, runner=f"{__name__}:last"),
    _kind(name="wrong-choice", runner=f"{__name__}:wrong"),
    ChoiceStage(
        name="smaller-network",
        makes=Makes.WEIGHTS,
        settings=SmallerNetworkSettings,
        runner=f"{__name__}:smaller_network",
        split=SplitRole.INFER,
        samples=compared,
        reads_ground_truth=True,
        supervision=lambda settings: frozenset({f"pixel-masks:threshold({settings.n})"}),
    ),
)


@contextmanager
def registered() -> Iterator[None]:
    """The kinds of this module, for as long as they are needed."""
    register_method(__name__)
    try:
        yield
    finally:
        METHODS.remove(__name__)
