"""Which of several processes this is, as ``torchrun`` says, and waiting for the others."""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING

from tag2mask.core.errors import StageError
from tag2mask.core.progress import duration

if TYPE_CHECKING:
    import torch.distributed as dist

TIMEOUT = timedelta(minutes=10)
"""How long the processes of a training wait for one another within a step, where all have the same to do."""
_FOREVER = timedelta(days=365)
"""How long they wait at a `barrier`: nobody knows how long work of one process alone takes, or another run's."""


def world_size() -> int:
    """Number of processes of this run; 1 for a plain command."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """0 in the process that writes manifests."""
    return int(os.environ.get("RANK", "0")) if world_size() > 1 else 0


def local_processes() -> int:
    """Processes of this run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", world_size()))


def join(device: str = "cpu") -> None:
    """Open the process group of a run of several processes; nothing for one, or where it is open."""
    import torch.distributed as dist

    if world_size() > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if device.startswith("cuda") else "gloo", timeout=TIMEOUT)
        atexit.register(_leave)
        _patient()


def _leave() -> None:
    """Close the process group before Python ends: threads of it that outlive Python would abort the process."""
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()


@cache
def _patient() -> dist.ProcessGroup:
    """All processes, as a group that waits on the CPU for as long as it takes."""
    import torch.distributed as dist

    group = dist.new_group(backend="gloo", timeout=_FOREVER)
    assert isinstance(group, dist.ProcessGroup)
    return group


def barrier() -> None:
    """Wait until every process has come this far, however long it takes; nothing for one."""
    if world_size() > 1:
        import torch.distributed as dist

        with others():
            dist.barrier(_patient())


@contextmanager
def others() -> Iterator[None]:
    """Turn torch's error about a process that has ended, or does not answer, into a StageError."""
    try:
        yield
    except RuntimeError as error:
        if world_size() == 1 or not _is_silence(error):
            raise
        raise StageError(
            f"process {rank()} of {world_size()}: another process has ended or has not answered for "
            f"{duration(TIMEOUT.total_seconds())}; what it wrote last says why. Once that is fixed the same command "
            f"resumes ({_reason(error)})"
        ) from error


def _is_silence(error: RuntimeError) -> bool:
    """Whether torch says that it cannot talk with another process; gloo has no exception of its own for it."""
    import torch.distributed as dist

    return isinstance(error, dist.DistError) or "gloo" in str(error)


def _reason(error: RuntimeError) -> str:
    """Torch's reason without the place in its source and the advice behind."""
    return str(error).strip().partition("] ")[2].partition(". ")[0] or type(error).__name__
