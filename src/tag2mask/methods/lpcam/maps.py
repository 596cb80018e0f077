"""LPCAM's maps (eqs. 5 and 6), as one matrix product whatever the number of prototypes.

The mean of cosine similarities is a similarity to a mean: with hats for unit vectors,
``FG - BG = mean_k cos(f, F_k) - mean_k cos(f, B_k) = f^ . (mean_k F^_k - mean_k B^_k)``,
so each class needs one weight vector, and the division by the length of f can follow the product.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from tag2mask.core.errors import WeightsError
from tag2mask.core.types import Prototypes
from tag2mask.inference.multiscale import activation, add_mirror


def class_vector(foreground: Tensor, context: Tensor | None) -> Tensor:
    """The one vector (D,) that stands for all prototypes of a class in eq. 6.

    Args:
        foreground: (K1, D) class prototypes; none gives the zero vector, so a map of zeros: context alone
            says nothing about where the class is.
        context: (K2, D) context prototypes; none (or None) leaves ``FG`` alone.
    """
    if not len(foreground):
        return foreground.new_zeros(foreground.shape[1])
    vector = F.normalize(foreground, dim=1).mean(0)
    if context is not None and len(context):
        vector = vector - F.normalize(context, dim=1).mean(0)
    return vector


def similarity(weights: Tensor, features: Tensor) -> Tensor:
    """``A`` of eq. 6, before the ReLU: the product with the unit features, 0 where the feature is zero.

    Args:
        weights: (K, D), a `class_vector` in each row.
        features: (D, h, w), of any floating type and memory format.

    Returns:
        (K, h, w) float32 in [-2, 2].
    """
    exact = features.float()
    # torch's norm is fast along the inner axis (channels-last) and several times slower than this along the outer one.
    inner = exact.stride(0) == 1
    lengths = torch.linalg.vector_norm(exact, dim=0) if inner else exact.square().sum(0).sqrt()
    return activation(weights, exact[None])[0] / torch.where(lengths > 0, lengths, torch.inf)


class LPCAMHead:
    """Makes LPCAM's maps of one scale: ``ReLU(A)`` of ``f(x) + unflip f(flip x)``.

    Args:
        prototypes: of some or all classes; a class without any gets maps of zeros.
        n_classes: number of columns of the tags.
        foreground_only: leave the context prototypes out (LPCAM-F of the paper's Table 1).

    Attributes:
        weights: (C, D) float32, one row for each class.
    """

    def __init__(self, prototypes: Prototypes, n_classes: int, foreground_only: bool = False) -> None:
        known = prototypes.foreground
        if not known or max(known) >= n_classes:
            raise WeightsError(
                f"prototypes are of the class columns {sorted(known)}, but the classifier has {n_classes} classes; "
                "fit them anew for this classifier"
            )
        context = {} if foreground_only else prototypes.context
        rows = {c: class_vector(vectors.float(), context.get(c)) for c, vectors in known.items()}
        blank = torch.zeros_like(next(iter(rows.values())))
        self.weights = torch.stack([rows.get(c, blank) for c in range(n_classes)])

    def __call__(self, features: Tensor, classes: Tensor) -> Tensor:
        """Maps (K, h, w) of the class columns ``classes``, as `MapHead` says."""
        return self.scores(features, classes).relu_()

    def scores(self, features: Tensor, classes: Tensor) -> Tensor:
        """``A`` of these classes, (K, h, w), before the ReLU: mean similarity to foreground less that to context."""
        rows = self.weights.to(features.device)[classes]
        return similarity(rows, add_mirror(features.float()))
