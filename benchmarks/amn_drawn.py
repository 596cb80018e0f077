"""AMN trained whole on drawn kinds of data, from spoiled ground truth, without any data set: `results/amn-drawn.csv`.

python -m benchmarks.amn_drawn                              four kinds, published settings and those for any class
python -m benchmarks.amn_drawn --kind lines defects --stride 4

What is learned from is right for 40 % of each class's pixels and lacks a quarter of it (`amn_collapse.spoiled`). The
network is EfficientNet-Lite0, levels of stride 4, 8 and 16 joined; one scale, no mirror. ``published, 4 epochs`` is
trained as briefly as `light-amn` is on so few images, the others for ``--steps``.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks.amn_collapse import CUTS, VARIANTS, percent, spoiled
from benchmarks.common import RESULTS, write_rows
from tag2mask.backbones.files import WEIGHTS
from tag2mask.config.engine import Engine
from tag2mask.config.settings import validate
from tag2mask.core.types import Sample
from tag2mask.data.base import Labels
from tag2mask.data.readers.parts import Scenes
from tag2mask.data.registry import load_dataset
from tag2mask.evaluation.metrics import SegmentationMetrics
from tag2mask.inference.runner import image_tensor
from tag2mask.methods.amn.maps import class_maps
from tag2mask.methods.amn.network import AmnNet, load_amn
from tag2mask.methods.amn.settings import AmnSettings
from tag2mask.methods.amn.training import train_amn
from tag2mask.training.images import tag_vector

KINDS = ("lines", "defects", "blobs", "lookalikes")
IMAGES, SIDE, RIGHT = 36, 112, 0.4
BRIEF = "published, 4 epochs"


@dataclass(frozen=True, slots=True)
class DrawnRow:
    """One variant on one kind; percent, foreground mIoU.

    Attributes:
        kind: of ``data.scenes``.
        variant: of `amn_collapse.VARIANTS`, or `BRIEF`.
        stride: at which levels are joined.
        steps: of training.
        seeds_fg: of what was learned from.
        fg: of AMN's masks at 0.5.
        fg_04: at 0.4.
        best_fg: at the best of 0.1, 0.2, ..., 0.9.
        best_cut: which that is.
    """

    kind: str
    variant: str
    stride: int
    steps: int
    seeds_fg: float
    fg: float
    fg_04: float
    best_fg: float
    best_cut: float


def settings(variant: str, stride: int, steps: int) -> AmnSettings:
    """AMN's, with a schedule for few and small images."""
    levels = {"levels": [4, 8, 16], "join_stride": stride, "join_channels": 128}
    crops = {"batch_size": 8, "accumulate": 2, "crop": SIDE, "rescale": [0.8, 1.2], "lr": 5e-5, "epochs": 4}
    rates = {"head_lr": 3e-4} if variant == BRIEF else {"head_lr": 3e-3, "min_steps": steps}
    values: dict[str, Any] = {"backbone": levels, "train": {**crops, **rates}, **VARIANTS.get(variant, {})}
    return validate(AmnSettings, values, "amn")


def rows(kind: Scenes, stride: int, steps: int) -> Iterator[DrawnRow]:
    """A row for each variant."""
    dataset = load_dataset("parts", scenes=kind, images=IMAGES, size=(SIDE, SIDE))
    random, base = np.random.default_rng(0), SegmentationMetrics(dataset.classes)
    truth: dict[str, Labels] = {sample.id: np.asarray(dataset.truth(sample)) for sample in dataset.samples}
    learned = {name: spoiled(labels, RIGHT, random) for name, labels in truth.items()}
    for name, labels in learned.items():
        base.update(np.where(labels == 255, 0, labels).astype(np.uint8), truth[name])
    for variant in (BRIEF, "published", "sound"):
        chosen = settings(variant, stride, steps)
        with tempfile.TemporaryDirectory() as folder:
            train_amn(
                dataset, lambda sample: learned[sample.id], chosen,
                out=Path(folder), seed=0, engine=Engine(device="cpu", workers=0),
            )  # fmt: skip
            net, _ = load_amn(Path(folder) / WEIGHTS)
        metrics = {cut: SegmentationMetrics(dataset.classes) for cut in CUTS}
        for sample in dataset.samples:
            image = image_tensor(dataset.image(sample), (SIDE, SIDE), net.mean, net.std)
            for cut, labels in masks(net, image, sample).items():
                metrics[cut].update(labels, truth[sample.id])
        fg = {cut: percent(metric) for cut, metric in metrics.items()}
        best = max(fg, key=lambda cut: fg[cut])
        schedule = chosen.train.for_images(IMAGES)
        count = schedule.epochs * schedule.batches(IMAGES)
        yield DrawnRow(kind, variant, stride, count, percent(base), fg[0.5], fg[0.4], fg[best], best)


@torch.inference_mode()
def masks(net: AmnNet, image: torch.Tensor, sample: Sample) -> dict[float, Labels]:
    """Label images of an image (3, H, W) at every cut."""
    tags = tag_vector(sample, net.n_classes)
    classes = tags.nonzero()[:, 0]
    size = image.shape[1:]
    if not len(classes):
        return {cut: np.zeros(size, np.uint8) for cut in CUTS}
    maps = class_maps(net(image[None], tags[None])[0], classes, "learned")
    highest, which = F.interpolate(maps[None], size, mode="bilinear")[0].max(0)
    return {cut: torch.where(highest > cut, classes[which] + 1, 0).numpy().astype(np.uint8) for cut in CUTS}


def main() -> None:
    """Train the variants on each kind; write all rows at the end of each kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", nargs="+", default=KINDS, choices=get_args(Scenes))
    parser.add_argument("--stride", type=int, nargs="+", default=[8, 4], help="at which levels are joined")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--out", type=Path, default=RESULTS / "amn-drawn.csv")
    arguments = parser.parse_args()
    done: list[DrawnRow] = []
    for stride in arguments.stride:
        for kind in arguments.kind:
            for row in rows(kind, stride, arguments.steps):
                print(row, flush=True)
                done.append(row)
            write_rows(arguments.out, done)


if __name__ == "__main__":
    main()
