"""Which of several processes this is, as ``torchrun`` says, and waiting for the others."""

from __future__ import annotations

import atexit
import os
import secrets
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cache, partial
from typing import TYPE_CHECKING, TypeVar, cast

from tag2mask.core.errors import StageError
from tag2mask.core.processes.peers import Hub, Spoke
from tag2mask.core.progress import duration
from tag2mask.core.stopping import leave

if TYPE_CHECKING:
    import torch.distributed as dist

TIMEOUT = timedelta(minutes=10)
"""How long the processes of a training wait for one another within a step, where all have the same to do."""
_FOREVER = timedelta(days=365)
"""How long they wait at a `barrier`: nobody knows how long work of one process alone takes, or another run's."""
_GRACE = 2.0
"""Seconds that what started the processes has to end them all once one has ended: it knows which was the first."""
T = TypeVar("T")


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
        _watch()


def _watch() -> None:
    """From now on, leave where another process ends that is not done."""
    here, host = socket.gethostname(), os.environ["MASTER_ADDR"]
    token, names = secrets.token_bytes(16), list[str]()
    hub = Hub(host, token, partial(_lost, names)) if rank() == 0 else None
    said = everyone((here, hub.port if hub else 0, token))
    names += [name for name, _, _ in said]
    _, port, token = said[0]
    watch = hub or Spoke(host, port, token, rank(), partial(_lost, names))
    watch.start()
    atexit.register(_end, watch)  # called before the process group is closed


def _end(watch: Hub | Spoke) -> None:
    """Tell the others that this process is done, unless it ends with an error, of which they hear by its end."""
    if not _FAILED and getattr(sys, "last_value", None) is None:
        watch.done()


_FAILED: list[bool] = []


def failed() -> None:
    """Note that this process ends with an error, which the command line has caught."""
    _FAILED.append(True)


def _lost(hosts: list[str], number: int) -> None:
    """Say that a process has ended, and leave: what started the processes may do so before."""
    text = (
        f"error: process {rank()} of {world_size()}: process {number} (on {hosts[number]}) has ended; what it wrote "
        "last says why. Once that is fixed the same command resumes\n"
    )
    with suppress(OSError):
        os.write(2, text.encode())
    time.sleep(_GRACE)
    leave(StageError.exit_code, "")


def everyone(value: T) -> list[T]:
    """What each process gives, in the order of their numbers; it is waited for, however long it takes."""
    if world_size() == 1:
        return [value]
    import torch.distributed as dist

    found: list[T | None] = [None] * world_size()
    with others():
        dist.all_gather_object(found, value, group=_patient())
    return cast("list[T]", found)


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
        time.sleep(2 * _GRACE)  # where a process has ended, this one leaves meanwhile, naming it
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
