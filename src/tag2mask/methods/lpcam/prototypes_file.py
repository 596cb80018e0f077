"""Which network prototypes belong to: what it makes of one drawn picture.

Prototypes are centres of its features, separated and scored by its classifier. So they belong to every network with
the same features and class weights, wherever it lies and in whatever precision, and to no other; names, files and the
bytes of weights say less about that than its answers do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from tag2mask.backbones.feature_layer import Anatomy
from tag2mask.core.errors import WeightsError
from tag2mask.core.files import atomic_path, need_regular, reason
from tag2mask.core.types import Prototypes, PrototypeSet

_APART = {torch.float16: 0.02, torch.bfloat16: 0.05}
_APART_EXACT = 0.01
"""How far the answers of one network may be apart, as a share of their length, by its precision."""
_FORMAT = "tag2mask prototypes 1"
_FEATURES, _SCORES = "network.features", "network.scores"
_TENSORS = ("centres", "scores", "sizes", "kept")


@dataclass(frozen=True, slots=True, eq=False)
class NetworkMark:
    """What one network makes of the picture.

    Attributes:
        layer: dotted name of its feature layer.
        shape: (channels, height, width) of the picture.
        features: (D,) float32, mean of the features over the cells.
        scores: (C,) float32, the class weights on these.
    """

    layer: str
    shape: tuple[int, int, int]
    features: Tensor
    scores: Tensor

    @classmethod
    def of(cls, model: nn.Module, anatomy: Anatomy, shape: tuple[int, int, int]) -> NetworkMark:
        """The mark of a network."""
        features = anatomy.features(model, picture(model, shape))
        mean = torch.full((1,), torch.nan) if features is None else features[0].float().mean((1, 2))
        if not bool(torch.isfinite(mean).all()):
            raise WeightsError(
                f"the features of layer '{anatomy.name}' are not finite, or not what the classifier reads the mean of"
            )
        scores = anatomy.weights.to(mean) @ mean
        return cls(anatomy.name, shape, mean.cpu(), scores.cpu())

    def check(self, model: nn.Module, found: NetworkMark, path: str) -> None:
        """Refuse another network than the one that the prototypes of a file are of.

        Args:
            model: the network that is to use them.
            found: its mark, of the same picture.
            path: of the file, for the error text.
        """
        for what, own, given in (
            ("classes", len(self.scores), len(found.scores)),
            ("feature channels", len(self.features), len(found.features)),
        ):
            if own != given:
                raise self.other(path, f"{own} {what}, this one has {given}")
        limit = max([_APART_EXACT, *(_APART.get(p.dtype, 0.0) for p in model.parameters())])
        for what, mine, theirs in (
            ("features", self.features, found.features),
            ("class weights on its features", self.scores, found.scores),
        ):
            apart = float((mine - theirs).norm() / mine.norm().clamp_min(torch.finfo(torch.float32).tiny))
            if not apart <= limit:
                raise self.other(path, f"other {what} (layer '{self.layer}': they differ by {100 * apart:.0f} %)")

    def other(self, path: str, how: str) -> WeightsError:
        """The error of prototypes that belong to another network."""
        return WeightsError(
            f"{path} holds prototypes of another network, with {how}. Load the weights that they were fitted with, or "
            "fit them anew: LPCAM(model).fit(batches)"
        )


def picture(model: nn.Module, shape: tuple[int, int, int]) -> Tensor:
    """The drawn picture (1, channels, height, width), on the model's device and of its type."""
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(()))
    return torch.randn(1, *shape, generator=torch.Generator().manual_seed(0)).to(like.device, like.dtype)


def save_prototypes(path: Path, prototypes: Prototypes, mark: NetworkMark | None = None) -> None:
    """Write all centres, kept and dropped, with scores, sizes and reasons; whole or not at all.

    Args:
        path: of the file.
        prototypes: to write.
        mark: of the network that they belong to; None where another file says so, as in a run.
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
    """The prototypes that `save_prototypes` wrote."""
    return load_marked(path)[0]


def load_marked(path: Path) -> tuple[Prototypes, NetworkMark | None]:
    """Read what `save_prototypes` wrote: prototypes, and the network they belong to where that was written."""
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
