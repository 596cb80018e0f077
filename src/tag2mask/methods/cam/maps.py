"""CAM's maps (LPCAM paper, eq. 1): the classifier's weights laid over the features."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from tag2mask.core.errors import WeightsError
from tag2mask.inference.multiscale import add_mirror


def activation(weights: Tensor, features: Tensor) -> Tensor:
    """``A_n = w_n . f(x)`` at every position, before the ReLU (eq. 1); no bias, as in the paper.

    Args:
        weights: (K, D).
        features: (B, D, h, w), of any floating type and memory format.

    Returns:
        (B, K, h, w) float32.

    Raises:
        WeightsError: the depths of weights and features differ.
    """
    batch, channels, height, width = features.shape
    if weights.shape[1] != channels:
        raise WeightsError(
            f"weights or prototypes have {weights.shape[1]} channels, the features {channels}: they belong to another "
            "network; fit or train them with this one"
        )
    return (weights @ features.float().reshape(batch, channels, -1)).reshape(batch, -1, height, width)


@dataclass(frozen=True, slots=True)
class CAMHead:
    """Makes CAM's maps of one scale: ``ReLU(w f(x)) + unflip ReLU(w f(flip x))``.

    Attributes:
        weights: (C, D) float32, the classifier's, one row for each class.
    """

    weights: Tensor

    def __call__(self, features: Tensor, classes: Tensor) -> Tensor:
        """Maps (K, h, w) of the class columns ``classes``, as `MapHead` says."""
        rows = self.weights.to(features.device)[classes]
        return add_mirror(activation(rows, features).relu_())
