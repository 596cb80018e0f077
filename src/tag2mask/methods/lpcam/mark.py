"""Which network prototypes belong to: what it makes of one drawn picture.

Prototypes are centres of its features, told apart and scored by its classifier. So they belong to every network with
the same features and class weights, wherever it lies and in whatever precision, and to no other; names, files and the
bytes of weights say less about that than its answers do.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tag2mask.core.errors import WeightsError
from tag2mask.methods.cam.anatomy import Anatomy

_APART = {torch.float16: 0.02, torch.bfloat16: 0.05}
_APART_EXACT = 0.01
"""How far the answers of one network may be apart, as a share of their length, by its precision."""


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
        """The mark of a network.

        Raises:
            WeightsError: its features are not finite, or not those that its classifier reads.
        """
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

        Raises:
            WeightsError: it has other channels, another number of classes, other features or other class weights.
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
