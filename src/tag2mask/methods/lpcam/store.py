"""Prototypes as one safetensors file whose bytes depend on the prototypes alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from tag2mask.core.errors import WeightsError
from tag2mask.core.files import atomic_path, need_regular, reason
from tag2mask.core.types import Prototypes, PrototypeSet
from tag2mask.methods.lpcam.mark import NetworkMark

_FORMAT = "tag2mask prototypes 1"
_FEATURES, _SCORES = "network.features", "network.scores"
_TENSORS = ("centres", "scores", "sizes", "kept")


def save_prototypes(path: Path, prototypes: Prototypes, mark: NetworkMark | None = None) -> None:
    """Write all centres, kept and dropped, with scores, sizes and reasons; whole or not at all.

    Args:
        path: of the file.
        prototypes: to write.
        mark: of the network that they belong to; None where another file says so, as in a run.

    Raises:
        StageError: the disk is full or the folder cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    reasons: dict[str, list[str]] = {}
    for side, sets in (("foreground", prototypes.all_foreground), ("context", prototypes.all_context)):
        for column, one in sets.items():
            reasons[f"{side}.{column}"] = list(one.reasons)
            for name in _TENSORS:
                tensors[f"{side}.{column}.{name}"] = getattr(one, name).contiguous().cpu()
    about: dict[str, Any] = {"format": _FORMAT, "reasons": reasons}
    if mark is not None:
        about["network"] = {"layer": mark.layer, "shape": mark.shape}
        tensors |= {_FEATURES: mark.features.contiguous(), _SCORES: mark.scores.contiguous()}
    # One key only: the order of several would change from process to process.
    text = json.dumps(about, sort_keys=True, ensure_ascii=False)
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(tensors, {"tag2mask": text}))


def load_prototypes(path: Path) -> Prototypes:
    """The prototypes that `save_prototypes` wrote.

    Raises:
        WeightsError: the file is missing, damaged, or holds something else.
    """
    return load_marked(path)[0]


def load_marked(path: Path) -> tuple[Prototypes, NetworkMark | None]:
    """Read what `save_prototypes` wrote: prototypes, and the network they belong to where that was written.

    Raises:
        WeightsError: the file is missing, damaged, or holds something else.
    """
    if not path.exists():
        raise WeightsError(f"no prototypes at {path}: the file does not exist. Make them with LPCAM(...).fit(...).save")
    try:
        with safe_open(need_regular(path), "pt") as archive:
            about = json.loads((archive.metadata() or {}).get("tag2mask", "{}"))
            tensors = {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118 (not a dict)
    except Exception as error:  # safetensors and Python's parser have kinds of their own for damaged bytes
        raise WeightsError(f"cannot read prototypes from {path}: {reason(error)}. Fit them again") from error
    if not isinstance(about, dict) or about.get("format") != _FORMAT:
        raise WeightsError(f"{path} is a safetensors file, but not of prototypes ('{_FORMAT}')")
    try:
        sides, mark = _sets(tensors, about["reasons"]), _mark(tensors, about.get("network"))
    except Exception as error:  # whatever its values are not
        raise WeightsError(
            f"{path} is damaged: {error!s:.200} is missing or wrong. Fit the prototypes again"
        ) from error
    return Prototypes(sides["foreground"], sides["context"]), mark


def _mark(tensors: Mapping[str, Tensor], network: Mapping[str, Any] | None) -> NetworkMark | None:
    if network is None:
        return None
    channels, height, width = map(int, network["shape"])
    return NetworkMark(str(network["layer"]), (channels, height, width), tensors[_FEATURES], tensors[_SCORES])


def _sets(tensors: Mapping[str, Tensor], reasons: Mapping[str, Any]) -> dict[str, dict[int, PrototypeSet]]:
    sides: dict[str, dict[int, PrototypeSet]] = {"foreground": {}, "context": {}}
    for key in sorted(reasons, key=lambda k: (k.split(".")[0], int(k.split(".")[1]))):
        side, column = key.split(".")
        centres, scores, sizes, kept = (tensors[f"{key}.{name}"] for name in _TENSORS)
        if not len(centres) == len(scores) == len(sizes) == len(kept) == len(reasons[key]):
            raise ValueError(f"a length in '{key}'")
        sides[side][int(column)] = PrototypeSet(centres, scores, sizes, kept.to(torch.bool), tuple(reasons[key]))
    return sides
