"""From the collected vectors of one class to its prototypes: cluster, select, and find the nearest patches."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tag2mask.core.types import PrototypeSet
from tag2mask.methods.lpcam.kmeans import Clusters, spherical_kmeans
from tag2mask.methods.lpcam.rows import nearest_rows
from tag2mask.methods.lpcam.select import Judge, Rules, select_context, select_foreground
from tag2mask.methods.lpcam.vectors import VectorSet


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
    foreground: VectorSet, context: VectorSet, column: int, judge: Judge, rules: Rules, clustering: Clustering
) -> ClassPrototypes:
    """Cluster both sides of a class (section 3.1 of the paper) and select its prototypes.

    Args:
        foreground: vectors where CAM >= tau.
        context: the other vectors of the class's images.
        column: the class.
        judge: scores the centres.
        rules: thresholds on the scores.
        clustering: number of clusters, seed, caps.

    Raises:
        ConfigError: ``n_prototypes`` below 1.
        WeightsError: a vector is NaN or infinite.
    """
    inside, inside_patches = _cluster(foreground, clustering)
    outside, outside_patches = _cluster(context, clustering)
    return ClassPrototypes(
        select_foreground(inside, judge, column, rules),
        select_context(outside, judge, column, rules),
        inside_patches,
        outside_patches,
    )


def _cluster(side: VectorSet, how: Clustering) -> tuple[Clusters, Patches]:
    clusters = spherical_kmeans(
        side.vectors, how.n_prototypes, seed=how.seed, max_iterations=how.max_iterations, memory_mb=how.memory_mb
    )
    rows, similarities = nearest_rows(side.vectors, clusters.centres, memory_mb=how.memory_mb)
    return clusters, Patches(torch.from_numpy(side.origins)[rows], similarities)
