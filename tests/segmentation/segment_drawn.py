"""Drawn images with their masks for the second stage, and a training of it for torchrun."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from tag2mask.config.settings import validate
from tag2mask.segmentation.networks.base import Segmenter
from tag2mask.segmentation.networks.factory import build_segmenter
from tag2mask.segmentation.settings import NetworkSettings, SegmenterSettings
from tag2mask.segmentation.training import train_segmenter
from tests.methods.irn.drawn import data, seeds
from tests.training.toy import engine

TINY = {"encoder": "test_efficientnet", "weights": "none"}
"""A network with random weights that runs in milliseconds."""


def network(kind: str = "deeplabv2", **values: Any) -> NetworkSettings:
    """Settings of a tiny network."""
    return validate(NetworkSettings, {"kind": kind, **TINY, **values}, "network")


def build(kind: str = "deeplabv2", n_classes: int = 3, **values: Any) -> Segmenter:
    """A tiny network, the same at each call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_segmenter(network(kind, **values), n_classes)


def settings(kind: str = "deeplabv2", **train: Any) -> SegmenterSettings:
    """A tiny network, two short epochs; deeplabv2 has neither dropout nor batch norms that learn."""
    schedule = {"epochs": 2, "batch_size": 4, "accumulate": 2, "crop": 64, "rescale": (0.8, 1.2), **train}
    return validate(SegmenterSettings, {"network": network(kind).model_dump(), "train": schedule}, "segmenter")


def main(out: Path) -> None:
    """Train two epochs in two parts a batch."""
    torch.set_num_threads(1)
    for kind in ("deeplabv2", "fpn"):
        train_segmenter(data(), seeds, settings(kind), out=out / kind, seed=0, engine=engine())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
