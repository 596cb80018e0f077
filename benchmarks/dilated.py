"""The dilated head as one product beside its four convolutions in torch: a pass of maps, and a part of a step.

Run ``python -m benchmarks.dilated``; it writes ``results/dilated.csv``. The claim: never slower than the convolutions
over the scales of an image, and in training.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.common import RESULTS, Row, compare, write_rows
from tag2mask.backbones.dilated import dilated_convs, dilated_sum, each

CHANNELS = {"EfficientNet-Lite0, 6 classes": (1280, 7), "ResNet, VOC": (2048, 21)}
IMAGE = ((24, 32), (12, 16), (36, 47), (47, 63))
"""Cells of an image of 375 x 500 pixels at scales 1, 0.5, 1.5 and 2, stride 16."""
PART = (4, 16)
"""Crops of 256 pixels that a training step takes at once."""

Head = Callable[[Sequence[nn.Conv2d], Tensor], Tensor]


def convolutions(convs: Sequence[nn.Conv2d], features: Tensor) -> Tensor:
    """The head written out: (N, D, h, w) to (N, L, h, w)."""
    logits: Tensor = convs[0](features)
    for conv in convs[1:]:
        logits = logits + conv(features)
    return logits


def measure(name: str, channels: int, labels: int, runs: int) -> list[Row]:
    """One network's head: maps in both precisions, and forward and backward of a part."""
    convs = each(dilated_convs(channels, labels).to(memory_format=torch.channels_last))
    pyramid = [drawn(2, channels, *cells) for cells in IMAGE]
    batch = drawn(PART[0], channels, PART[1], PART[1]).requires_grad_()

    def maps(head: Head, bfloat16: bool) -> Callable[[], None]:
        @torch.no_grad()
        def run() -> None:
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                for features in pyramid:
                    head(convs, features.bfloat16() if bfloat16 else features)

        return run

    def step(head: Head) -> Callable[[], None]:
        return lambda: torch.autograd.backward(head(convs, batch).square().mean())

    rows = [
        compare("dilated", maps(dilated_sum, on), maps(convolutions, on), runs, variant=f"{name}, maps, {precision}")
        for on, precision in ((False, "float32"), (True, "bfloat16"))
    ]
    return [*rows, compare("dilated", step(dilated_sum), step(convolutions), runs, variant=f"{name}, training")]


def drawn(*shape: int) -> Tensor:
    """Features after a ReLU, channels-last."""
    return (
        torch.randn(shape, generator=torch.Generator().manual_seed(0))
        .relu()
        .contiguous(memory_format=torch.channels_last)
    )


def main() -> None:
    """Time all and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS / "dilated.csv")
    arguments = parser.parse_args()
    write_rows(
        arguments.out, [row for name, sizes in CHANNELS.items() for row in measure(name, *sizes, arguments.runs)]
    )


if __name__ == "__main__":
    main()
