"""The random walk beside 256 products with a scipy CSR matrix, and how both grow with the image.

Run ``python -m benchmarks.random_walk``; it writes ``results/random_walk.csv`` and ``results/random_walk_memory.csv``.
The claim: at least twice as fast as the plain sparse form on the grid of a VOC image, building the matrix included, for
the same result. ``--dense`` adds the published form, eight squarings of a dense float32 matrix: minutes and gigabytes.
It needs scipy, which comes with scikit-learn. scipy's products use one thread, whatever the machine has.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from benchmarks.common import RESULTS, Row, compare, peak_memory, write_rows
from tag2mask.refine.transition import paths
from tag2mask.refine.walk import random_walk

Array = NDArray[np.floating]
RADIUS, BETA, DOUBLINGS = 5, 10, 8
VOC = (375, 500)
LARGER = ((750, 1000), (1500, 2000))
MAPS = 2


@dataclass(frozen=True, slots=True)
class WalkRow(Row):
    """A comparison, and how far apart the two results are.

    Attributes:
        difference: largest difference of the two as a share of the largest value.
    """

    difference: float


@dataclass(frozen=True, slots=True)
class WalkMemoryRow:
    """Peak memory of one walk.

    Attributes:
        form: ``tag2mask``, ``scipy float64``, ``scipy float32`` or ``dense float32``.
        image: height x width in pixels; the grid is a quarter of it each way.
        cells: cells of the grid.
        peak_mb: megabytes by which the walk raised the resident memory.
    """

    form: str
    image: str
    cells: int
    peak_mb: float


def scene(image: tuple[int, int], count: int) -> tuple[Tensor, Tensor]:
    """Smooth float64 maps (K, h, w) and a map of boundaries (h, w) of some width, on the grid of an image's size."""
    generator = torch.Generator().manual_seed(0)
    size = (-(-image[0] // 4), -(-image[1] // 4))
    field = F.interpolate(torch.randn(1, 1, 9, 12, generator=generator), size, mode="bicubic")[0, 0]
    edge = 0.02 + 0.96 * torch.exp(-((field / 0.15) ** 2))  # along the lines where the field is zero
    maps = F.interpolate(torch.rand(1, count, 6, 8, generator=generator), size, mode="bilinear")[0]
    return maps.double(), edge.double()


def plain_matrix(edge: Array, dtype: type[np.floating]) -> Any:
    """The transition matrix as a scipy CSR matrix, rows are output cells: entries by offset, then COO, then CSR."""
    from scipy import sparse

    height, width = edge.shape
    reach = RADIUS - 1
    walls = np.pad(edge, ((0, reach), (reach, reach)), constant_values=1)
    number = np.arange(edge.size).reshape(height, width)
    targets = np.pad(number, ((0, reach), (reach, reach)), constant_values=-1)
    rows, columns, values = [number.ravel()], [number.ravel()], [np.ones(edge.size)]
    for path in paths(RADIUS):
        highest = np.max([walls[y : y + height, reach + x : reach + x + width] for y, x in path.cells], axis=0)
        affinity = ((1 - highest) ** BETA).ravel()
        target = targets[path.dy : path.dy + height, reach + path.dx : reach + path.dx + width].ravel()
        inside = target >= 0
        rows += [number.ravel()[inside], target[inside]]
        columns += [target[inside], number.ravel()[inside]]
        values += [affinity[inside], affinity[inside]]
    entries = (np.concatenate(values).astype(dtype), (np.concatenate(rows), np.concatenate(columns)))
    matrix = sparse.coo_matrix(entries, shape=(edge.size, edge.size)).tocsr()
    return sparse.diags(1 / np.asarray(matrix.sum(0)).ravel()).astype(dtype) @ matrix


def by_scipy(maps: Tensor, edge: Tensor, dtype: type[np.floating] = np.float64) -> Array:
    """256 sparse products."""
    matrix = plain_matrix(edge.numpy().astype(dtype), dtype)
    cells = np.ascontiguousarray((maps * (1 - edge)).flatten(1).T.numpy().astype(dtype))
    for _ in range(2**DOUBLINGS):
        cells = matrix @ cells
    walked: Array = cells.T.reshape(maps.shape)
    return walked


def by_float32(maps: Tensor, edge: Tensor) -> Array:
    """The same in float32."""
    return by_scipy(maps, edge, np.float32)


def by_dense(maps: Tensor, edge: Tensor) -> Array:
    """The published form: a dense float32 matrix, squared eight times."""
    maps, edge = maps.float(), edge.float()
    matrix = torch.from_numpy(plain_matrix(edge.numpy(), np.float32).toarray()).T
    for _ in range(DOUBLINGS):
        matrix = matrix @ matrix
    walked: Array = ((maps * (1 - edge)).flatten(1) @ matrix).view(maps.shape).numpy()
    return walked


def by_ours(maps: Tensor, edge: Tensor) -> Array:
    """The library's."""
    walked: Array = random_walk(maps, edge, RADIUS, BETA, DOUBLINGS).numpy()
    return walked


Walk = Callable[[Tensor, Tensor], Array]
FORMS: dict[str, Walk] = {
    "tag2mask": by_ours, "scipy float64": by_scipy, "scipy float32": by_float32, "dense float32": by_dense
}  # fmt: skip


def beside(name: str, image: tuple[int, int], count: int, runs: int) -> WalkRow:
    """Ours beside another form on one image, matrices built anew in every run."""
    maps, edge = scene(image, count)
    other = FORMS[name]
    kept: list[Array] = []

    def theirs() -> None:
        kept[:] = [other(maps, edge)]

    variant = f"{name}, image {image[0]} x {image[1]}, K={count}"
    row = compare("random_walk", lambda: by_ours(maps, edge), theirs, runs, warmup=int(runs > 1), variant=variant)
    own = by_ours(maps, edge)
    return WalkRow(**asdict(row), difference=float(np.abs(own - kept[0]).max() / own.max()))


def measure(runs: int, dense: bool) -> list[WalkRow]:
    """One to three maps of a VOC image beside both precisions, then with one thread, larger images, the dense form."""
    rows = [beside(name, VOC, count, runs) for count in (1, 2, 3) for name in ("scipy float64", "scipy float32")]
    threads = torch.get_num_threads()
    if threads > 1:
        torch.set_num_threads(1)
        rows += [beside("scipy float64", VOC, count, runs) for count in (1, 2, 3)]
        torch.set_num_threads(threads)
    rows += [beside("scipy float64", image, MAPS, 1) for image in LARGER]
    return [*rows, beside("dense float32", VOC, MAPS, 1)] if dense else rows


def peak(name: str, image: tuple[int, int]) -> float:
    """Megabytes of one walk; for a fresh process."""
    FORMS[name](*scene((40, 40), MAPS))  # libraries load at the first use
    maps, edge = scene(image, MAPS)
    return peak_memory(lambda: FORMS[name](maps, edge)) / 2**20


def measure_memory(dense: bool) -> list[WalkMemoryRow]:
    """Every form on each size that it is timed on, each in a process of its own."""
    cases = [("tag2mask", VOC), ("scipy float64", VOC), ("scipy float32", VOC)]
    cases += [(name, image) for image in LARGER for name in ("tag2mask", "scipy float64")]
    rows = []
    for name, image in [*cases, ("dense float32", VOC)] if dense else cases:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            highest = pool.apply(peak, (name, image))
        rows.append(WalkMemoryRow(name, f"{image[0]} x {image[1]}", -(-image[0] // 4) * -(-image[1] // 4), highest))
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS / "random_walk.csv")
    parser.add_argument("--out-memory", type=Path, default=RESULTS / "random_walk_memory.csv")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--dense", action="store_true", help="the dense form too: minutes, and 1.7 GB")
    options = parser.parse_args()
    memory = measure_memory(options.dense)
    write_rows(options.out_memory, memory)
    for size in memory:
        print(f"{size.form}, image {size.image}: peak {size.peak_mb:.0f} MB")
    found = measure(options.runs, options.dense)
    write_rows(options.out, found)
    for row in found:
        print(f"{row.variant}: {row.seconds_median:.3f} s, theirs {row.baseline_seconds_median:.3f} s; ", end="")
        print(f"{row.ratio_median:.1f} x, difference {row.difference:.1e}")
