"""Spherical k-means beside faiss and scikit-learn from the same start, and its peak memory at ten times the data.

Run ``python -m benchmarks.kmeans``; it writes ``results/kmeans.csv`` and ``results/kmeans_memory.csv``. The claims: at
most 1.5 times as long as faiss for 20 iterations (a ratio of at least 0.67), its cost within 0.1 %, faster than
scikit-learn, and a peak memory that the setting bounds. It needs faiss: ``pip install faiss-cpu``.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from benchmarks.common import RESULTS, Row, compare, peak_memory, write_rows
from tag2mask.methods.lpcam.kmeans import Clusters, spherical_kmeans

DIM, K, ITERATIONS = 2048, 12, 20


@dataclass(frozen=True, slots=True)
class KMeansRow(Row):
    """A comparison, and the sums of 1 - cosine that the two sides end with.

    Attributes:
        cost: ours.
        baseline_cost: the other's.
    """

    cost: float
    baseline_cost: float


@dataclass(frozen=True, slots=True)
class MemoryRow:
    """Peak memory of one clustering.

    Attributes:
        vectors: number of vectors, on disk in float16.
        data_mb: megabytes of them as float32.
        memory_mb: the setting.
        peak_mb: megabytes by which clustering raised the resident memory.
    """

    vectors: int
    data_mb: float
    memory_mb: int
    peak_mb: float


def unit_vectors(count: int, seed: int = 0) -> Tensor:
    """(count, 2048) non-negative unit vectors around 40 directions, too close for 20 iterations to settle."""
    generator = torch.Generator().manual_seed(seed)
    middles = torch.randn(40, DIM, generator=generator)
    vectors = torch.empty(count, DIM)
    for start in range(0, count, 10_000):
        part = vectors[start : start + 10_000]
        part.normal_(generator=generator)
        part += 0.1 * middles[torch.randint(40, (len(part),), generator=generator)]
        F.normalize(part.relu_(), dim=1, out=part)
    return vectors


def cost(vectors: Tensor, directions: Tensor) -> float:
    """Sum of 1 - cosine to the nearest direction."""
    units = F.normalize(directions, dim=1)
    chunks = (vectors[i : i + 10_000] for i in range(0, len(vectors), 10_000))
    return sum(float((1 - (chunk @ units.T).amax(1)).double().sum()) for chunk in chunks)


def by_faiss(vectors: NDArray[np.float32], start: NDArray[np.float32]) -> NDArray[np.float32]:
    """Centroids of faiss after the same iterations."""
    import faiss

    clustering = faiss.Clustering(DIM, K)
    clustering.niter, clustering.spherical, clustering.max_points_per_centroid = ITERATIONS, True, len(vectors)
    faiss.copy_array_to_vector(start.ravel(), clustering.centroids)
    clustering.train(vectors, faiss.IndexFlatIP(DIM))
    centroids: NDArray[np.float32] = faiss.vector_to_array(clustering.centroids).reshape(K, DIM)
    return centroids


def by_sklearn(vectors: NDArray[np.float32], start: NDArray[np.float32]) -> NDArray[np.float32]:
    """scikit-learn's centres after the same iterations; it is Euclidean, which on unit vectors is nearly the same."""
    from sklearn.cluster import KMeans

    fitted = KMeans(K, init=start, n_init=1, max_iter=ITERATIONS, tol=0, copy_x=False).fit(vectors)
    centres: NDArray[np.float32] = fitted.cluster_centers_
    return centres


Other = Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]
OTHERS: dict[str, Other] = {"faiss": by_faiss, "scikit-learn": by_sklearn}


def measure(count: int, runs: int) -> list[KMeansRow]:
    """Ours beside each of the two, everything included: lengths of the rows and the last pass for raw means too."""
    vectors = unit_vectors(count)
    start = vectors[:: count // K][:K].clone()

    def ours() -> Clusters:
        return spherical_kmeans(vectors, K, start=start, max_iterations=ITERATIONS, tolerance=0)

    own = cost(vectors, ours().directions)
    return [against(name, other, vectors, start, ours, own, runs) for name, other in OTHERS.items()]


def against(
    name: str, other: Other, vectors: Tensor, start: Tensor, ours: Callable[[], Clusters], own: float, runs: int
) -> KMeansRow:
    """One of the others on the same vectors from the same start."""

    def theirs() -> NDArray[np.float32]:
        return other(vectors.numpy(), start.numpy())

    variant = f"{name}, {len(vectors)} x {DIM}, K={K}, {ITERATIONS} iterations"
    found = cost(vectors, torch.from_numpy(theirs().astype(np.float32)))
    row = compare("kmeans", ours, theirs, runs, warmup=0, variant=variant)
    return KMeansRow(**asdict(row), cost=own, baseline_cost=found)


def peak(path: str, count: int, memory_mb: int) -> float:
    """Megabytes of one clustering of a file of vectors; for a fresh process."""
    vectors = np.memmap(path, np.float16, "r", shape=(count, DIM))
    spherical_kmeans(vectors[:100].copy(), K, memory_mb=memory_mb)  # libraries load at the first use
    return peak_memory(lambda: spherical_kmeans(vectors, K, max_iterations=3, memory_mb=memory_mb)) / 2**20


def measure_memory(count: int, memory_mb: int) -> list[MemoryRow]:
    """Peak memory for ``count`` vectors and for ten times as many, each in a process of its own."""
    rows = []
    for size in (count, 10 * count):
        with (
            tempfile.NamedTemporaryFile(suffix=".vectors") as file,
            multiprocessing.get_context("spawn").Pool(1) as pool,
        ):
            for start in range(0, size, count):
                file.write(unit_vectors(count, seed=start).half().numpy().tobytes())
            file.flush()
            highest = pool.apply(peak, (file.name, size, memory_mb))
        rows.append(MemoryRow(size, size * DIM * 4 / 2**20, memory_mb, highest))
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS / "kmeans.csv")
    parser.add_argument("--out-memory", type=Path, default=RESULTS / "kmeans_memory.csv")
    parser.add_argument("--vectors", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    memory = measure_memory(options.vectors // 10, 64)
    write_rows(options.out_memory, memory)
    for size in memory:
        print(f"{size.vectors} vectors, {size.data_mb:.0f} MB as float32: peak {size.peak_mb:.0f} MB")
    found = measure(options.vectors, options.runs)
    write_rows(options.out, found)
    for row in found:
        print(f"{row.variant}: {row.seconds_median:.2f} s, theirs {row.baseline_seconds_median:.2f} s; ", end="")
        print(f"{row.ratio_median:.2f} x, cost {row.cost:.1f} and {row.baseline_cost:.1f}")
