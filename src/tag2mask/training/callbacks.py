"""What the training shell hangs into Lightning: checkpoints, randomness, the guard against NaN, progress."""

from __future__ import annotations

import math
import os
import signal
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from tag2mask.core.errors import TrainingError
from tag2mask.core.files import atomic_path
from tag2mask.core.progress import progress
from tag2mask.core.resources import note_workers
from tag2mask.training.order import EpochOrder, derive
from tag2mask.training.settings import ScheduleSettings

RECORD = "tag2mask"
"""Entry of a checkpoint that is ours: ``identity``, ``rng`` and ``threads``."""
_DROPOUT = 2
"""Keeps the seeds of steps apart from other seeds."""


class EpochCheckpoint(Callback):
    """Writes one checkpoint at the end of each epoch over the last one, whole or not at all, with torch's RNG state.

    Args:
        path: the file.
        identity: what the training is of; a checkpoint of another one is not resumed.
    """

    def __init__(self, path: Path, identity: str) -> None:
        self.path, self.identity = path, identity
        self._state: Tensor | None = None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the checkpoint; every process takes part in collecting, the first one writes."""
        if trainer.is_global_zero:
            with atomic_path(self.path) as temporary:
                trainer.save_checkpoint(temporary)
        else:
            trainer.save_checkpoint(self.path)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add what Lightning leaves out."""
        threads = torch.get_num_threads()
        checkpoint[RECORD] = {"identity": self.identity, "rng": torch.get_rng_state(), "threads": threads}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep the RNG state until the training begins."""
        self._state = checkpoint[RECORD]["rng"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on from the RNG state of the checkpoint."""
        if self._state is not None:
            torch.set_rng_state(self._state.cpu())


class StepSeed(Callback):
    """Seeds torch before each part of a batch, so that dropout does not depend on the number of processes.

    Args:
        order: numbers the parts.
        seed: of the training.
    """

    def __init__(self, order: EpochOrder, seed: int) -> None:
        self.order, self.seed = order, seed

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        """Derive the seed from (seed, epoch, part)."""
        torch.manual_seed(derive(_DROPOUT, self.seed, trainer.current_epoch, self.order.part_number(batch_idx)))


class OwnSignals(Callback):
    """Leaves SIGTERM to whoever handled it before: Lightning's handler waits for other processes and ends with 0."""

    def __init__(self) -> None:
        self._before = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the handler back that Lightning has just replaced; one that Python cannot name stays replaced."""
        if self._before is None or threading.current_thread() is not threading.main_thread():
            return
        signal.signal(signal.SIGTERM, self._before)
        if trainer.received_sigterm:  # in the moment before
            os.kill(os.getpid(), signal.SIGTERM)


class CountMemory(Callback):
    """Counts the memory of the processes that decode images, which end with the training."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at them while they are there."""
        note_workers()


class StopAtNaN(Callback):
    """Stops a training whose loss is no number, before it spoils the weights.

    Args:
        settings: named in the advice.
        steps: after which the training ends, if not with its last epoch.
        stage: whose settings they are in a recipe; None outside of a run.
    """

    def __init__(self, settings: ScheduleSettings, steps: int | None = None, stage: str | None = None) -> None:
        self.settings, self.steps, self.stage = settings, steps, stage

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Check the loss.

        Raises:
            TrainingError: it is NaN or infinite; says where, and what to change.
        """
        if torch.isfinite(loss):
            return
        rates = ", ".join(f"{group['lr']:.3g}" for group in trainer.optimizers[0].param_groups)
        epoch, s = trainer.current_epoch, self.settings
        lower = " ".join(f"train.{name}={rate / 10:g}" for name, rate in s.rates().items())
        steps = self.steps or trainer.estimated_stepping_batches
        of = f" of {int(steps)}" if math.isfinite(steps) else ""  # batches that come one by one are not counted
        typed = f" (a setting train.… is typed as {self.stage}.train.…)" if self.stage else ""
        wider = "" if s.precision == "float32" else ", or train.precision=float32"
        kept = f". The checkpoint after epoch {epoch} is kept, but other settings train from the beginning"
        raise TrainingError(
            f"the loss is {loss.item()} in epoch {epoch + 1} of {s.epochs}, step {trainer.global_step + 1}{of} "
            f"(learning rates {rates}; precision {s.precision}). The same command fails again in the same way{typed}. "
            f"Lower the rates, such as {lower}{wider}{kept if epoch else ''}"
        )


class StopAfter(Callback):
    """Ends a training within its last epoch. Lightning's ``max_steps`` counts epochs otherwise once it is resumed.

    Args:
        steps: of the whole training; None for all of its epochs.
    """

    def __init__(self, steps: int | None) -> None:
        self.steps = steps

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Ask the trainer to stop after the last step."""
        if self.steps is not None and trainer.global_step >= self.steps:
            trainer.should_stop = True


class ShowProgress(Callback):
    """Counts the steps of this run in the package's own way.

    Args:
        what: name of the work.
        steps: of the whole training; None for all of its epochs.
    """

    def __init__(self, what: str, steps: int | None = None) -> None:
        self.what, self.steps, self._open = what, steps, ExitStack()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count; epochs of an earlier run are not counted, or the time left would be wrong."""
        steps = (self.steps or int(trainer.estimated_stepping_batches)) - trainer.global_step
        self._counter = self._open.enter_context(progress(self.what, steps, quiet=not trainer.is_global_zero))
        self._last = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Count a step, once all parts of its batch are done."""
        if trainer.global_step > self._last:
            self._last = trainer.global_step
            self._counter.advance(note=f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar."""
        self._open.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close the bar."""
        self._open.close()
