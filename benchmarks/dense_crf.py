"""Dense CRF beside pydensecrf2: the same labels, images per second, memory.

Run ``python -m benchmarks.dense_crf agreement --root VOC`` for the labels on 50 photographs (voc layout), ``speed
--root VOC`` for the time, ``memory`` for the memory; they write ``results/dense_crf_{agreement,speed,memory}.csv``.
Needs the extra ``[oracle]``.

The job ``refined-seeds`` is what training labels for IRN cost: two passes over one image, 10 iterations. Both sides
work at their best, in one process for each core: ours takes the two passes together.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import RESULTS, cpu_name, peak_memory, write_rows
from benchmarks.crf_reference import drawn, reference, reference_scores, reference_unary
from tag2mask.data.registry import load_dataset
from tag2mask.refine.crf.presets import PRESETS

N_IMAGES, ROUNDS, GT_PROB = 50, 5, 0.7
BY_LABELS = {"irn"}
"""Presets whose published use starts from hard labels; the others start from scores."""
MANY = {"deeplabv2": 21, "mctformer": 21}
"""Labels of the presets that refine predictions of a VOC network."""

Problem = tuple[NDArray[np.uint8], NDArray[Any], int]
"""An image, labels (P, H, W) or scores (1, L, H, W), and L."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Pixels of an image, in a million, whose label is not the reference's: the mean over the images, and the worst."""

    preset: str
    n_images: int
    fewest_labels: int
    most_labels: int
    differing_mean: float
    differing_worst: float


@dataclass(frozen=True, slots=True)
class Speed:
    """Images per second of both sides, in turns, and the ratio of each round."""

    job: str
    n_images: int
    processes: int
    images_per_second: float
    baseline_images_per_second: float
    ratio_median: float
    ratio_min: float
    ratio_max: float
    rounds: int
    cpu: str


@dataclass(frozen=True, slots=True)
class Memory:
    """Peak memory that one call adds, each in a process of its own."""

    job: str
    height: int
    width: int
    labels: int
    mb: float
    baseline_mb: float | None


def problems(root: Path, preset: str, n: int) -> list[Problem]:
    """Photographs with coarse, shifted labels made from their truth: what maps of a classifier look like."""
    dataset = load_dataset("voc", root=root, split="train")
    step = len(dataset) // n
    return [_problem(dataset, sample, preset, seed) for seed, sample in enumerate(list(dataset.samples)[::step][:n])]


def _problem(dataset: Any, sample: Any, preset: str, seed: int) -> Problem:
    image, truth = np.array(dataset.image(sample)), dataset.truth(sample)
    present = sorted({*np.unique(truth).tolist()} - {0, 255})
    local = np.zeros(truth.shape, np.int64)
    for index, label in enumerate(present, start=1):
        local[truth == label] = index
    n_labels = MANY.get(preset, len(present) + 1)
    rng = np.random.default_rng(seed)
    coarse = [_coarse(np.roll(local, rng.integers(-12, 13, 2), (0, 1)), size) for size in (16, 24)]
    if preset in BY_LABELS:
        return image, np.stack(coarse), n_labels
    certain = np.eye(n_labels)[coarse[0]].transpose(2, 0, 1)
    noise = rng.random((n_labels, *[-(-side // 8) for side in truth.shape]))
    scores = certain + noise.repeat(8, 1).repeat(8, 2)[:, : truth.shape[0], : truth.shape[1]]
    return image, (scores / scores.sum(0)).astype(np.float32)[None], n_labels


def _coarse(labels: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Labels of one pixel in each square of that size, for the whole square."""
    height, width = labels.shape
    return labels[np.arange(height) // size * size][:, np.arange(width) // size * size]


def ours(problem: Problem, preset: str) -> NDArray[Any]:
    """Labels (P, H, W)."""
    from tag2mask.refine.crf.api import DenseCRF

    image, values, n_labels = problem
    crf = DenseCRF(image, preset)
    found = crf.refine_labels(values, n_labels, GT_PROB) if preset in BY_LABELS else crf.refine(values).argmax(1)
    return np.asarray(found)


def theirs(problem: Problem, preset: str) -> NDArray[Any]:
    """Labels (P, H, W) by pydensecrf2."""
    image, values, n_labels = problem
    by_labels = preset in BY_LABELS
    energies = [reference_unary(v, n_labels, GT_PROB) if by_labels else reference_scores(v) for v in values]
    return np.stack([reference(image, e, PRESETS[preset]).argmax(0) for e in energies])


def measure_agreement(root: Path) -> list[Agreement]:
    """Every preset on `N_IMAGES` photographs."""
    rows = []
    for preset in PRESETS:
        chosen = problems(root, preset, N_IMAGES)
        differing = [1e6 * float((ours(p, preset) != theirs(p, preset)).mean()) for p in chosen]
        labels = [p[2] for p in chosen]
        mean = statistics.mean(differing)
        rows.append(Agreement(preset, len(chosen), min(labels), max(labels), mean, max(differing)))
        print(rows[-1])
    return rows


def _timed(call: Callable[[Problem, str], object], chosen: Sequence[Problem], preset: str, pool: Any) -> float:
    started = time.perf_counter()
    for _ in pool.map(call, chosen, [preset] * len(chosen)):
        pass
    return time.perf_counter() - started


def measure_speed(root: Path, n: int, processes: int) -> list[Speed]:
    """Every preset, both sides in turns in pools of processes of one thread each."""
    os.environ["OMP_NUM_THREADS"] = "1"
    rows = []
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        for preset in PRESETS:
            chosen = problems(root, preset, n)
            times = []
            for number in range(ROUNDS + 1):
                pair = [_timed(side, chosen, preset, pool) for side in (ours, theirs)]
                times += [pair] if number else []  # the first round warms up
            ratios = [b / a for a, b in times]
            job = "refined-seeds" if preset in BY_LABELS else preset
            rows.append(
                Speed(
                    job, n, processes, n / statistics.median(a for a, _ in times),
                    n / statistics.median(b for _, b in times), statistics.median(ratios), min(ratios), max(ratios),
                    ROUNDS, cpu_name(),
                )
            )  # fmt: skip
            print(rows[-1])
    return rows


def measure_memory() -> list[Memory]:
    """The refined-seeds job and a large image, each side and size in a fresh process."""
    cases = (("refined-seeds", 375, 500, 3), ("refined-seeds", 1500, 2000, 3), ("refined-seeds", 3000, 4000, 3))
    rows = []
    for job, height, width, labels in cases:
        side = [_fresh("ours", height, width), _fresh("theirs", height, width) if height < 3000 else None]
        rows.append(Memory(job, height, width, labels, side[0] or 0.0, side[1]))
        print(rows[-1])
    return rows


def _fresh(side: str, height: int, width: int) -> float:
    command = [sys.executable, "-m", "benchmarks.dense_crf", "one", "--side", side, "--size", str(height), str(width)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def one(side: str, height: int, width: int) -> float:
    """Megabytes that one refined-seeds job adds to this process."""
    image, labels, _ = drawn(height // 25, width // 25, seed=0)
    call = {"ours": ours, "theirs": theirs}[side]
    small = (image, np.stack([labels % 3] * 2), 3)
    call(small, "irn")  # what loading the libraries takes is not counted
    large = np.random.default_rng(0).integers(0, 20, (height, width, 3)) + image.repeat(25, 0).repeat(25, 1)
    twice = np.stack([(labels % 3).repeat(25, 0).repeat(25, 1)] * 2)
    problem = (large.clip(0, 255).astype(np.uint8), twice, 3)
    return peak_memory(lambda: call(problem, "irn")) / 1e6


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("what", choices=["agreement", "speed", "memory", "one"])
    parser.add_argument("--root", type=Path, help="a VOC devkit folder")
    parser.add_argument("--images", type=int, default=16, help="photographs of the speed")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--side", default="ours")
    parser.add_argument("--size", type=int, nargs=2, default=(375, 500))
    arguments = parser.parse_args()
    if arguments.what == "one":
        print(one(arguments.side, *arguments.size))
    elif arguments.what == "memory":
        write_rows(RESULTS / "dense_crf_memory.csv", measure_memory())
    elif arguments.what == "agreement":
        write_rows(RESULTS / "dense_crf_agreement.csv", measure_agreement(arguments.root))
    else:
        rows = measure_speed(arguments.root, arguments.images, arguments.processes)
        write_rows(RESULTS / "dense_crf_speed.csv", rows)


if __name__ == "__main__":
    main()
