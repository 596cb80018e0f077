"""Dense CRF by pydensecrf2: the oracle of the benchmarks, and the outputs that the tests hold ours against.

Run ``python -m benchmarks.crf_reference`` (extra ``[oracle]``); it writes ``tests/refine/crf_reference.npz``: drawn
images with labels and scores, and the reference's marginals for every preset.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tag2mask.core.arrays import write_arrays
from tag2mask.refine.crf.presets import PRESETS, CRFPreset

OUT = Path(__file__).resolve().parent.parent / "tests" / "refine" / "crf_reference.npz"
SIZES = ((40, 56), (36, 71))
"""Multiples of four pixels: the reference takes others to have pixels that are not there."""
N_LABELS = 4
Floats = NDArray[np.float32]


def reference_unary(labels: NDArray[Any], n_labels: int, gt_prob: float) -> Floats:
    """(L, H, W) energies of labels by pydensecrf2's own helper."""
    from pydensecrf.utils import unary_from_labels

    energy = unary_from_labels(labels, n_labels, gt_prob, zero_unsure=False)
    return np.asarray(energy, np.float32).reshape(n_labels, *labels.shape)


def reference_scores(scores: Floats) -> Floats:
    """(L, H, W) energies of scores by pydensecrf2's own helper."""
    from pydensecrf.utils import unary_from_softmax

    return np.asarray(unary_from_softmax(scores), np.float32).reshape(scores.shape)


def reference(image: NDArray[np.uint8], energy: Floats, preset: CRFPreset, iterations: int | None = None) -> Floats:
    """(L, H, W) marginals by pydensecrf2.

    Args:
        image: (H, W, 3).
        energy: (L, H, W).
        preset: parameters.
        iterations: None for the preset's.
    """
    from pydensecrf.densecrf import DenseCRF2D

    n_labels, height, width = energy.shape
    crf = DenseCRF2D(width, height, n_labels)
    crf.setUnaryEnergy(np.ascontiguousarray(energy.reshape(n_labels, -1)))
    crf.addPairwiseGaussian(sxy=preset.gaussian_sxy, compat=preset.gaussian_compat)
    crf.addPairwiseBilateral(
        sxy=preset.bilateral_sxy, srgb=preset.bilateral_srgb, rgbim=np.ascontiguousarray(image),
        compat=preset.bilateral_compat,
    )  # fmt: skip
    found = crf.inference(preset.iterations if iterations is None else iterations)
    return np.array(found, np.float32).reshape(energy.shape)


def drawn(height: int, width: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64], Floats]:
    """An image of discs over a gradient with noise, labels that fit them badly, and scores that sum to 1."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    image = np.stack([60 + x, 200 - 2 * y, 90 + 0.5 * (x + y)], -1)
    labels = np.zeros((height, width), np.int64)
    for label in range(1, N_LABELS):
        cy, cx, radius = rng.uniform(0.2, 0.8) * height, (label - 0.5) / (N_LABELS - 1) * width, height / 5
        image[(y - cy) ** 2 + (x - cx) ** 2 < radius**2] = rng.uniform(0, 255, 3)
        labels[np.abs(y - cy) + np.abs(x - cx - 2) < 1.3 * radius] = label
    image += rng.normal(0, 8, image.shape)
    wrong = rng.random(labels.shape) < 0.1
    labels[wrong] = rng.integers(0, N_LABELS, int(wrong.sum()))
    scores = np.eye(N_LABELS)[labels].transpose(2, 0, 1) + rng.uniform(0.1, 1.5, (N_LABELS, height, width))
    scores /= scores.sum(0)
    return image.clip(0, 255).astype(np.uint8), labels, scores.astype(np.float32)


def main() -> None:
    """Write the reference outputs."""
    arrays: dict[str, NDArray[Any]] = {}
    for number, size in enumerate(SIZES):
        image, labels, scores = drawn(*size, seed=number)
        arrays |= {f"image{number}": image, f"labels{number}": labels.astype(np.uint8), f"scores{number}": scores}
        for name, preset in PRESETS.items():
            arrays[f"from-labels/{name}/{number}"] = reference(image, reference_unary(labels, N_LABELS, 0.7), preset)
            arrays[f"from-scores/{name}/{number}"] = reference(image, reference_scores(scores), preset)
    write_arrays(OUT, arrays)
    print(f"{OUT}: {OUT.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
