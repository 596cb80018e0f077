"""What all processes of a run must have in common, checked before anything is made."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from tag2mask.core.errors import StageError
from tag2mask.core.files import cannot_write, temporary_name
from tag2mask.core.names import shortened
from tag2mask.core.processes.ranks import everyone, rank, world_size

_LIBRARIES = ("tag2mask", "torch", "torchvision", "timm", "numpy", "Pillow")
"""What decides over the bytes of maps, masks and weights."""


def versions() -> dict[str, tuple[str, str]]:
    """The libraries' versions, for `check_alike`."""
    cure = "Install the same versions on all machines"
    return {f"the version of {library}": (metadata.version(library), cure) for library in _LIBRARIES}


def check_alike(facts: Mapping[str, tuple[str, str]]) -> None:
    """See that all processes were given the same; nothing for one.

    Args:
        facts: what is compared, such as ``the version of tag2mask`` -> its value here and what to do where it differs.

    Raises:
        StageError: in every process, naming the first that differs from process 0, and both values.
    """
    if world_size() == 1:
        return
    said = everyone((socket.gethostname(), {name: value for name, (value, _) in facts.items()}))
    first_host, expected = said[0]
    for number, (host, values) in enumerate(said):
        for name, (_, cure) in facts.items():
            if values.get(name) != expected[name]:
                raise StageError(
                    f"{name} is {shortened(str(values.get(name)))} in process {number} of {len(said)} (on {host}), "
                    f"{shortened(expected[name])} in process 0 (on {first_host}); nothing was made. {cure}"
                )


def check_shared(folder: Path, option: str) -> None:
    """See that a folder, which is made where it is not there, is the same one in all processes; nothing for one.

    Raises:
        StageError: in every process, naming one that does not see what process 0 wrote; or process 0 cannot write.
    """
    if world_size() == 1:
        return
    (name, problem), *_ = everyone(_mark(folder) if rank() == 0 else ("", ""))
    if problem:
        raise StageError(problem)
    seen = everyone((socket.gethostname(), (folder / name).is_file()))
    if rank() == 0:
        with suppress(OSError):
            (folder / name).unlink()
    for number, (host, sees) in enumerate(seen):
        if not sees:
            raise StageError(
                f"{option} {folder}: process {number} of {len(seen)} (on {host}) does not see what process 0 (on "
                f"{seen[0][0]}) wrote there. Name a folder that all machines share, by a path that is the same on each"
            )


def _mark(folder: Path) -> tuple[str, str]:
    """The name of a file that only this process can have written, or else why there is none."""
    path = folder / temporary_name()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError as error:
        return "", str(cannot_write(path, error))
    return path.name, ""
