"""The training loop of every network, on Lightning Fabric: it resumes after each epoch, in any number of processes.

Fabric moves the task to its device, computes in its precision and averages gradients over the processes; batches,
their order and all random numbers are ours, so that a training gives the same weights, resumed or not.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins import MixedPrecision
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.fabric.strategies.ddp import DDPStrategy
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset

from tag2mask.config.engine import Engine
from tag2mask.core.errors import DataError, StageError, Tag2MaskError, TrainingError
from tag2mask.core.files import megabytes, require_room, value_hash
from tag2mask.core.progress import LOG, progress
from tag2mask.core.ranks import barrier, join, local_processes, others, rank, world_size
from tag2mask.core.resources import note_workers
from tag2mask.training.checkpoint import CHECKPOINT, discard_checkpoint, read_checkpoint, write_checkpoint
from tag2mask.training.device import check_precision, check_processes, resolve_device
from tag2mask.training.order import EpochOrder, derive
from tag2mask.training.settings import ScheduleSettings
from tag2mask.training.task import Task, optimiser

_MEAN, _RATIO = 2, 3
"""Keep the seeds of parts apart from other seeds, by the kind of loss."""
_MIXED: dict[str, Literal["bf16-mixed", "16-mixed"]] = {"bfloat16": "bf16-mixed", "float16": "16-mixed"}


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
    settings = task.schedule
    n = len(data)  # type: ignore[arg-type]  # torch's Dataset does not say that it is sized
    if n == 0:
        raise DataError(f"{name}: there are no images to train on")
    check_processes(engine)
    device = resolve_device(engine)
    join(device.type)
    check_precision(settings.precision, device)
    order = EpochOrder(n, settings, seed, rank(), world_size())
    path, identity = out / CHECKPOINT, value_hash([settings.model_dump(), seed, n])
    total = steps or order.batches * settings.epochs
    with _unwrap_worker_errors(), torch.random.fork_rng(devices=[]):
        barrier()  # what one process did alone until here took as long as it took; a step does not
        loop = _Loop(task, device, seed, total, name)
        if (state := read_checkpoint(path, identity, name)) is not None:
            loop.restore(state)
        loader = _loader(data, order, engine)
        with progress(name, total - loop.step, quiet=rank() != 0) as counter:
            while loop.epoch < settings.epochs:
                order.set_epoch(loop.epoch)
                for number, batch in enumerate(loader):
                    loop.train_batch(number, batch)
                    counter.advance(note=f"epoch {loop.epoch + 1} of {settings.epochs}")
                    if loop.step == steps:
                        break
                note_workers()
                loop.epoch += 1
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
    with torch.random.fork_rng(devices=[]):
        loop = _Loop(task, device, seed)
        while loop.epoch < task.schedule.epochs:
            for number, batch in enumerate(batches):
                loop.train_batch(number, batch)
            loop.epoch += 1


class _Loop:
    """A training in progress: a task set up on its device, with update rule and rates.

    Args:
        task: what is trained.
        device: of this process.
        seed: of the training.
        total: steps of the whole training; None where that is not known, so that the rates must be constant.
        stage: whose settings they are in a recipe; None outside of a run.
    """

    def __init__(
        self, task: Task, device: torch.device, seed: int, total: int | None = None, stage: str | None = None
    ) -> None:
        self.task, self.seed, self.total, self.stage = task.train(), seed, total, stage  # frozen norms stay frozen
        self.epoch = self.step = 0
        self.fabric = _fabric(device, task.schedule)
        self.fabric.launch()
        self.fabric.to_device(task)
        rule = optimiser(task.groups(), task.schedule)
        self.rates = LambdaLR(rule, task.rate(total or 1))
        self.model, self.rule = self.fabric.setup(task, rule)

    def train_batch(self, number: int, batch: Sequence[Tensor]) -> None:
        """One step on this process's share of a batch: tensors with the same first axis.

        Torch is seeded before each part, so that dropout does not depend on the number of processes.
        """
        batch = self.fabric.to_device(batch)
        parts = max(1, self.task.schedule.accumulate // world_size())
        first, size = number * self.task.schedule.accumulate + rank() * parts, -(-len(batch[0]) // parts)
        counts = self.task.counts(batch)
        split = list(zip(*(torch.split(tensor, size) for tensor in batch), strict=True))
        self.rule.zero_grad()
        for i, part in enumerate(split):
            torch.manual_seed(derive(_MEAN if counts is None else _RATIO, self.seed, self.epoch, first + i))
            # A mean is averaged over the processes once, as one gradient; shares of a ratio one after the other.
            with self.fabric.no_backward_sync(self.model, enabled=counts is None and i < len(split) - 1):
                loss = self.model(part, counts) / (len(split) if counts is None else 1)
                self._check(loss)
                self.fabric.backward(loss)
        self.rule.step()
        self.rates.step()
        self.step += 1

    def state(self) -> dict[str, Any]:
        """All that a training resumes from, as `write_checkpoint` takes it."""
        return {
            "task": self.task.state_dict(), "optimiser": self.rule.state_dict(), "rates": self.rates.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(), "epoch": self.epoch, "step": self.step,
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a state of `state`."""
        self.task.load_state_dict(state["task"])
        self.rule.load_state_dict(state["optimiser"])
        self.rates.load_state_dict(state["rates"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        self.epoch, self.step = state["epoch"], state["step"]

    def _check(self, loss: Tensor) -> None:
        """Stop a training whose loss is NaN, before it spoils the weights; says where, and what to change."""
        if torch.isfinite(loss):
            return
        s = self.task.schedule
        rates = ", ".join(f"{group['lr']:.3g}" for group in self.rule.param_groups)
        lower = " ".join(f"train.{name}={rate / 10:g}" for name, rate in s.rates().items())
        of = f" of {self.total}" if self.total else ""
        typed = f" (a setting train.… is typed as {self.stage}.train.…)" if self.stage else ""
        wider = "" if s.precision == "float32" else ", or train.precision=float32"
        kept = f". The checkpoint after epoch {self.epoch} is kept, but other settings train from the beginning"
        raise TrainingError(
            f"the loss is {loss.item()} in epoch {self.epoch + 1} of {s.epochs}, step {self.step + 1}{of} "
            f"(learning rates {rates}; precision {s.precision}). The same command fails again in the same way{typed}. "
            f"Lower the rates, such as {lower}{wider}{kept if self.epoch else ''}"
        )


class _Mixed(MixedPrecision):
    """Autocast that rounds weights anew at each use: their gradients then add up in float32."""

    def forward_context(self) -> AbstractContextManager[Any]:
        """Autocast around the loss of a part."""
        return torch.autocast(self.device, self._desired_input_dtype, cache_enabled=False)

    def convert_input(self, data: Any) -> Any:
        """The batch as it is; what autocast does not round sees it in float32."""
        return data


def _fabric(device: torch.device, settings: ScheduleSettings) -> Fabric:
    """Fabric for the device and the processes of this run; whatever else starts processes (SLURM) is not asked."""
    accelerator = "gpu" if device.type == "cuda" else device.type
    plugins: list[Any] = [LightningEnvironment() if world_size() == 1 else TorchElasticEnvironment()]
    if settings.precision in _MIXED:
        plugins.append(_Mixed(_MIXED[settings.precision], device.type))
    if world_size() == 1:
        devices = [device.index] if device.type == "cuda" else 1
        return Fabric(accelerator=accelerator, devices=devices, plugins=plugins)
    join(device.type)
    known = inspect.signature(DistributedDataParallel).parameters
    buffers = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"  # before torch 2.13
    options: dict[str, Any] = {buffers: False}  # batch norms are frozen, or count for their process
    return Fabric(
        accelerator=accelerator,
        strategy=DDPStrategy(**options),
        devices=local_processes(),
        num_nodes=world_size() // local_processes(),
        plugins=plugins,
    )


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

    Raises:
        StageError: a worker was killed, or another process of the run has ended.
        Tag2MaskError: what the worker raised.
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
