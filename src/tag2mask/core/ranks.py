"""Which of several processes this is, as ``torchrun`` tells it, and waiting for the others."""

from __future__ import annotations

import atexit
import os
from datetime import timedelta


def world_size() -> int:
    """Number of processes of this run; 1 for a plain command."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """0 in the process that writes manifests."""
    return int(os.environ.get("RANK", "0")) if world_size() > 1 else 0


def join(device: str = "cpu") -> None:
    """Open the process group of a run of several processes; nothing for one. The wait for slow ranks is a day."""
    import torch.distributed as dist

    if world_size() > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if device.startswith("cuda") else "gloo", timeout=timedelta(days=1))
        atexit.register(_leave)


def _leave() -> None:
    """Close the process group before Python ends: threads of it that outlive Python would abort the process."""
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()


def barrier() -> None:
    """Wait until every process has come this far; nothing for one."""
    if world_size() > 1:
        import torch.distributed as dist

        dist.barrier()
