"""LPCAM's maps beside the plain loop over prototypes, and beside the forward pass that they come from.

Run ``python -m benchmarks.lpcam_maps``; it writes ``results/lpcam_maps.csv``. The claims: at least 30 times faster than
a loop over 12 + 12 prototypes with ``cosine_similarity`` on the same features, and at most 5 % on top of the bare
multi-scale forward pass, which is a ratio of at least 20 in the rows "maps beside forward".
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.common import RESULTS, Row, compare, write_rows
from tag2mask.core.types import Prototypes, PrototypeSet
from tag2mask.inference.multiscale import merge_scales, pair_features
from tag2mask.methods.lpcam.maps import LPCAMHead

DEPTH, PROTOTYPES, CLASSES = 2048, 12, 20
IMAGE = (375, 500)
SCALES = (1.0, 0.5, 1.5, 2.0)
CALLS = 20
"""Calls of ours in one timed run: a single product is too short to time."""


def prototypes() -> Prototypes:
    """Random class and context prototypes of every class."""
    generator = torch.Generator().manual_seed(0)

    def sets() -> dict[int, PrototypeSet]:
        every = torch.ones(PROTOTYPES, dtype=torch.bool)
        return {
            c: PrototypeSet(
                torch.rand(PROTOTYPES, DEPTH, generator=generator),
                every.float(),
                every.long(),
                every,
                ("",) * PROTOTYPES,
            )
            for c in range(CLASSES)
        }

    return Prototypes(sets(), sets())


def plain_loop(features: Tensor, foreground: Tensor, context: Tensor) -> Tensor:
    """Eqs. 5 and 6 as they are written, prototype by prototype: (D, h, w) -> (h, w)."""
    sides = [
        torch.stack([F.cosine_similarity(features, p[:, None, None], dim=0) for p in side]).mean(0)
        for side in (foreground, context)
    ]
    return (sides[0] - sides[1]).relu()


def backbone() -> nn.Module:
    """ResNet-50 up to its last feature map (stride 32, 2048 channels), random weights, channels-last."""
    torch.manual_seed(0)
    network = torchvision.models.resnet50(weights=None)
    features: nn.Module = nn.Sequential(*list(network.children())[:-2]).eval()
    return features.to(memory_format=torch.channels_last)


def measure(runs: int) -> list[Row]:
    """The loop and the forward pass, each for one and for three classes in the image."""
    known = prototypes()
    head = LPCAMHead(known, CLASSES)
    grid = torch.rand(1, DEPTH, -(-IMAGE[0] // 16), -(-IMAGE[1] // 16))
    images = [torch.rand(3, round(IMAGE[0] * s), round(IMAGE[1] * s)) for s in SCALES]
    network = backbone()
    rows = []
    for count in (1, 3):
        rows.append(beside_loop(head, known, grid, count, runs))
        rows.append(beside_forward(head, network, images, count, runs))
    return rows


def beside_loop(head: LPCAMHead, known: Prototypes, grid: Tensor, count: int, runs: int) -> Row:
    """Maps of ``count`` classes from the same features of one scale; both ways must agree."""
    classes = torch.arange(count)

    def loop() -> Tensor:
        return torch.stack([plain_loop(grid[0], known.foreground[c], known.context[c]) for c in range(count)])

    def ours() -> None:
        for _ in range(CALLS):
            head(grid, classes)

    torch.testing.assert_close(head(grid, classes), loop(), atol=1e-5, rtol=0)
    return per_call(compare("lpcam_maps", ours, loop, runs=runs, variant=f"K=12+12, classes={count}"), CALLS)


def beside_forward(head: LPCAMHead, network: nn.Module, images: list[Tensor], count: int, runs: int) -> Row:
    """Everything after the features, for all scales, beside the forward passes that give them."""
    ready = list(pair_features(network, images))
    size = (-(-IMAGE[0] // 4), -(-IMAGE[1] // 4))

    def maps() -> list[Tensor]:
        return merge_scales(ready, [head], torch.arange(count), size)

    def forward() -> list[Tensor]:
        return list(pair_features(network, images))

    return compare("lpcam_maps", maps, forward, runs=runs, variant=f"maps beside forward, classes={count}")


def per_call(row: Row, calls: int) -> Row:
    """The row for one call of ours, where each timed run had ``calls``."""
    return Row(
        row.benchmark,
        row.variant,
        row.seconds_median / calls,
        row.baseline_seconds_median,
        row.ratio_median * calls,
        row.ratio_min * calls,
        row.ratio_max * calls,
        row.runs,
        row.threads,
        row.cpu,
        row.torch,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS / "lpcam_maps.csv")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    found = measure(options.runs)
    write_rows(options.out, found)
    for row in found:
        print(f"{row.variant}: {row.seconds_median:.4f} s, baseline {row.baseline_seconds_median:.4f} s, ", end="")
        print(f"{row.ratio_median:.1f} x")
