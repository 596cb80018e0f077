"""One way to train: Lightning's Trainer, resumable after each epoch, the same for any number of processes."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy
from torch import nn
from torch.utils.data import DataLoader, Dataset

from tag2mask.config.engine import Engine
from tag2mask.core.arrays import check_archive
from tag2mask.core.errors import DataError, StageError, Tag2MaskError
from tag2mask.core.files import cannot_write, megabytes, need_regular, reason, require_room, value_hash
from tag2mask.core.progress import LOG
from tag2mask.core.ranks import barrier, join, local_processes, others, rank, world_size
from tag2mask.training.callbacks import (
    RECORD,
    CountMemory,
    EpochCheckpoint,
    OwnSignals,
    ShowProgress,
    StepSeed,
    StopAfter,
    StopAtNaN,
)
from tag2mask.training.device import check_precision, check_processes, resolve_device
from tag2mask.training.order import EpochOrder
from tag2mask.training.settings import ScheduleSettings

CHECKPOINT = "checkpoint.ckpt"
_PARTS = {"state_dict", "optimizer_states", "loops", "epoch", "global_step", RECORD}
"""Entries that every checkpoint has."""
_PRECISION: dict[str, Any] = {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}
_ADVICE = (
    ".*does not have many workers.*",  # images are decoded by threads
    ".*suggested max number of worker.*",
    ".*GPU available but not used.*",
    ".*in eval mode at the start of training.*",  # backbones that are not trained
    r".*isinstance\(treespec, LeafSpec\).*",  # between torch and Lightning
    ".*`broadcast_buffers` is deprecated.*",  # torch 2.10 has no other word for it
)
"""Warnings of Lightning and torch's loader that a user of ours can do nothing about."""


def fit(
    module: LightningModule,
    data: Dataset[Any],
    settings: ScheduleSettings,
    *,
    out: Path,
    seed: int,
    engine: Engine,
    name: str = "training",
    whole_batches: bool = False,
    steps: int | None = None,
) -> None:
    """Train ``module`` in place; a training that was interrupted goes on from its last whole epoch.

    The same settings, seed and data give the same weights, interrupted or not, bit for bit on the CPU at the same
    thread count. Several processes take the same batches, and two processes with two parts give the same weights.

    Args:
        module: gives loss and optimiser; its network is trained.
        data: sized; ``data[(epoch, index)]`` is an item that depends on seed, epoch and index alone.
        settings: of the training.
        out: folder for the checkpoint, which stays until `discard_checkpoint`.
        seed: of order and dropout, at least 0.
        engine: device and workers.
        name: of the work or its stage, for messages.
        whole_batches: give ``module`` this process's whole share of a batch, which it splits into parts itself, as a
            loss needs whose parts cannot be averaged.
        steps: after which it ends, within its last epoch; None for all of ``settings.epochs``.

    Raises:
        ConfigError: a device, precision or number of processes that cannot be had.
        DataError: there are no images, or what ``data`` raises.
        StageError: the checkpoint cannot be written or read; or a worker or another process has ended.
        TrainingError: the loss is no number.
    """
    n = len(data)  # type: ignore[arg-type]  # torch's Dataset does not say that it is sized
    if n == 0:
        raise DataError(f"{name}: there are no images to train on")
    check_processes(engine)
    device = resolve_device(engine)
    join(device.type)
    check_precision(settings.precision, device)
    order = EpochOrder(n, settings, seed, rank(), world_size(), whole=whole_batches)
    path, identity = out / CHECKPOINT, value_hash([settings.model_dump(), seed, n])
    callbacks = [
        EpochCheckpoint(path, identity), StepSeed(order, seed), StopAtNaN(settings, steps, name), StopAfter(steps),
        ShowProgress(name, steps), OwnSignals(), CountMemory(),
    ]  # fmt: skip
    module.train()  # frozen statistics look after themselves
    with _quiet(), torch.random.fork_rng(devices=[]):
        trainer = Trainer(
            **_where(device), max_epochs=settings.epochs, precision=_PRECISION[settings.precision],
            accumulate_grad_batches=order.own_parts, callbacks=callbacks, default_root_dir=out,
            logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            use_distributed_sampler=False,
        )  # fmt: skip
        with _own_words():
            loader = _loader(data, order, engine)
            barrier()  # what one process did alone until here took as long as it took; a step does not
            trainer.fit(module, loader, ckpt_path=_resumable(path, identity, name), weights_only=True)


def fit_batches(
    module: LightningModule, batches: Iterable[Any], settings: ScheduleSettings, device: torch.device
) -> None:
    """Train ``module`` in place on batches as they come, without a checkpoint.

    Args:
        module: gives loss and optimiser; its network is trained, and is on ``device`` afterwards.
        batches: gone through once an epoch.
        settings: of the training; its batch size is not looked at.
        device: where it computes.

    Raises:
        TrainingError: the loss is no number.
    """
    module.train()
    with _quiet(), torch.random.fork_rng(devices=[]):
        trainer = Trainer(
            **_where(device), max_epochs=settings.epochs, precision=_PRECISION[settings.precision],
            callbacks=[StopAtNaN(settings), OwnSignals()], logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
        )  # fmt: skip
        trainer.fit(module, batches)
    module.to(device)


def announce(net: nn.Module, moments: int, n_images: int, epochs: int, out: Path, name: str) -> None:
    """Say beforehand what a training will do and take of the disk; refuse if there is not as much.

    Args:
        net: what is trained and saved.
        moments: bytes of what the optimiser remembers.
        n_images: images of an epoch.
        epochs: passes over them.
        out: folder of checkpoint and weights.
        name: of the work.

    Raises:
        StageError: the disk is too small.
    """
    weights = sum(t.numel() * t.element_size() for t in net.state_dict().values())
    needed = 3 * weights + 2 * moments  # the weights, and two checkpoints at the moment one replaces the other
    require_room(out, needed, name)
    LOG.info(
        "%s: %d images, %d epochs; at most %s on disk while it trains, %s after",
        name, n_images, epochs, megabytes(needed), megabytes(weights),
    )  # fmt: skip


def discard_checkpoint(out: Path) -> None:
    """Remove the checkpoint of a training whose result has been written.

    Raises:
        StageError: it may not be removed.
    """
    if rank() == 0:
        try:
            (out / CHECKPOINT).unlink(missing_ok=True)
        except OSError as error:
            raise cannot_write(out / CHECKPOINT, error) from error


def _loader(data: Dataset[Any], order: EpochOrder, engine: Engine) -> DataLoader[Any]:
    return DataLoader(
        data,
        batch_size=order.part,
        sampler=order,
        num_workers=engine.workers,
        persistent_workers=engine.workers > 0,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # its own, or each epoch would draw from torch's
    )


@contextmanager
def _own_words() -> Iterator[None]:
    """An error of ours from a loader's worker, in its own words: torch puts the worker's traceback before them.

    Raises:
        StageError: a worker was killed, or another process of the run has ended.
        Tag2MaskError: what the worker raised.
    """
    try:
        with others():
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


def _where(device: torch.device) -> dict[str, Any]:
    """Trainer's arguments for device and processes."""
    accelerator = "gpu" if device.type == "cuda" else device.type
    if world_size() == 1:
        devices = [device.index] if device.type == "cuda" else 1
        return {"accelerator": accelerator, "devices": devices, "plugins": [LightningEnvironment()]}
    backend = "nccl" if device.type == "cuda" else "gloo"
    return {
        "accelerator": accelerator,
        "devices": local_processes(),
        "num_nodes": world_size() // local_processes(),
        "plugins": [TorchElasticEnvironment()],
        "strategy": DDPStrategy(process_group_backend=backend, broadcast_buffers=False),  # statistics are frozen
    }


def _resumable(path: Path, identity: str, name: str) -> Path | None:
    """The checkpoint to go on from, or None where there is none of this training, or it is not what was written.

    Raises:
        StageError: it may not be read.
    """
    if not path.exists():
        return None
    try:
        found = _record_of(need_regular(path))
    except PermissionError as error:
        raise StageError(
            f"{path} may not be read: {error.strerror}. Allow it, and run the same command again"
        ) from error
    except Exception as error:  # zip, pickle and torch have kinds of their own for damaged bytes
        LOG.warning("%s is damaged (%s); %s starts from its beginning", path, reason(error), name)
        return None
    if found["identity"] == identity:
        LOG.info("%s: goes on from %s", name, path)
        _say_threads(found.get("threads"), name)
        return path
    LOG.warning("%s: %s is of other settings, another seed or other data; the training starts anew", name, path)
    return None


def _say_threads(before: object, name: str) -> None:
    """Warn where a training goes on with another number of threads than it was begun with."""
    threads = torch.get_num_threads()
    if isinstance(before, int) and before != threads:
        LOG.warning(
            "%s: was begun with engine.threads=%d and goes on with %d: sums are added in another order, so the weights "
            "will not be those of a training without a stop, bit for bit. engine.threads=%d goes on as it was begun",
            name, before, threads, before,
        )  # fmt: skip


def _record_of(path: Path) -> dict[str, Any]:
    """What training a checkpoint is of; every byte is held against the sums that torch has written beside them."""
    check_archive(path)
    checkpoint = torch.load(path, "cpu", weights_only=True, mmap=True)
    if not isinstance(checkpoint, dict) or not checkpoint.keys() >= _PARTS:
        raise TypeError("it is no checkpoint of a training")
    record: dict[str, Any] = checkpoint[RECORD]
    record["identity"]
    return record


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Lightning's banners, tips and advice; its errors are raised all the same."""
    loggers = [logging.getLogger(n) for n in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            for text in _ADVICE:
                warnings.filterwarnings("ignore", message=text)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
