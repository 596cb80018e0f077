"""One training in progress on Lightning Fabric: its steps, its state for the checkpoint, the guard against NaN."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from contextlib import AbstractContextManager
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

from tag2mask.core.errors import TrainingError
from tag2mask.core.processes.ranks import join, local_processes, rank, world_size
from tag2mask.training.images import derive
from tag2mask.training.merged_norms import MergedNorms
from tag2mask.training.settings import ScheduleSettings
from tag2mask.training.task import Task, optimiser

_MEAN, _RATIO = 2, 3
"""Keep the seeds of parts apart from other seeds, by the kind of loss."""
_MIXED: dict[str, Literal["bf16-mixed", "16-mixed"]] = {"bfloat16": "bf16-mixed", "float16": "16-mixed"}


class Loop:
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
        self.norms, self.merged = MergedNorms(), False
        self.fabric = _fabric(device, task.schedule)
        self.fabric.launch()
        self.fabric.to_device(task)
        rule = optimiser(task.groups, task.schedule)
        self.rates = LambdaLR(rule, task.rate(task.schedule, total or 1))
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
        self._merge(split[0], counts)
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

    def close(self) -> None:
        """Leave the network as it was, but for its weights."""
        self.norms.close()

    def _merge(self, part: Sequence[Tensor], counts: Tensor | None) -> None:
        """Before the first step, resumed or not: what is computed must not depend on that.

        The task itself is run, in float32: in less precision the losses that are compared differ by rounding.
        """
        if not self.merged:
            self.norms.merge(self.task, lambda: self.task(part, counts))
            self.task.train()
            self.merged = True

    def state(self) -> dict[str, Any]:
        """All that a training resumes from, as `write_checkpoint` takes it."""
        return {
            "task": self.task.state_dict(), "optimiser": self.rule.state_dict(), "rates": self.rates.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(), "epoch": self.epoch, "step": self.step,
            "plateau": self.task.plateau and self.task.plateau.state(),
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a state of `state`."""
        self.task.load_state_dict(state["task"])
        if self.task.plateau is not None:
            self.task.plateau.restore(state["plateau"])
        self.rule.load_state_dict(state["optimiser"])
        self.rates.load_state_dict(state["rates"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        self.epoch, self.step = state["epoch"], state["step"]

    def end_epoch(self) -> None:
        """Count an epoch, and let a task's plateau check it; the first process decides."""
        self.epoch += 1
        if (plateau := self.task.plateau) is not None:
            plateau.check(self.epoch, lambda loss: float(self.fabric.broadcast(loss)))
            self.task.train()  # the check has left it in evaluation mode

    @property
    def end(self) -> int:
        """Epochs of the training, as far as it is known."""
        return self.task.schedule.epochs if self.task.plateau is None else self.task.plateau.end

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
    """Fabric for the device and the processes of this run; it does not look for SLURM itself."""
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
