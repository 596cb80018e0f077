"""Every experiment by its id."""

from __future__ import annotations

from functools import cache

from tag2mask.core.errors import ConfigError, unknown
from tag2mask.papers.definition import Experiment


@cache
def experiments() -> dict[str, Experiment]:
    """All experiments of both papers, LPCAM's first."""
    from tag2mask.papers import amn, amn_masks, lpcam, lpcam_tables

    every = [*lpcam.EXPERIMENTS, *lpcam_tables.EXPERIMENTS, *amn.EXPERIMENTS, *amn_masks.EXPERIMENTS]
    return {e.id: e for e in sorted(every, key=lambda e: (e.id[0] != "L", int(e.id[1:])))}


def experiment(name: str) -> Experiment:
    """The experiment of that id, in capitals or not.

    Raises:
        ConfigError: there is none; the nearest is named.
    """
    known = experiments()
    if name.upper() not in known:
        raise ConfigError(unknown("experiment", name, known))
    return known[name.upper()]
