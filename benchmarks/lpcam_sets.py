"""LPCAM's foreground set and context set in several ways, on finished runs of the default: `results/lpcam-sets.csv`.

python -m benchmarks.lpcam_sets RUN [RUN ...]                        each a folder of `tag2mask run own-data`
python -m benchmarks.lpcam_sets RUN --images 60 --arms today,both    fewer images and ways

The classifier, its CAM and the threshold of its CAM are those of the run; prototypes, LPCAM's raw maps and their
thresholds are made anew for each way, of the same features and ``--images`` images. A row is one way on one run:
``miou_foreground`` of seeds of the images with a tag, at the best single threshold (``oracle``, an upper bound), at the
best threshold of each class on its own (``oracle/class``), and at the thresholds of the rules ``otsu`` and ``erased``.
``kept`` is the share of foreground and of context centres that became prototypes.
"""

from __future__ import annotations

import argparse
import copy
import csv
import sys
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.common import RESULTS
from tag2mask.backbones.files import WEIGHTS, load_network, trained_side
from tag2mask.backbones.folded import for_inference
from tag2mask.backbones.tagnet import TagNet
from tag2mask.config.engine import Engine
from tag2mask.core.files import value_hash
from tag2mask.core.resize import bilinear
from tag2mask.core.types import ActivationMaps, Prototypes, Sample
from tag2mask.data.base import Dataset
from tag2mask.data.transforms import scaled
from tag2mask.evaluation.thresholds import Levels, ScoreForm, Threshold
from tag2mask.inference.maps_file import stride4
from tag2mask.inference.multiscale import add_mirror, mean_of_scales, pair_features
from tag2mask.inference.raw_scores import similarity_unit
from tag2mask.inference.runner import image_tensor
from tag2mask.inference.settings import MapsSettings
from tag2mask.methods.artefact import Artefact
from tag2mask.methods.lpcam.collect import collect
from tag2mask.methods.lpcam.kinds import ContextSet
from tag2mask.methods.lpcam.maps import LPCAMHead
from tag2mask.methods.lpcam.prototypes import Clustering, Rules, Scorer, build_class
from tag2mask.methods.lpcam.sets import Sets
from tag2mask.pipeline.opened_run import OpenedRun
from tag2mask.thresholds.by_scores import class_choices
from tag2mask.thresholds.erased import erased_choices
from tag2mask.thresholds.kinds import ErasureSettings, RuleSettings

COLUMNS = ("run", "way", "images", "kept", "kept_context", "oracle", "oracle/class", "otsu", "erased")
STEPS = np.linspace(0, 1, 201).astype(np.float32)
"""Thresholds on u that an oracle may take; of similarities the best lie between 0.4 and 0.8."""


PUBLISHED, NO_LOW, ALL = Rules(0.9, 0.9, 0.05), Rules(0.9, 0.9, 0.0), Rules(0.0, 1.0, 0.0)


class Way(NamedTuple):
    """How the two sets are made, of which features, and which centres are kept."""

    rule: bool = False
    context: ContextSet = "image"
    rules: Rules = PUBLISHED
    levels: bool = False
    alone: bool = False


WAYS = {
    "today": Way(),
    "tau-image-nolow": Way(rules=NO_LOW),
    "tau-both": Way(context="both", rules=NO_LOW),
    "tau-negatives": Way(context="negatives", rules=NO_LOW),
    "rule-image": Way(rule=True),
    "rule-image-nolow": Way(rule=True, rules=NO_LOW),
    "rule-both-low": Way(rule=True, context="both"),
    "rule-both": Way(rule=True, context="both", rules=NO_LOW),
    "rule-negatives": Way(rule=True, context="negatives", rules=NO_LOW),
    "tau-image-all": Way(rules=ALL),
    "tau-both-all": Way(context="both", rules=ALL),
    "rule-image-all": Way(rule=True, rules=ALL),
    "rule-both-all": Way(rule=True, context="both", rules=ALL),
    "rule-negatives-all": Way(rule=True, context="negatives", rules=ALL),
    "sigmoid": Way(rule=True, rules=NO_LOW, alone=True),
    "levels": Way(rule=True, levels=True),
    "levels-nolow": Way(rule=True, rules=NO_LOW, levels=True),
    "levels-all": Way(rule=True, rules=ALL, levels=True),
    "levels-sigmoid": Way(rule=True, rules=NO_LOW, levels=True, alone=True),
}
"""``levels`` are on the levels that the features are joined of; ``sigmoid`` judges each class by itself."""


class Cells(NamedTuple):
    """Features of an image in half precision."""

    whole: Tensor
    """(D, h, w) at scale 1."""
    summed: list[Tensor]
    """Of each scale, with the mirror image added."""
    logits: Tensor | None
    """(C, h, w) of the classifier at scale 1; None where they follow from the features."""
    size: tuple[int, int]


class Features:
    """The joined features of the images, or the levels that they are joined of."""

    def __init__(self, run: OpenedRun, dataset: Dataset, levels: bool) -> None:
        folder, maps = run.artefact("classifier").path, run.stages["cam"].settings
        assert isinstance(maps, MapsSettings)
        network, _ = load_network(folder / WEIGHTS)
        self.network: TagNet = for_inference(network, torch.device("cpu"))
        self.maps, self.side, self.levels = maps, trained_side(folder), levels
        self.known = {s.id: self._of(dataset, s) for s in dataset.samples}

    def _read(self, images: Tensor) -> Tensor:
        return torch.cat(self.network.levels(images), 1) if self.levels else self.network.features(images)

    def _of(self, dataset: Dataset, sample: Sample) -> Cells:
        image = dataset.image(sample)
        size = (image.height, image.width)
        sizes = [scaled(*self.maps.base(size, self.side), scale) for scale in self.maps.scales]
        tensors = [image_tensor(image, s, self.network.mean, self.network.std) for s in sizes]
        pairs = list(pair_features(self._read, tensors if sample.tags else tensors[:1]))
        logits, end = None, pairs[0].shape[1]
        if self.levels:
            end -= len(dataset.classes)
            logits = pairs[0][0, end:]
        return Cells(pairs[0][0, :end].half(), [add_mirror(p[:, :end].float()).half() for p in pairs], logits, size)

    def raw_maps(self, head: LPCAMHead, sample: Sample) -> ActivationMaps:
        """The raw scores of the sample's classes in the place of its maps."""
        cells = self.known[sample.id]
        part = self.maps.part(self.maps.base(cells.size, self.side), self.network.stride)
        classes = torch.tensor(sample.tags, dtype=torch.int64)
        each = (f[None].float() for f in cells.summed)
        (mean,) = mean_of_scales(each, [head.scores], classes, stride4(*cells.size), part)
        return ActivationMaps(sample.tags, similarity_unit(mean))


def prototypes(run: OpenedRun, dataset: Dataset, features: Features, way: Way) -> Prototypes:
    """Those that the stage would make in this way."""
    maps, level = run.artefact("cam"), run.artefact("cam-threshold").threshold().as_threshold()
    network = features.network
    weights, bias = network.class_weights().detach().float(), network.class_bias().detach().float()
    scorer = Scorer(weights, torch.tensor(network.trained), names=dataset.classes, bias=bias, alone=way.alone)
    competes = dataset.background != "none"
    form: ScoreForm = "raw" if way.rule or not competes else "normalised"
    sets = Sets(competes, way.context, 0.1, level if way.rule else None, form)
    built = {}
    for column in range(len(dataset.classes)):
        samples = sets.images(dataset, column, 60)
        cells = ((features.known[s.id], sets.share(maps, dataset, s, column)) for s in samples)
        pairs = ((one.whole, share, one.logits) for one, share in cells)
        certain = sets.certain and any(column not in s.tags for s in samples)
        if samples:
            with collect(pairs, sets.tau, certain=certain) as (foreground, context):
                built[column] = build_class(foreground, context, column, scorer, way.rules, Clustering())
    return Prototypes({c: b.foreground for c, b in built.items()}, {c: b.context for c, b in built.items()})


class Matrices:
    """Confusion of the seeds at every step, (steps + 1, truth, seeds), and (steps + 1, hits and claims) of a class."""

    def __init__(self, classes: int) -> None:
        self.joint = np.zeros((len(STEPS) + 1, classes + 1, classes + 1), np.int64)
        self.alone = np.zeros((classes, len(STEPS) + 1, 2), np.int64)

    def add(self, truth: NDArray[np.int64], maps: NDArray[np.float32], tags: Sequence[int]) -> None:
        """Count an image: ground truth (H, W), raw maps (K, H, W)."""
        known = truth <= len(self.alone)
        kinds, n = len(self.alone) + 1, len(STEPS) + 1
        passed = np.searchsorted(STEPS, maps[:, known])  # the steps strictly below each value
        seeds = np.array(tags)[maps[:, known].argmax(0)] + 1
        place = (passed.max(0) * kinds + truth[known]) * kinds + seeds
        self.joint += np.bincount(place, minlength=n * kinds * kinds).reshape(n, kinds, kinds)
        for row, column in zip(passed, tags, strict=True):
            hits = truth[known] == column + 1
            self.alone[column] += np.bincount(row * 2 + hits, minlength=n * 2).reshape(n, 2)

    def best(self) -> tuple[float, float]:
        """Mean IoU of the classes, percent, at the best step for all, and with each class's best step."""
        reached = self.joint[::-1].cumsum(0)[::-1][1:]  # at step t: pixels that pass it
        truth = self.joint.sum((0, 2))[1:]
        hits = np.diagonal(reached, axis1=1, axis2=2)[:, 1:]
        ious = hits / np.maximum(truth + reached.sum(1)[:, 1:] - hits, 1)
        alone = self.alone[:, ::-1].cumsum(1)[:, ::-1][:, 1:]
        own = alone[..., 1] / np.maximum(truth[:, None] + alone[..., 0], 1)
        return 100 * float(ious.mean(1).max()), 100 * float(own.max(1).mean())


def at_levels(levels: Levels, maps: dict[str, ActivationMaps], dataset: Dataset) -> float:
    """``miou_foreground`` of seeds at the thresholds of a rule, percent."""
    cut = Threshold(None, "rule", rule="x/class", levels=levels)
    kinds = len(dataset.classes) + 1
    counts = np.zeros((kinds, kinds), np.int64)
    for sample, truth, full in shown(maps, dataset):
        seeds = cut.cut(full, sample.tags, sample.id)
        known = truth < kinds
        counts += np.bincount(truth[known] * kinds + seeds[known].astype(int), minlength=kinds**2).reshape(kinds, kinds)
    hits = np.diag(counts)[1:]
    return 100 * float((hits / np.maximum(counts.sum(0)[1:] + counts.sum(1)[1:] - hits, 1)).mean())


def shown(
    maps: dict[str, ActivationMaps], dataset: Dataset
) -> Iterator[tuple[Sample, NDArray[np.int64], NDArray[np.float32]]]:
    """The images with a tag and ground truth, with both at the size of the ground truth."""
    for sample in dataset.samples:
        truth = dataset.truth(sample) if sample.tags else None
        if truth is not None:
            yield sample, truth.astype(np.int64), bilinear(maps[sample.id].maps, *truth.shape).numpy()


def part(dataset: Dataset, ids: Container[str]) -> Dataset:
    """The images with these ids."""
    found = copy.copy(dataset)
    found.samples = tuple(s for s in dataset.samples if s.id in ids)
    return found


def measure(run: OpenedRun, name: str, dataset: Dataset, features: Features, erased: int) -> dict[str, Any]:
    """The row of one way."""
    found = prototypes(run, dataset, features, WAYS[name])
    head = LPCAMHead(found, len(dataset.classes))
    maps = {s.id: features.raw_maps(head, s) for s in dataset.samples if s.tags}
    matrices = Matrices(len(dataset.classes))
    for sample, truth, full in shown(maps, dataset):
        matrices.add(truth, full, sample.tags)
    tagged = part(dataset, set(maps))
    source = cast(Artefact, SimpleNamespace(kind=None, maps=lambda _, sample, __: maps[sample.id]))
    otsu = RuleSettings(rule="otsu", per="class", scores="raw")
    choices = class_choices(source, tagged, tagged.samples, otsu, lambda: None)
    values = {"otsu": [choice.value for choice in choices]}
    if erased:
        own = ErasureSettings(rule="erased", per="class", scores="raw", images=erased, fill="blur")
        judged = erased_choices(
            source, run.artefact("classifier"), tagged, own, Engine(device="cpu"), choices.__getitem__, lambda: None
        )
        values["erased"] = [choice.value for choice in judged]
    oracle, each = matrices.best()
    row = {"run": run.path.name, "way": name, "images": len(dataset.samples), "oracle": oracle, "oracle/class": each}
    for rule, levels in values.items():
        known = [v for v in levels if v is not None]
        row[rule] = at_levels(Levels(float(np.median(known)) if known else 0.5, tuple(levels)), maps, dataset)
    for side, key in (("all_foreground", "kept"), ("all_context", "kept_context")):
        every = [s.kept.float() for s in getattr(found, side).values()]
        row[key] = float(torch.cat(every).mean()) if every else 0.0
    return {key: round(value, 2) if isinstance(value, float) else value for key, value in row.items()}


def main(words: Sequence[str] | None = None) -> None:
    """Measure every way on every run, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--arms", default=",".join(WAYS))
    parser.add_argument("--erased", type=int, default=8, help="images of a class for the rule erased; 0 leaves it out")
    parser.add_argument("--out", type=Path, default=RESULTS / "lpcam-sets.csv")
    given = parser.parse_args(words)
    torch.set_num_threads(1)
    rows = []
    for path in given.runs:
        run = OpenedRun(path)
        whole = run.dataset("cam")
        few = {s.id for s in sorted(whole.samples, key=lambda s: value_hash(["sets", s.id]))[: given.images]}
        dataset = part(whole, few)
        wanted = given.arms.split(",")
        for levels in (False, True):
            arms = [name for name in wanted if WAYS[name].levels == levels]
            if not arms:
                continue
            features = Features(run, dataset, levels)
            for name in arms:
                rows.append(measure(run, name, dataset, features, given.erased))
                sys.stdout.write(f"{rows[-1]}\n")
                sys.stdout.flush()
    with given.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
