"""What levels, pooling, sizes and steps of the classifier do to its maps, each switched alone: `results/levels.csv`.

python -m benchmarks.levels ../shared/data                                   all sets, all variants; resumes
python -m benchmarks.levels ../shared/data --set cracks --variant base --variant levels
python -m benchmarks.levels ../shared/data --speed                          time beside the network at stride 16

A classifier is trained on the tags of each set of `benchmarks.domains`, and of the list voc-animals-150.txt, and its
class maps are cut: raw scores (logits of the cells), for each class by itself, over the images tagged with it, at the
best threshold there is, at probability one half, and at Otsu's over all their pixels; and the maps as CAM normalises
them at their best threshold. Numbers are IoU in percent, mean over the classes; on data without background the classes
of an image compete for each pixel instead. Average precision is of the photos that nobody tagged, by what their masks
show.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from benchmarks.common import RESULTS, Row, compare, write_rows
from tag2mask.backbones.build import build_network
from tag2mask.backbones.files import WEIGHTS, load_network, trained_side
from tag2mask.backbones.folded import for_inference
from tag2mask.backbones.settings import BackboneSettings, Pooling
from tag2mask.backbones.tagnet import TagNet
from tag2mask.config.engine import Engine
from tag2mask.config.settings import validate
from tag2mask.core.resize import bilinear
from tag2mask.core.types import IGNORE, Sample
from tag2mask.data.base import Dataset, Labels
from tag2mask.data.images import read_image
from tag2mask.data.mask_files import read_labels
from tag2mask.data.registry import load_dataset
from tag2mask.data.transforms import scaled
from tag2mask.evaluation.metrics import SegmentationMetrics
from tag2mask.inference.multiscale import activation, pair_features
from tag2mask.inference.runner import image_tensor
from tag2mask.inference.settings import MapsSettings
from tag2mask.methods.cam.classifier import binary_average_precision
from tag2mask.methods.cam.kinds import ClassifierSettings
from tag2mask.methods.cam.training import train_classifier

Words = dict[str, Any]
LEVELS: Words = {"stride": None, "levels": (4, 8, 16)}
DEEP: Words = {"stride": None, "levels": (8, 16, 32)}
TOP: Words = {"kind": "top-k", "share": 0.1}
ANIMALS = ("bird", "cat", "cow", "dog", "horse", "sheep")
BASE: Words = {
    "backbone": {"stride": 16},
    "train": {"precision": "bfloat16", "long_side": (240, 480), "crop": 288},
    "pooling": {"kind": "gap"},
    "maps": {"relative_to": "image", "scales": (1.0, 1.5)},
    "data": {},
}
"""As own-data has been until now, but for bfloat16 and fewer scales of the maps."""
ALONE: dict[str, Words] = {
    "base": {},
    "sizes": {"maps": {"relative_to": "training"}},
    "min-side": {"data": {"min_side": 320}},
    "levels": {"backbone": LEVELS},
    "top-k": {"pooling": TOP},
    "steps": {"train": {"min_steps": 240}},
    "lse": {"pooling": {"kind": "lse"}},
}
TOGETHER: Words = {
    "backbone": LEVELS, "pooling": TOP, "maps": {"relative_to": "training"}, "train": {"min_steps": 240},
    "data": {"min_side": 320},
}  # fmt: skip
WITHOUT: dict[str, Words] = {
    "all": TOGETHER,
    "all, levels 8 to 32": {**TOGETHER, "backbone": DEEP},
    **{f"all but {name}": {k: v for k, v in TOGETHER.items() if k != section} for name, section in {
        "levels": "backbone", "top-k": "pooling", "steps": "train", "sizes": "maps"}.items()},
}  # fmt: skip
VARIANTS = ALONE | WITHOUT
BINS, REACH = 2048, 16.0
"""Logits are counted in this many bins between -16 and 16."""


@dataclass(frozen=True, slots=True)
class LevelsRow:
    """One classifier on one set."""

    kind: str
    variant: str
    seed: int
    n_images: int
    steps: int
    average_precision: float
    raw_best: float
    raw_half: float
    raw_otsu: float
    normalised_best: float
    seconds_training: float
    seconds_per_image: float


def combined(variant: Words) -> Words:
    """The settings of a variant: those of `BASE`, section by section, with its own."""
    return {section: {**values, **variant.get(section, {})} for section, values in BASE.items()}


def opened(data: Path, kind: str, words: Words) -> tuple[Dataset, list[tuple[Image.Image, Labels]]]:
    """A set, and photos of its kind with their masks, which take no part in the training."""
    if kind == "voc-animals":
        listed = f"train@{Path(__file__).with_name('voc-animals-150.txt')}"
        known = load_dataset("voc", data / kind, listed, classes=ANIMALS, **words)
        held = load_dataset("voc", data / kind, "val", classes=ANIMALS)
        pairs = ((held.image(sample), held.truth(sample)) for sample in held.samples[::4])
        return known, [(image, truth) for image, truth in pairs if truth is not None]
    root = data / "domains" / kind
    known = load_dataset("folder", root, "all", tags="tags.csv", images="images", **words)
    new = root.with_name(f"{kind}-new")
    photos = sorted((new / "images").iterdir())
    return known, [(read_image(path), read_labels(new / "masks" / f"{path.stem}.png")) for path in photos]


class Counts:
    """Pixels of a class by their score: inside its ground truth and outside, over the images tagged with it."""

    def __init__(self, low: float, high: float) -> None:
        self.edges = np.linspace(low, high, BINS + 1)
        self.inside, self.outside = np.zeros(BINS), np.zeros(BINS)

    def add(self, scores: NDArray[np.float32], truth: NDArray[np.bool_], counted: NDArray[np.bool_]) -> None:
        """Count (H, W) scores."""
        clipped = scores.clip(self.edges[0], self.edges[-1])
        self.inside += np.histogram(clipped[truth & counted], self.edges)[0]
        self.outside += np.histogram(clipped[~truth & counted], self.edges)[0]

    def iou(self) -> NDArray[np.float64]:
        """IoU in percent of what lies at or above each edge but the last."""
        hits, wrong = (np.cumsum(each[::-1])[::-1] for each in (self.inside, self.outside))
        found: NDArray[np.float64] = 100 * hits / np.maximum(self.inside.sum() + wrong, 1)
        return found

    def at(self, score: float) -> float:
        """IoU at a score."""
        return float(self.iou()[np.searchsorted(self.edges[:-1], score)])

    def otsu(self) -> float:
        """Otsu's threshold on all that was counted."""
        both, middles = self.inside + self.outside, (self.edges[:-1] + self.edges[1:]) / 2
        below = np.cumsum(both)[:-1]
        above = both.sum() - below
        sums = np.cumsum(both * middles)
        low, high = sums[:-1] / np.maximum(below, 1), (sums[-1] - sums[:-1]) / np.maximum(above, 1)
        return float(self.edges[1:-1][np.argmax(below * above * (high - low) ** 2)])


@torch.inference_mode()
def class_maps(
    net: Any, dataset: Dataset, sample: Sample, maps: MapsSettings, side: int | None
) -> tuple[Tensor, Tensor]:
    """Raw scores and CAM before its division, both (C, H, W) at the size of the image."""
    image = dataset.image(sample)
    size = (image.height, image.width)
    views = [image_tensor(image, scaled(*maps.base(size, side), s), net.mean, net.std) for s in maps.scales]
    raw: list[Tensor] = []
    cam: list[Tensor] = []
    for features in pair_features(net.features, views, bfloat16=True):
        cells = activation(net.class_weights().float(), features)
        both = (cells + net.class_bias()[:, None, None], cells.relu())
        for found, values in zip((raw, cam), both, strict=True):
            found.append(bilinear((values[0] + values[1].flip(-1)) / 2, *size))
    return torch.stack(raw).mean(0), torch.stack(cam).mean(0)


def average_precision(
    net: Any, photos: Sequence[tuple[Image.Image, Labels]], n_classes: int, side: int | None
) -> float:
    """Mean average precision on photos by the classes that their masks show, percent."""
    logits, shown = [], []
    for image, truth in photos:
        size = MapsSettings(relative_to="training").base((image.height, image.width), side)
        with torch.inference_mode():
            logits.append(net(image_tensor(image, size, net.mean, net.std)[None])[0].double())
        shown.append([int((truth == c + 1).any()) for c in range(n_classes)])
    scores, present = torch.stack(logits).sigmoid(), torch.tensor(shown)
    each = [binary_average_precision(scores[:, c], present[:, c]) for c in range(n_classes) if present[:, c].any()]
    return 100 * float(torch.stack(each).mean())


def measure(data: Path, kind: str, variant: str, seed: int, out: Path) -> LevelsRow:
    """Train a classifier and cut its maps."""
    words = combined(VARIANTS[variant])
    dataset, new = opened(data, kind, words["data"])
    settings = validate(ClassifierSettings, {k: words[k] for k in ("backbone", "train", "pooling")}, "classifier")
    maps = validate(MapsSettings, words["maps"], "cam")
    started = time.process_time()
    train_classifier(dataset, settings, out=out, seed=seed, engine=Engine(device="cpu", threads=1), name=variant)
    trained, started = time.process_time() - started, time.process_time()
    net = for_inference(load_network(out / WEIGHTS)[0], torch.device("cpu"))
    side = trained_side(out)
    classes = range(len(dataset.classes))
    raw, cam = [Counts(-REACH, REACH) for _ in classes], [Counts(0, 1) for _ in classes]
    competing = [SegmentationMetrics(dataset.classes) for _ in range(2)]
    tagged = [sample for sample in dataset.samples if sample.tags]
    for sample in tagged:
        truth = dataset.truth(sample)
        assert truth is not None
        scores, maximal = class_maps(net, dataset, sample, maps, side)
        maximal = maximal / maximal.amax((1, 2), keepdim=True).clamp_min(1e-9)
        for c in sample.tags:
            raw[c].add(scores[c].numpy(), truth == c + 1, truth != IGNORE)
            cam[c].add(maximal[c].numpy(), truth == c + 1, truth != IGNORE)
        own = np.array(sample.tags)
        for metrics, values in zip(competing, (scores, maximal), strict=True):
            metrics.update((own[values[own].argmax(0).numpy()] + 1).astype(np.uint8), truth)
    seconds = (time.process_time() - started) / len(tagged)
    schedule = settings.train.for_images(len(dataset))
    found = [
        [np.mean([one.iou().max() for one in raw]), np.mean([one.at(0) for one in raw])],
        [np.mean([one.at(one.otsu()) for one in raw]), np.mean([one.iou().max() for one in cam])],
    ]
    if kind == "landuse":
        best = [dict(metrics.compute().values())["miou_foreground"] or 0.0 for metrics in competing]
        found = [[best[0], best[0]], [best[0], best[1]]]
    (best_raw, half), (otsu, normalised) = ([round(float(v), 1) for v in pair] for pair in found)
    return LevelsRow(
        kind, variant, seed, len(dataset), schedule.epochs * schedule.batches(len(dataset)),
        round(average_precision(net, new, len(classes), side), 1), best_raw, half, otsu, normalised,
        round(trained), round(seconds, 2),
    )  # fmt: skip


def speed() -> Iterator[Row]:
    """Time for features of a photo, and for a step on four crops, beside the network at stride 16; no bar."""
    photo = torch.randn(1, 3, 480, 360).contiguous(memory_format=torch.channels_last)
    crops = torch.randn(4, 3, 288, 288).contiguous(memory_format=torch.channels_last)

    def features(net: TagNet, bfloat16: bool) -> None:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            net.features(photo)

    def step(net: TagNet) -> None:
        net(crops).square().mean().backward()

    for text, words in {"4 to 16": LEVELS, "8 to 32": DEEP}.items():
        pair = [
            build_network(validate(BackboneSettings, values, "backbone"), 6, pooling).train()
            for values, pooling in ((words, Pooling(**TOP)), (BASE["backbone"], Pooling()))
        ]
        ours, single = (partial(step, net) for net in pair)
        yield compare("levels", ours, single, runs=2, variant=f"{text}, training")
        ready = [for_inference(net, torch.device("cpu")) for net in pair]
        for bfloat16, name in ((False, "float32"), (True, "bfloat16")):
            levels, one = (partial(features, net, bfloat16) for net in ready)
            yield compare("levels", levels, one, runs=5, variant=f"{text}, features, {name}")


def earlier(path: Path) -> list[LevelsRow]:
    """The rows of a table that is there."""
    if not path.is_file():
        return []
    import csv

    kinds = {field.name: field.type for field in fields(LevelsRow)}
    read = {"str": str, "int": int, "float": float}
    with path.open(newline="", encoding="utf-8") as file:
        return [LevelsRow(**{k: read[str(kinds[k])](v) for k, v in row.items()}) for row in csv.DictReader(file)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and measure what the table lacks, and write it anew after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder that holds domains/ and voc-animals/")
    parser.add_argument("--set", action="append", help="one set, several times for several")
    parser.add_argument("--variant", action="append", choices=VARIANTS, help="one variant, as above")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--speed", action="store_true", help="time the networks instead: results/levels_speed.csv")
    parser.add_argument("--out", type=Path, default=RESULTS / "levels.csv")
    given = parser.parse_args(arguments)
    if given.speed:
        write_rows(given.out.with_name("levels_speed.csv"), list(speed()))
        return
    rows = earlier(given.out)
    for kind in given.set or ("cracks", "weeds", "landuse", "voc-animals"):
        for variant in given.variant or VARIANTS:
            if any((row.kind, row.variant, row.seed) == (kind, variant, given.seed) for row in rows):
                continue
            with tempfile.TemporaryDirectory() as folder:
                rows.append(measure(given.data, kind, variant, given.seed, Path(folder)))
            write_rows(given.out, rows)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
