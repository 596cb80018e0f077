"""The training loop of every network, on Lightning Fabric: it resumes after each epoch, in any number of processes.

Fabric moves the task to its device, computes in its precision and averages gradients over the processes; batches,
their order and all random numbers are ours, so that a training gives the same weights, resumed or not.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tag2mask.config.engine import Engine
from tag2mask.core.errors import DataError, StageError, Tag2MaskError
from tag2mask.core.files import megabytes, require_room, value_hash
from tag2mask.core.processes.ranks import barrier, join, others, rank, world_size
from tag2mask.core.progress import LOG, progress
from tag2mask.core.resources import note_workers
from tag2mask.training.checkpoint import CHECKPOINT, discard_checkpoint, read_checkpoint, write_checkpoint
from tag2mask.training.device import check_precision, check_processes, resolve_device
from tag2mask.training.images import EpochOrder
from tag2mask.training.loop import Loop
from tag2mask.training.task import Task


def fit_and_save(
    task: Task,
    data: Dataset[Any],
    save: Callable[[], None],
    *,
    out: Path,
    seed: int,
    engine: Engine,
    name: str,
    steps: int | None = None,
) -> None:
    """Train a network as `fit` does, then write it by ``save`` in the first process, and remove the checkpoint.

    What it will take of the disk is logged beforehand.

    Raises:
        StageError: the disk is too small. All else as `fit`.
    """
    settings = task.schedule
    weights = sum(_size(tensor) for tensor in task.net.state_dict().values())
    moments = 0 if settings.optimiser == "sgd" and not settings.momentum else 2  # of Adam; sgd has one
    trained = sum(_size(parameter) for parameter in task.net.parameters() if parameter.requires_grad)
    needed = 3 * weights + 2 * moments * trained  # weights, and two checkpoints while one replaces the other
    require_room(out, needed, name)
    LOG.info(
        "%s: %d images, %d epochs; at most %s on disk while it trains, %s after",
        name, len(data), settings.epochs, megabytes(needed), megabytes(weights),  # type: ignore[arg-type]  # sized
    )  # fmt: skip
    fit(task, data, out=out, seed=seed, engine=engine, name=name, steps=steps)
    if rank() == 0:
        save()
    barrier()
    discard_checkpoint(out)


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def fit(
    task: Task,
    data: Dataset[Any],
    *,
    out: Path,
    seed: int,
    engine: Engine,
    name: str = "training",
    steps: int | None = None,
) -> None:
    """Train a task's network in place; a training that was interrupted resumes after its last whole epoch.

    The same schedule, seed and data give the same weights, interrupted or not, bit for bit on the CPU at the same
    thread count. Several processes take the same batches, and two processes with two parts give the same weights.

    Args:
        task: what is trained.
        data: sized; ``data[(epoch, index)]`` is an item that depends on seed, epoch and index alone.
        out: folder for the checkpoint, which stays until `discard_checkpoint`.
        seed: of order and dropout, at least 0.
        engine: device and workers.
        name: of the work or its stage, for messages.
        steps: after which it ends, within its last epoch; None for all epochs of the schedule.

    Raises:
        ConfigError: the device, precision or number of processes is not available.
        DataError: there are no images, or what ``data`` raises.
        StageError: the checkpoint cannot be written or read; or a worker or another process has ended.
        TrainingError: the loss is NaN or infinite.
    """
    settings, n = task.schedule, len(data)  # type: ignore[arg-type]  # torch's Dataset does not say that it is sized
    if n == 0:
        raise DataError(f"{name}: there are no images to train on")
    device = _own_device(engine, settings.precision)
    order = EpochOrder(n, settings, seed, rank(), world_size())
    path, identity = out / CHECKPOINT, value_hash([settings.model_dump(), seed, n])
    total = steps or order.batches * settings.epochs
    with _unwrap_worker_errors(), torch.random.fork_rng(devices=[]), ExitStack() as stack:
        barrier()  # what one process did alone until here took as long as it took; a step does not
        loop = stack.enter_context(closing(Loop(task, device, seed, total, name)))
        if (state := read_checkpoint(path, identity, name)) is not None:
            loop.restore(state)
        loader = _loader(data, order, engine)
        with progress(name, total - loop.step, quiet=rank() != 0) as counter:
            while loop.epoch < loop.end:
                order.set_epoch(loop.epoch)
                for number, batch in enumerate(loader):
                    loop.train_batch(number, batch)
                    counter.advance(note=f"epoch {loop.epoch + 1} of {loop.end}")
                    if loop.step == steps:
                        break
                note_workers()
                loop.end_epoch()
                if rank() == 0:
                    write_checkpoint(path, identity, loop.state())
                barrier()


def fit_batches(task: Task, batches: Iterable[Any], device: torch.device, seed: int) -> None:
    """Train a task's network in place on batches as they come, without a checkpoint; called by `tag2mask.AMN`.

    Args:
        task: what is trained; its network is on ``device`` afterwards. The batch size is that of the batches.
        batches: iterated once per epoch.
        device: where it computes.
        seed: of the dropout.

    Raises:
        TrainingError: the loss is NaN or infinite.
    """
    with torch.random.fork_rng(devices=[]), closing(Loop(task, device, seed)) as loop:
        while loop.epoch < task.schedule.epochs:
            for number, batch in enumerate(batches):
                loop.train_batch(number, batch)
            loop.end_epoch()


def _own_device(engine: Engine, precision: str) -> torch.device:
    """The device of this process, which has joined the others."""
    check_processes(engine)
    device = resolve_device(engine)
    join(device.type)
    check_precision(precision, device)
    return device


def _loader(data: Dataset[Any], order: EpochOrder, engine: Engine) -> DataLoader[Any]:
    return DataLoader(
        data,
        batch_size=order.share,
        sampler=order,
        num_workers=engine.workers,
        persistent_workers=engine.workers > 0,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # its own, or each epoch would draw from torch's
    )


@contextmanager
def _unwrap_worker_errors() -> Iterator[None]:
    """Raise our own errors of a loader's worker as they were: torch puts the worker's traceback before their words.

    Torch's advice on the number of workers is left out: the user has chosen it.
    """
    try:
        with others(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*suggested max number of worker.*")
            yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise StageError(
            "a process that decodes images for the training was killed, perhaps for want of memory (or of shared "
            "memory: in a container, more of it is --shm-size). The last whole epoch is kept; run the same command "
            f"again with fewer of them: engine.workers=0 decodes within the run ({str(error).splitlines()[0]})"
        ) from error
    except Tag2MaskError as error:
        kind = type(error)
        words = str(error).rpartition(f"{kind.__module__}.{kind.__qualname__}: ")[2]
        if words == str(error):
            raise
        raise kind(words.rstrip()) from None
