"""A classifier on drawn images, for torchrun: the same file whatever the number of processes."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from tag2mask.config.settings import validate
from tag2mask.methods.cam.kinds import ClassifierSettings
from tag2mask.methods.cam.training import train_classifier
from tests.training.toy import Drawn, engine

STOP = {"held_out": 0.25, "every": 1, "patience": 2, "gain": 0.5, "decay": 0.5, "most_steps": 12}


def main(out: Path, stop: bool = False) -> None:
    """Train two epochs in two parts a batch; or as many as the loss of two images held out takes."""
    torch.set_num_threads(1)
    schedule = {"epochs": 2, "batch_size": 4, "accumulate": 2, "long_side": (40, 56), "crop": 48}
    schedule |= {"stop": STOP} if stop else {}
    backbone = {"name": "test_efficientnet", "weights": "none"}
    settings = validate(ClassifierSettings, {"backbone": backbone, "train": schedule}, "classifier")
    data = Drawn([(0,), (1,), (2,), (0, 1), (1, 2), (0, 2), (), (1,)])
    train_classifier(data, settings, out=out, seed=0, engine=engine())


if __name__ == "__main__":
    main(Path(sys.argv[1]), "stop" in sys.argv)
