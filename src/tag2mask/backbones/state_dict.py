"""Strict loading of weight files: every key is accounted for, every shape checked, aliases compared."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tag2mask.core.arrays import check_archive
from tag2mask.core.errors import WeightsError
from tag2mask.core.files import need_regular, reason

State = dict[str, Tensor]
_FLAT = "expected a flat state dict, tensors by name: copy the file again, or name another"
_COUNTERS = "num_batches_tracked"
"""Batch-norm counters: absent from old files, and without effect while statistics are frozen."""


def read_state(path: Path) -> State:
    """Read tensors by name from a .safetensors or .pth file, never by running what is in it."""
    try:
        need_regular(path)
        state: Any = load_file(path) if path.suffix == ".safetensors" else _read_pth(path)
    except pickle.UnpicklingError as error:  # torch's own words advise to run what is in it
        raise WeightsError(
            f"cannot read weights {path}: it is damaged, or holds Python objects, which are not run; {_FLAT}"
        ) from error
    except Exception as error:  # zip, pickle, torch and safetensors have kinds of their own for damaged bytes
        raise WeightsError(f"cannot read weights {path}: {reason(error)}; {_FLAT}") from error
    if not isinstance(state, Mapping):
        raise WeightsError(f"cannot read weights {path}: it holds a value of type {type(state).__name__}; {_FLAT}")
    for name, value in state.items():
        if not isinstance(name, str) or not _is_plain(value):
            raise WeightsError(f"cannot read weights {path}: its entry {name!r:.80} is not a plain tensor; {_FLAT}")
    return dict(state)


def _read_pth(path: Path) -> Any:
    if zipfile.is_zipfile(path):
        check_archive(path)
    return torch.load(path, "cpu", weights_only=True)


def _is_plain(value: object) -> bool:
    """Whether an entry is a tensor of numbers in memory, each of which the file holds."""
    if not isinstance(value, Tensor) or value.layout is not torch.strided or value.device.type != "cpu":
        return False
    held = (
        value.untyped_storage().nbytes()
    )  # less than its elements take where one is repeated, at no cost, without end
    return not value.is_quantized and not value.is_complex() and value.numel() * value.element_size() <= held


def load_strict(module: nn.Module, state: Mapping[str, Tensor], source: str, expected: str) -> None:
    """Load ``state`` into ``module``, whose names and shapes it must have, see `check_strict`."""
    check_strict(module, state, source, expected)
    module.load_state_dict(dict(state), strict=False)


def check_strict(module: nn.Module, state: Mapping[str, Tensor], source: str, expected: str) -> None:
    """See that ``state`` has the names and shapes of ``module`` (batch-norm counters may be absent).

    Args:
        module: may be without memory, on torch's device "meta".
        state: tensors by name.
        source: where they come from, for the error text.
        expected: the network, in words, for the error text.
    """
    own = module.state_dict()
    missing = [k for k in own if k not in state and not k.endswith(_COUNTERS)]
    extra = [k for k in state if k not in own]
    if missing or extra:
        both = (("missing", missing), ("unexpected", extra))
        found = "; ".join(f"{len(names)} {what}, first '{names[0]}'" for what, names in both if names)
        raise WeightsError(f"{source} does not belong to {expected}: of {len(own)} entries expected, {found}")
    for name, value in state.items():
        if value.shape != own[name].shape:
            raise WeightsError(
                f"{source} does not belong to {expected}: '{name}' is {tuple(value.shape)}, "
                f"expected {tuple(own[name].shape)}"
            )


def in_order(state: Mapping[str, Tensor], names: Sequence[str], source: str) -> State:
    """Give the entries of ``state`` the names ``names``, in order; the two after them (a classifier) are dropped."""
    old, dropped = list(state)[: len(names)], list(state)[len(names) :]
    if len(old) != len(names) or len(dropped) != 2:
        raise WeightsError(f"{source} is not the file it should be: {len(state)} entries, expected {len(names) + 2}")
    for found, name in zip(old, names, strict=True):
        if found.split(".")[-1] != name.split(".")[-1]:
            raise WeightsError(f"{source} is not the file it should be: '{found}' cannot be '{name}'")
    return {new: state[name] for name, new in zip(old, names, strict=True)}


def without(state: Mapping[str, Tensor], prefixes: Sequence[str]) -> State:
    """The entries that start with none of ``prefixes`` (the ImageNet classifier of a plain weight file)."""
    return {k: v for k, v in state.items() if not k.startswith(tuple(prefixes))}
