"""Chooses the device of a run, and checks it against precision and number of processes."""

from __future__ import annotations

import os
import sys

import torch

from tag2mask.config.engine import Engine
from tag2mask.core.errors import ConfigError, quoted
from tag2mask.core.processes.ranks import local_processes, world_size


def resolve_device(engine: Engine) -> torch.device:
    """The device of this process: ``auto`` takes CUDA, then MPS, then the CPU; several processes take one each."""
    name = engine.device
    if name == "auto":
        mps = torch.backends.mps.is_available()
        name = "cuda" if torch.cuda.is_available() else "mps" if mps and world_size() == 1 else "cpu"
    kind, _, index = name.partition(":")
    if kind == "cuda":
        return torch.device("cuda", _gpu(name, index))
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("engine.device = 'mps': this machine has none. Use engine.device=auto or cpu")
    return torch.device(kind)


def check_processes(engine: Engine) -> None:
    """Refuse more devices than processes: a plain command is one process."""
    world = world_size()
    if engine.devices in (1, world):
        return
    if world > 1:
        raise ConfigError(f"engine.devices = {engine.devices}, but {world} processes were started; leave it out")
    raise ConfigError(
        f"engine.devices = {engine.devices}: a plain command uses one device. Start the processes with:\n"
        f"  {quoted('torchrun', f'--nproc-per-node={engine.devices}', '-m', 'tag2mask', *sys.argv[1:])}"
    )


def check_precision(precision: str, device: torch.device) -> None:
    """Refuse a precision that a device cannot train in."""
    if precision == "float16" and device.type == "cpu":
        raise ConfigError("train.precision = 'float16' needs a GPU; on the CPU use float32 or bfloat16")


def _gpu(name: str, index: str) -> int:
    """Number of this process's GPU."""
    if not torch.cuda.is_available():
        raise ConfigError(f"engine.device = '{name}': CUDA is not available. Use engine.device=auto or cpu")
    count = torch.cuda.device_count()
    if world_size() > 1:
        if index:
            raise ConfigError(f"engine.device = '{name}': each process takes its own GPU; use engine.device=cuda")
        if local_processes() > count:
            raise ConfigError(f"{local_processes()} processes on this machine, but {count} GPUs: start at most {count}")
        return int(os.environ.get("LOCAL_RANK", "0"))
    if index and int(index) >= count:
        raise ConfigError(f"engine.device = '{name}': there are {count} GPUs, numbered from 0")
    return int(index or 0)
