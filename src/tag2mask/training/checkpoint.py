"""The checkpoint of a training: one file, written at the end of each epoch, from which the same command resumes."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from tag2mask.core.arrays import check_archive
from tag2mask.core.errors import StageError
from tag2mask.core.files import atomic_path, cannot_write, need_regular, reason
from tag2mask.core.processes.ranks import rank
from tag2mask.core.progress import LOG

CHECKPOINT = "checkpoint.ckpt"
RECORD = "tag2mask"
"""Entry of a checkpoint that says what training it is of: ``identity`` and ``threads``."""
_STATE = {"task", "optimiser", "rates", "precision", "epoch", "step"}
"""Entries with the state of a training."""
_OF_A_TRAINER = "pytorch-lightning_version"
"""Entry of the checkpoints of tag2mask before version 0.2."""


def write_checkpoint(path: Path, identity: str, state: dict[str, Any]) -> None:
    """Write the state of a training over that of the epoch before, completely or not at all.

    Args:
        path: the file.
        identity: what the training is of; a checkpoint of another one is not resumed.
        state: tensors and plain values.
    """
    record = {"identity": identity, "threads": torch.get_num_threads()}
    buffer = io.BytesIO()  # of a full disk torch.save raises an error that says nothing
    torch.save({**state, RECORD: record}, buffer)
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def read_checkpoint(path: Path, identity: str, name: str) -> dict[str, Any] | None:
    """The state to resume from; None where there is none of this training, which is logged.

    Args:
        path: the file.
        identity: of the training.
        name: of the training, for messages.
    """
    if not path.exists():
        return None
    try:
        found = _verified(need_regular(path))
    except PermissionError as error:
        raise StageError(
            f"{path} may not be read: {error.strerror}. Allow it, and run the same command again"
        ) from error
    except Exception as error:  # zip, pickle and torch have kinds of their own for damaged bytes
        LOG.warning("%s is damaged (%s); %s starts from its beginning", path, reason(error), name)
        return None
    if found is None:
        LOG.warning("%s: %s is of an earlier version of tag2mask; the training starts anew", name, path)
        return None
    if found[RECORD]["identity"] != identity:
        LOG.warning("%s: %s is of other settings, another seed or other data; the training starts anew", name, path)
        return None
    LOG.info("%s: resumes from %s", name, path)
    before, now = found[RECORD].get("threads"), torch.get_num_threads()
    if isinstance(before, int) and before != now:
        LOG.warning(
            "%s: was begun with engine.threads=%d and resumes with %d: sums are added in another order, so the weights "
            "will not be those of a training without a stop, bit for bit. engine.threads=%d resumes as it was begun",
            name, before, now, before,
        )  # fmt: skip
    return found


def _verified(path: Path) -> dict[str, Any] | None:
    """A checkpoint, every byte verified against the sums that torch has written; None for one of an earlier version."""
    check_archive(path)
    checkpoint = torch.load(path, "cpu", weights_only=True)
    if isinstance(checkpoint, dict) and _OF_A_TRAINER in checkpoint:
        return None
    if not isinstance(checkpoint, dict) or not checkpoint.keys() >= {RECORD, *_STATE}:
        raise TypeError("it is not the checkpoint of a training")
    checkpoint[RECORD]["identity"]
    return checkpoint


def discard_checkpoint(out: Path) -> None:
    """Remove the checkpoint of a training whose result has been written."""
    if rank() == 0:
        try:
            (out / CHECKPOINT).unlink(missing_ok=True)
        except OSError as error:
            raise cannot_write(out / CHECKPOINT, error) from error
