"""``tag2mask store``: what a store holds, how large it is, who uses it; and removing what nobody uses."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tag2mask.cli.tables import say, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tag2mask.pipeline.store_usage import StoredArtefact


def command(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[prune] [PATH]", help="a store, a run, or a folder of runs [runs]")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="prune: remove it, do not only list it")] = False,
    forget: Annotated[
        list[Path] | None, typer.Option(metavar="RUN", help="prune: a run that is gone for good; repeatable")
    ] = None,
) -> None:
    """List what a store holds, how large it is and which runs use it; with prune, what no run uses.

    Nothing is removed without --yes, and never what a process is making. Of a run that is not there, as its disk may
    not be connected, everything is kept until it is named with --forget.

    Example: tag2mask store runs

    Example: tag2mask store prune runs --yes
    """
    from tag2mask.core.errors import ConfigError
    from tag2mask.core.errors import command as made
    from tag2mask.core.links import store_at
    from tag2mask.pipeline.store_usage import StoreUsage

    places = list(words or [])
    prune = places[:1] == ["prune"]
    places = places[prune:]
    if len(places) > 1 or (not prune and (yes or forget)):
        raise ConfigError(f"expected: {made('store', 'PATH')}, or: {made('store', 'prune', 'PATH', '--yes')}")
    place = Path(places[0] if places else "runs")
    usage = StoreUsage(store_at(place), forget or ())
    shown = usage.unused if prune else usage.artefacts
    say(table(["artefact", "size", "state", "used by"], [_line(a, usage.root) for a in shown]) if shown else "nothing")
    say(f"\n{usage.root}: {len(shown)} artefacts, {_size(shown)}")
    for one in usage.missing:
        say(f"not there, what it linked is kept: {one.path}. If it is gone for good: --forget {one.path}")
    for one in usage.removed:
        say(f"removed, keeps nothing: {one.path}")
    if prune and yes:
        gone = usage.prune()
        say(f"removed {len(gone)} artefacts, {_size(gone)}")
    elif prune and shown:
        gone_for_good = [word for run in forget or () for word in ("--forget", run)]
        say(f"nothing was removed; to remove these: {made('store', 'prune', place, *gone_for_good, '--yes')}")


def _line(artefact: StoredArtefact, store: Path) -> list[str]:
    state = "in use now" if artefact.locked else "" if artefact.finished else "half-made"
    places = (store.absolute().parent, store.resolve().parent)
    named = [next((run.relative_to(p) for p in places if run.is_relative_to(p)), run) for run in artefact.runs]
    runs = ", ".join(str(run) for run in named) or "no run"
    return [artefact.path.name, _size([artefact]), state, runs]


def _size(artefacts: Sequence[StoredArtefact]) -> str:
    from tag2mask.core.files import megabytes

    size = sum(artefact.size for artefact in artefacts)
    return megabytes(size) if size >= 1e6 else f"{math.ceil(size / 1e3)} kB"
