"""AMN on drawn images with their seeds, and its training for torchrun."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from tag2mask.config.settings import validate
from tag2mask.methods.amn.settings import AmnSettings
from tag2mask.methods.amn.training import train_amn
from tests.methods.irn.drawn import data, seeds
from tests.training.toy import engine


def settings(train: dict[str, Any] | None = None, **values: Any) -> AmnSettings:
    """A tiny network with random weights, two short epochs."""
    schedule = {"epochs": 2, "batch_size": 4, "accumulate": 2, "crop": 64, "rescale": (0.8, 1.2), **(train or {})}
    backbone = {"name": "test_efficientnet", "weights": "none", "stride": 8}
    return validate(AmnSettings, {"backbone": backbone, "train": schedule, **values}, "amn")


def main(out: Path) -> None:
    """Train two epochs with a lot of dropout, with batches in two parts and in four."""
    torch.set_num_threads(1)
    for parts in (2, 4):
        values = settings({"accumulate": parts}, dropout=0.5)
        train_amn(data(), seeds, values, out=out / str(parts), seed=0, engine=engine())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
