"""AMN's loss and label code on the refined seeds of a run, a minute each on the CPU: `results/amn-collapse.csv`.

python -m benchmarks.amn_collapse cracks runs/cracks ../shared/data/domains/cracks/masks --enlarge 2
python -m benchmarks.amn_collapse weeds runs/weeds ../shared/data/domains/weeds/masks --variant published sound

AMN's label code and head are trained as in the stage, but on features of the run's classifier that stay as they are:
its levels of stride 4, 8 and 16, joined at one stride. So variants of the loss are compared in a tenth of the time; the
figures are not those of a run, in which the backbone is trained too. ``--spoil 0.3`` takes ground truth in the place of
the refined seeds, grown until 30 % of a class's pixels are right. Rows of other sets and variants in the file stay.
The masks in the folder are for measuring alone, and for ``--spoil``.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.common import RESULTS, write_rows
from tag2mask import open_run
from tag2mask.backbones.files import WEIGHTS, load_network
from tag2mask.backbones.levels import level_features
from tag2mask.backbones.tagnet import TagNet
from tag2mask.config.settings import validate
from tag2mask.data.base import Dataset, Labels
from tag2mask.data.mask_files import read_labels
from tag2mask.evaluation.metrics import SegmentationMetrics
from tag2mask.inference.runner import image_tensor
from tag2mask.methods.amn.maps import class_maps
from tag2mask.methods.amn.network import AmnNet
from tag2mask.methods.amn.settings import AmnSettings
from tag2mask.methods.amn.training import amn_task, with_absent
from tag2mask.training.images import tag_vector
from tag2mask.training.label_images import at_grid

CHANNELS, BATCH, HALF = 128, 8, 2
TAKEN = {"fine": (1, 2, 3), "coarse": (2, 3, 4)}
"""Which levels of the network are joined: of stride 4, 8 and 16, or 8, 16 and the last."""
TWENTY: dict[str, Any] = {"smoothing_classes": 20}
VARIANTS: dict[str, dict[str, Any]] = {
    "published": {},
    "smoothing of 20 classes": TWENTY,
    "weight 0.5": {**TWENTY, "class_weight": 0.5},
    "weight 0.25": {**TWENTY, "class_weight": 0.25},
    "weight 0": {**TWENTY, "class_weight": 0.0},
    "published, absent 0.5": {"absent": 0.5},
    "weight 0.5, absent 0.5": {**TWENTY, "class_weight": 0.5, "absent": 0.5},
    "sound": {**TWENTY, "class_weight": 0.25, "absent": 0.5},
    "weight 0, absent 0.5": {**TWENTY, "class_weight": 0.0, "absent": 0.5},
}
CUTS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True, slots=True)
class CollapseRow:
    """One variant on one set; percent.

    Attributes:
        kind: the set.
        seeds: what was learned from.
        variant: name of the loss.
        levels: joined ones.
        stride: at which they are joined.
        steps: of training.
        seed: of first weights, order and draws.
        seeds_fg: foreground mIoU of what was learned from, ignored pixels as background.
        fg: of AMN's masks at 0.5, the arg max.
        fg_04: at the 0.4 of the recipe.
        best_fg: at the best of 0.1, 0.2, ..., 0.9.
        best_cut: which that is.
        found: share of the cells whose arg max is the class in images with it, mean over the classes.
        found_absent: in images without it, under its code.
    """

    kind: str
    seeds: str
    variant: str
    levels: str
    stride: int
    steps: int
    seed: int
    seeds_fg: float
    fg: float
    fg_04: float
    best_fg: float
    best_cut: float
    found: float
    found_absent: float


@dataclass(frozen=True, slots=True)
class Shown:
    """An image as AMN's head sees it.

    Attributes:
        levels: (1, D, h, w) float16, levels at one stride, one after the other. A 1 x 1 convolution of them is the
            sum of one of each.
        tags: (1, C).
        labels: (1, h, w) uint8, what is learned of it.
        truth: (H, W) uint8, every other row and column.
    """

    levels: Tensor
    tags: Tensor
    labels: Tensor
    truth: Labels


@torch.inference_mode()
def levels_at(net: TagNet, image: Tensor, taken: Sequence[int], stride: int) -> Tensor:
    """Levels of an image (3, H, W) on one grid, (1, D, ceil(H / stride), ceil(W / stride)) float16."""
    size = [-(-side // stride) for side in image.shape[1:]]
    found = level_features(net.body, image[None], taken)
    return torch.cat([F.interpolate(level, size, mode="bilinear") for level in found], dim=1).half()


def spoiled(truth: Labels, right: float, random: np.random.Generator) -> Labels:
    """Ground truth that lacks a quarter, in blocks, and is grown at its edges and by blobs until ``right`` is right."""
    found = np.zeros_like(truth)
    height, width = truth.shape
    for label in sorted(set(np.unique(truth).tolist()) - {0, 255}):
        blocks = random.random((height // 32 + 1, width // 32 + 1)) < 0.25
        own = (truth == label) & ~np.kron(blocks, np.ones((32, 32), bool))[:height, :width]
        own = own if own.any() else truth == label
        wrong = int(own.sum() / right - own.sum()) // 2
        distance = ndimage.distance_transform_edt(~own)
        blob = ndimage.gaussian_filter(random.standard_normal((height, width)), 6)
        near = distance <= np.sort(distance, axis=None)[min(own.sum() + wrong, own.size) - 1]
        found[near | (blob >= np.sort(blob, axis=None)[-max(1, min(wrong, blob.size // 2))])] = label
    found[truth == 255] = 255
    return found


def shown(arguments: argparse.Namespace) -> tuple[list[Shown], float]:
    """All images of a set, and the foreground mIoU in percent of what is learned from."""
    run = open_run(arguments.run)
    seeds = run.artefact("lpcam-refined") if arguments.spoil is None and arguments.labels is None else None
    net, classes = load_network(run.path / "classifier" / WEIGHTS)
    net.eval()
    dataset: Dataset = run.dataset("lpcam")
    random, metrics, found = np.random.default_rng(0), SegmentationMetrics(classes), []
    for sample in dataset.samples:
        image, truth = dataset.image(sample), read_labels(arguments.masks / f"{sample.id}.png")
        if arguments.spoil is not None:
            labels = spoiled(truth, arguments.spoil, random)
        elif seeds is None:
            labels = read_labels(arguments.labels / f"{sample.id}.png")
        else:
            labels = seeds.labels(dataset, sample)
        metrics.update(np.where(labels == 255, 0, labels).astype(np.uint8), truth)
        size = tuple(round(side * arguments.enlarge) for side in (image.height, image.width))
        levels = levels_at(net, image_tensor(image, size, net.mean, net.std), TAKEN[arguments.levels], arguments.stride)
        reduced = at_grid(torch.from_numpy(labels), *levels.shape[2:])[None]
        found.append(Shown(levels, tag_vector(sample, len(classes))[None], reduced, truth[::HALF, ::HALF]))
    return found, percent(metrics)


def percent(metrics: SegmentationMetrics) -> float:
    """The foreground's mIoU."""
    return round(metrics.compute().mean("iou"), 1)


def train(images: Sequence[Shown], settings: AmnSettings, steps: int, seed: int) -> AmnNet:
    """AMN's head and label code, and one convolution that joins the levels."""
    torch.manual_seed(seed)
    channels = images[0].levels.shape[1]
    body = nn.Sequential(nn.Conv2d(channels, CHANNELS, 1), nn.ReLU())
    net = AmnNet(body, CHANNELS, images[0].tags.shape[1], dropout=settings.dropout)
    task = amn_task(net, settings)
    rule = torch.optim.Adam(net.parameters(), lr=settings.train.head_lr, weight_decay=settings.train.weight_decay)
    order: list[int] = []
    for _ in range(steps):
        while len(order) < BATCH:
            order += torch.randperm(len(images)).tolist()
        batch, order = [images[i] for i in order[:BATCH]], order[BATCH:]
        parts = [augmented(one, settings.absent) for one in batch]
        counts: Any = sum(task.counts(part) for part in parts)  # images differ in size, so each is a part
        rule.zero_grad()
        for part in parts:
            task.loss(part, counts).backward()  # type: ignore[no-untyped-call]  # torch's own
        rule.step()
    return net.eval()


def augmented(one: Shown, absent: float) -> tuple[Tensor, Tensor, Tensor]:
    """The levels of an image or of its mirror image, its tags and perhaps one more, and what is learned of it."""
    tags, levels = with_absent(one.tags[0], absent)[None], one.levels.float()
    return (levels, tags, one.labels) if torch.rand(()) < 0.5 else (levels.flip(3), tags, one.labels.flip(2))


@torch.inference_mode()
def measured(net: AmnNet, images: Sequence[Shown], names: Sequence[str]) -> dict[str, float]:
    """What stands in a row of the masks, and of classes that are not there."""
    metrics = {cut: SegmentationMetrics(names) for cut in CUTS}
    above: dict[bool, list[list[Tensor]]] = {present: [[] for _ in names] for present in (True, False)}
    for one in images:
        features = one.levels.float()
        maps, classes = maps_of(net, features, one.tags)
        for c in range(len(names)):
            present = bool(one.tags[0, c])
            asked = one.tags.clone()
            asked[0, c] = 1
            among, asked_classes = (maps, classes) if present else maps_of(net, features, asked)
            highest, which = among.max(0)
            above[present][c].append(((asked_classes[which] == c) & (highest > 0.5)).float().mean())
        wide = F.interpolate(maps[None], one.truth.shape, mode="bilinear")[0] if len(classes) else None
        for cut, metric in metrics.items():
            labels = np.zeros_like(one.truth)
            if wide is not None:
                highest, which = wide.max(0)
                labels = torch.where(highest > cut, classes[which] + 1, 0).numpy().astype(np.uint8)
            metric.update(labels, one.truth)
    scores = {cut: percent(metric) for cut, metric in metrics.items()}
    best = max(scores, key=lambda cut: scores[cut])
    shares = {present: [float(torch.stack(v).mean()) for v in lists if v] for present, lists in above.items()}
    found, absent = (round(100 * float(np.mean(shares[key])), 1) if shares[key] else 0.0 for key in (True, False))
    return {
        "fg": scores[0.5], "fg_04": scores[0.4], "best_fg": scores[best], "best_cut": best,
        "found": found, "found_absent": absent,
    }  # fmt: skip


def maps_of(net: AmnNet, levels: Tensor, tags: Tensor) -> tuple[Tensor, Tensor]:
    """Maps (K, h, w) of the classes in tags (1, C), normalised as ``learned``, and these classes (K,)."""
    classes = tags[0].nonzero()[:, 0]
    return class_maps(net(levels, tags)[0], classes, "learned"), classes


def rows(arguments: argparse.Namespace) -> Iterator[CollapseRow]:
    """A row for each variant that was asked for."""
    images, base = shown(arguments)
    names = [f"class {c}" for c in range(images[0].tags.shape[1])]
    seeds = "refined" if arguments.spoil is None else f"ground truth, {arguments.spoil:.0%} right"
    for variant in arguments.variant or VARIANTS:
        for seed in arguments.seed:
            values = {**VARIANTS[variant], "train": {"head_lr": arguments.rate}}
            net = train(images, validate(AmnSettings, values, "amn"), arguments.steps, seed)
            yield CollapseRow(
                arguments.name, seeds, variant, arguments.levels, arguments.stride, arguments.steps, seed, base,
                **measured(net, images, names),
            )  # fmt: skip


def kept(path: Path, new: CollapseRow) -> list[CollapseRow]:
    """The rows of the file, with a new one in the place of the one that it replaces."""
    old = []
    if path.is_file():
        for cells in csv.DictReader(path.read_text(encoding="utf-8").splitlines()):
            kinds = CollapseRow.__annotations__
            old.append(CollapseRow(**{k: {"int": int, "float": float}.get(kinds[k], str)(v) for k, v in cells.items()}))
    key = list(asdict(new).items())[:7]
    rest = [row for row in old if list(asdict(row).items())[:7] != key]
    return sorted([*rest, new], key=lambda row: (row.kind, row.seeds, row.levels, row.stride))


def main() -> None:
    """Train the variants; write their rows as they come."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the set")
    parser.add_argument("run", type=Path, help="a run of own-data, finished up to lpcam-refined")
    parser.add_argument("masks", type=Path, help="folder of ground truth as PNG, for measuring")
    parser.add_argument("--labels", type=Path, help="folder of PNG to learn from; default: the run's refined seeds")
    parser.add_argument("--spoil", type=float, help="learn from ground truth spoiled until this share is right")
    parser.add_argument("--enlarge", type=float, default=1.0, help="factor on the images' sides")
    parser.add_argument("--levels", choices=TAKEN, default="fine")
    parser.add_argument("--stride", type=int, default=8, help="at which they are joined")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rate", type=float, default=1e-3, help="Adam's")
    parser.add_argument("--seed", type=int, nargs="+", default=[0])
    parser.add_argument("--variant", nargs="+", choices=VARIANTS, help="default: all")
    parser.add_argument("--out", type=Path, default=RESULTS / "amn-collapse.csv")
    arguments = parser.parse_args()
    for row in rows(arguments):
        print(row, flush=True)
        write_rows(arguments.out, kept(arguments.out, row))


if __name__ == "__main__":
    main()
