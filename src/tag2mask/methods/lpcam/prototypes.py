"""Which cluster centres become prototypes (LPCAM eqs. 3 and 4): the classifier scores each."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from tag2mask.core.errors import ConfigError, unknown
from tag2mask.core.progress import LOG
from tag2mask.core.types import Prototypes, PrototypeSet
from tag2mask.methods.lpcam.kmeans import Clusters, spherical_kmeans
from tag2mask.methods.lpcam.vectors import CHUNK_NUMBERS, Half, VectorSet, nearest_rows

SIDES = ("foreground", "context")


@dataclass(frozen=True, slots=True)
class Rules:
    """Thresholds on the score z in [0, 1].

    Attributes:
        mu_f: a foreground centre is kept if z > mu_f.
        mu_b: a context centre is kept if z < mu_b ...
        mu_b_low: ... and z > mu_b_low, which leaves out what the class rejects outright (the published VOC
            code has 0.05, the paper nothing); 0 means no lower bound.
    """

    mu_f: float = 0.9
    mu_b: float = 0.9
    mu_b_low: float = 0.0

    def __post_init__(self) -> None:
        for name in ("mu_f", "mu_b", "mu_b_low"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} = {getattr(self, name)} must lie in [0, 1]")
        if self.mu_b_low >= self.mu_b:
            raise ConfigError(f"mu_b_low = {self.mu_b_low} must be below mu_b = {self.mu_b}")


@dataclass(frozen=True, slots=True)
class Scorer:
    """The classifier as evaluator of centres.

    Attributes:
        weights: (C, D) of the classifier.
        present: (C,) bool, the classes that have training images; the others are left out of the softmax.
        names: of the classes, for messages; empty where only columns are known.
        bias: (C,) of the classifier; None where it has none.
        alone: each class is judged by itself, by the sigmoid of its logit; of background a softmax says which class
            it is least unlike, which may be any.
    """

    weights: Tensor
    present: Tensor
    names: tuple[str, ...] = ()
    bias: Tensor | None = None
    alone: bool = False

    def __post_init__(self) -> None:
        if int(self.present.sum()) == 1 and not self.alone:
            LOG.info("one class only: prototypes are scored by the sigmoid, since a softmax would always be 1")

    def label(self, column: int) -> str:
        """The class in words."""
        return f"class '{self.names[column]}'" if self.names else f"class column {column}"

    def scores(self, centres: Tensor, column: int) -> Tensor:
        """z_i of eqs. 3 and 4: the softmax probability of the class for each raw centre.

        With one class a softmax is always 1, so the sigmoid of the product is taken then.

        Args:
            centres: (K, D) raw means.
            column: the class.

        Returns:
            (K,) float32 in [0, 1].
        """
        products = centres.double() @ self.weights.to(centres.device).double().T
        if self.bias is not None:
            products = products + self.bias.to(centres.device).double()
        return self.of_logits(products, column)

    def of_logits(self, logits: Tensor, column: int) -> Tensor:
        """The same from the classifier's logits of the centres, (K, C): those of a mean, or the mean of those."""
        if self.alone or int(self.present.sum()) == 1:
            return logits[:, column].sigmoid().float()
        left_out = ~self.present.to(logits.device)
        return logits.masked_fill(left_out, -torch.inf).softmax(1)[:, column].float()

    def of_clusters(self, clusters: Clusters, column: int, logits: Half | None) -> Tensor:
        """The score z of each centre: by the logits of its cluster's vectors where there are some, else by its own.

        A linear classifier's logits of a mean are the mean of its logits; where it reads other features than those that
        are clustered, the latter are the former's.
        """
        if logits is None:
            return self.scores(clusters.centres, column)
        return self.of_logits(cluster_means(logits, clusters.labels.cpu(), len(clusters.sizes)), column)


def cluster_means(values: Half, labels: Tensor, k: int) -> Tensor:
    """(K, C) float64 means of rows (N, C) by their cluster; label -1 is of none."""
    sums, step = torch.zeros(k, values.shape[1], dtype=torch.float64), max(1, CHUNK_NUMBERS // max(values.shape[1], 1))
    for start in range(0, len(labels), step):
        part = labels[start : start + step]
        rows = torch.from_numpy(np.array(values[start : start + step], dtype=np.float64))
        sums.index_add_(0, part[part >= 0], rows[part >= 0])
    return sums / torch.bincount(labels[labels >= 0], minlength=k).clamp_min(1)[:, None]


def select_foreground(
    clusters: Clusters, scorer: Scorer, column: int, rules: Rules, logits: Half | None = None
) -> PrototypeSet:
    """Keep the foreground centres with z > mu_f; if there is none, the one with the highest score (logged)."""
    z = scorer.of_clusters(clusters, column, logits)
    kept = z > rules.mu_f
    reasons = [
        f"kept: score {s:.3f} > mu_f {rules.mu_f:g}" if k else f"dropped: score {s:.3f} <= mu_f {rules.mu_f:g}"
        for s, k in zip(z.tolist(), kept.tolist(), strict=True)
    ]
    if len(z) and not kept.any():
        best = int(z.argmax())
        kept[best] = True
        reasons[best] = (
            f"kept: best of its class, since no score exceeds mu_f {rules.mu_f:g} (its own is {z[best]:.3f})"
        )
        LOG.warning("%s: no foreground centre scores above %g; the best is kept", scorer.label(column), rules.mu_f)
    if not len(z):
        LOG.warning("%s: no foreground vectors, so no prototypes: its maps will be zero", scorer.label(column))
    return PrototypeSet(clusters.centres.cpu(), z.cpu(), clusters.sizes.cpu(), kept.cpu(), tuple(reasons))


def select_context(
    clusters: Clusters, scorer: Scorer, column: int, rules: Rules, logits: Half | None = None
) -> PrototypeSet:
    """Keep the context centres with mu_b_low < z < mu_b; there may be none, then LPCAM is FG alone."""
    z = scorer.of_clusters(clusters, column, logits)
    kept, reasons = [], []
    for score in z.tolist():
        low, high = rules.mu_b_low > 0 and score <= rules.mu_b_low, score >= rules.mu_b
        kept.append(not (low or high))
        if high:
            reasons.append(f"dropped: score {score:.3f} >= mu_b {rules.mu_b:g}, it looks like the class")
        elif low:
            reasons.append(f"dropped: score {score:.3f} <= mu_b_low {rules.mu_b_low:g}, the class rejects it outright")
        else:
            reasons.append(f"kept: score {score:.3f} < mu_b {rules.mu_b:g}")
    flags = torch.tensor(kept, dtype=torch.bool)
    return PrototypeSet(clusters.centres.cpu(), z.cpu(), clusters.sizes.cpu(), flags, tuple(reasons))


def drop_by_hand(prototypes: Prototypes, column: int, side: str, index: int, name: str | None = None) -> Prototypes:
    """The same prototypes with one dropped, such as the rails of the train.

    Args:
        prototypes: those of a fit.
        column: the class.
        side: ``foreground`` or ``context``.
        index: of the centre among all centres of that class and side, dropped ones included.
        name: of the class, for the error text.
    """
    if side not in SIDES:
        raise ConfigError(unknown("side of prototypes", side, SIDES))
    sets = dict(prototypes.all_foreground if side == "foreground" else prototypes.all_context)
    label = f"class '{name}'" if name else f"class column {column}"
    if column not in sets or not len(sets[column].kept):
        raise ConfigError(f"{label} has no {side} prototypes; see which there are: tag2mask prototypes RUN")
    chosen = sets[column]
    if not 0 <= index < len(chosen.kept):
        raise ConfigError(f"{side}:{index} does not exist: {label} has {side}:0 to {side}:{len(chosen.kept) - 1}")
    kept = chosen.kept.clone()
    kept[index] = False
    reasons = list(chosen.reasons)
    reasons[index] = f"dropped: by hand (was {reasons[index]})"
    sets[column] = replace(chosen, kept=kept, reasons=tuple(reasons))
    if side == "foreground":
        return replace(prototypes, all_foreground=sets)
    return replace(prototypes, all_context=sets)


@dataclass(frozen=True, slots=True)
class Clustering:
    """How the vectors of a class are clustered.

    Attributes:
        n_prototypes: K of the paper, clusters on each side.
        seed: of k-means++.
        max_iterations: cap of k-means.
        memory_mb: most megabytes for a float32 copy of the vectors.
    """

    n_prototypes: int = 12
    seed: int = 0
    max_iterations: int = 100
    memory_mb: int = 1024


@dataclass(frozen=True, slots=True)
class Patches:
    """The feature positions most like each centre, for the gallery.

    Attributes:
        origins: (K, top, 3) int32: image index, row and column on the feature grid.
        similarities: (K, top) float32 cosines, falling.
    """

    origins: Tensor
    similarities: Tensor


@dataclass(frozen=True, slots=True)
class ClassPrototypes:
    """All centres of one class, kept or dropped, and where they are seen best.

    Attributes:
        foreground: centres of the foreground vectors.
        context: centres of the context vectors.
        foreground_patches: positions nearest to each foreground centre.
        context_patches: positions nearest to each context centre.
    """

    foreground: PrototypeSet
    context: PrototypeSet
    foreground_patches: Patches
    context_patches: Patches


def build_class(
    foreground: VectorSet, context: VectorSet, column: int, scorer: Scorer, rules: Rules, clustering: Clustering
) -> ClassPrototypes:
    """Cluster both sides of a class (section 3.1 of the paper) and select its prototypes.

    Args:
        foreground: vectors where CAM >= tau.
        context: the other vectors of the class's images.
        column: the class.
        scorer: scores the centres.
        rules: thresholds on the scores.
        clustering: number of clusters, seed, caps.
    """
    inside, inside_patches = _cluster(foreground, clustering)
    outside, outside_patches = _cluster(context, clustering)
    return ClassPrototypes(
        select_foreground(inside, scorer, column, rules, foreground.logits),
        select_context(outside, scorer, column, rules, context.logits),
        inside_patches,
        outside_patches,
    )


def _cluster(side: VectorSet, how: Clustering) -> tuple[Clusters, Patches]:
    clusters = spherical_kmeans(
        side.vectors, how.n_prototypes, seed=how.seed, max_iterations=how.max_iterations, memory_mb=how.memory_mb
    )
    rows, similarities = nearest_rows(side.vectors, clusters.centres, memory_mb=how.memory_mb)
    return clusters, Patches(torch.from_numpy(side.origins)[rows], similarities)
