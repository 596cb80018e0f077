"""What one would write in an afternoon, beside tag2mask: `results/afternoon.csv`.

python -m benchmarks.afternoon ../shared/data                           all sets of `benchmarks.domains`
python -m benchmarks.afternoon ../shared/data --set cracks --epochs 24

Needs the extra ``benchmarks``. A plain timm network (EfficientNet-Lite0 with the bundled weights, its own pooling and
head) is fine-tuned on the tags of the same images; pytorch-grad-cam gives a map in 0..1 for each tag, by GradCAM, which
is CAM on such a network, and by LayerCAM, each at its last feature map. Maps are cut at 0.3, and by Otsu's threshold of
each map, and the class whose map is largest of those above wins; ``+crf`` is pydensecrf2 with the parameters of its
example on these labels. Where no ground truth shows a background the largest map wins everywhere (``arg max``), which
someone who knows the data would write. No ground truth is used but to measure.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.common import RESULTS, write_rows
from benchmarks.crf_reference import reference, reference_unary
from benchmarks.domains import Domain, sets
from tag2mask.backbones.settings import bundled_file
from tag2mask.backbones.state_dict import in_order, read_state
from tag2mask.core.errors import quoted
from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset, Labels
from tag2mask.evaluation.metrics import SegmentationMetrics
from tag2mask.refine.crf.presets import CRFPreset

SIDE, BATCH, RATE, HEAD_RATE = 320, 8, 2e-4, 2e-3
"""Side that images are squeezed to, and the schedule; the rates are those of tag2mask's light recipes."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FIXED = 0.3
CRF = CRFPreset(3, 3, 80, 13, 10, iterations=5)
SURE = 0.7
"""How sure the labels are that pydensecrf2 starts from, as in its example."""
Maps = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class AfternoonRow:
    """One way on one set, percent; seconds are of the maps and the cut of an image, the training left out."""

    kind: str
    method: str
    split: str
    n_images: int
    threshold_kind: str
    threshold: float | None
    miou: float
    miou_foreground: float
    f1_foreground: float
    epochs: int
    seed: int
    training_seconds: float
    seconds_per_image: float
    command: str


def pixels(dataset: Dataset, sample: Sample) -> Tensor:
    """(3, SIDE, SIDE) float32, as ImageNet's networks take it."""
    image = np.asarray(dataset.image(sample).resize((SIDE, SIDE)), np.float32) / 255
    return torch.from_numpy(((image - MEAN) / STD).astype(np.float32)).permute(2, 0, 1)


def classifier(dataset: Dataset, epochs: int, seed: int) -> Any:
    """Fine-tune on the tags: binary cross-entropy, mirrored images, a rate that falls to 0."""
    import timm

    torch.manual_seed(seed)
    net: Any = timm.create_model("efficientnet_lite0", num_classes=0)
    net.load_state_dict(in_order(read_state(bundled_file()), list(net.state_dict()), str(bundled_file())))
    net.reset_classifier(len(dataset.classes))
    images = torch.stack([pixels(dataset, sample) for sample in dataset.samples])
    tags = torch.zeros(len(images), len(dataset.classes))
    for place, sample in enumerate(dataset.samples):
        tags[place, list(sample.tags)] = 1
    body = [p for name, p in net.named_parameters() if not name.startswith("classifier")]
    head = [p for name, p in net.named_parameters() if name.startswith("classifier")]
    optimiser = torch.optim.AdamW([{"params": body, "lr": RATE}, {"params": head, "lr": HEAD_RATE}], weight_decay=1e-4)
    steps = max(1, len(images) // BATCH)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs * steps)
    net.train()
    for _ in range(epochs):
        order = torch.randperm(len(images))
        for step in range(steps):
            chosen = order[step * BATCH : (step + 1) * BATCH]
            batch = images[chosen]
            mirrored = torch.rand(len(batch)) < 0.5
            batch[mirrored] = batch[mirrored].flip(-1)
            loss = nn.functional.binary_cross_entropy_with_logits(net(batch), tags[chosen])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            falling.step()
    net.eval()
    return net


def cut(maps: Maps, classes: Sequence[int], levels: Sequence[float]) -> Labels:
    """(H, W) labels of maps (K, H, W): the largest of those that reach their level, else background."""
    kept = np.where(maps >= np.asarray(levels, np.float32)[:, None, None], maps, -1)
    labels = np.asarray(classes, np.uint8)[kept.argmax(0)] + np.uint8(1)
    return np.where(kept.max(0) >= 0, labels, np.uint8(0)).astype(np.uint8)


def otsu(values: Maps) -> float:
    """Otsu's threshold of one map in 0..1, by OpenCV, which comes with pytorch-grad-cam."""
    import cv2

    level, _ = cv2.threshold((255 * values).astype(np.uint8), 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    return float(level + 1) / 255  # OpenCV's foreground lies above it


def refined(image: NDArray[np.uint8], labels: Labels) -> Labels:
    """The labels after dense CRF among those of the image; one label alone stays."""
    found, places = np.unique(labels, return_inverse=True)
    if len(found) < 2:
        return labels
    energy = reference_unary(places.reshape(labels.shape), len(found), SURE)
    refined_labels: Labels = found[reference(image, energy, CRF).argmax(0)].astype(np.uint8)
    return refined_labels


class Tried:
    """Counts every way of one set: (method, kind of threshold, threshold) -> metrics and seconds."""

    def __init__(self, dataset: Dataset, net: Any) -> None:
        from pytorch_grad_cam import GradCAM, LayerCAM

        self.dataset = dataset
        last = [net.bn2]  # with its activation, the last feature map of timm's EfficientNets
        self.methods: dict[str, Any] = {
            "GradCAM": GradCAM(model=net, target_layers=last),
            "LayerCAM": LayerCAM(model=net, target_layers=last),
        }
        self.found: dict[tuple[str, str, float | None], SegmentationMetrics] = {}
        self.seconds: dict[str, float] = {}

    def maps(self, method: str, sample: Sample, size: tuple[int, int]) -> Maps:
        """(K, H, W) of an image's tags, each in 0..1."""
        import cv2
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        image = pixels(self.dataset, sample)[None]
        found = [self.methods[method](image, [ClassifierOutputTarget(tag)])[0] for tag in sample.tags]
        return np.stack([cv2.resize(one, size[::-1]) for one in found]).astype(np.float32)

    def cuts(self, method: str, sample: Sample, size: tuple[int, int]) -> Iterator[tuple[str, float | None, Labels]]:
        """Labels of an image by every cut."""
        if not sample.tags:
            for kind, level in (("fixed", FIXED), ("rule(otsu/image)", None), ("none", None)):
                yield kind, level, np.zeros(size, np.uint8)
            return
        maps = self.maps(method, sample, size)
        yield "fixed", FIXED, cut(maps, sample.tags, [FIXED] * len(maps))
        yield "rule(otsu/image)", None, cut(maps, sample.tags, [otsu(one) for one in maps])
        yield "none", None, cut(maps, sample.tags, [0.0] * len(maps))

    def image(self, sample: Sample) -> None:
        """Count an image by every way."""
        truth = self.dataset.truth(sample)
        if truth is None:
            return
        photo = np.array(self.dataset.image(sample))  # a copy, as pydensecrf2 writes to none but wants to be able to
        for method in self.methods:
            start = time.perf_counter()
            every = list(self.cuts(method, sample, truth.shape))
            self._spent(method, start)
            for kind, level, labels in every:
                start = time.perf_counter()
                better = refined(photo, labels)
                self._spent(f"{method}+crf", start)
                for name, made in ((method, labels), (f"{method}+crf", better)):
                    at = (name, kind, level)
                    counted = self.found.setdefault(at, SegmentationMetrics(self.dataset.classes))
                    counted.update(made, truth, sample.id)

    def _spent(self, name: str, start: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def measured(domain: Domain, epochs: int, seed: int, words: str) -> Iterator[AfternoonRow]:
    """Every way on one set."""
    dataset = domain.dataset()
    start = time.perf_counter()
    net = classifier(dataset, epochs, seed)
    training = time.perf_counter() - start
    tried = Tried(dataset, net)
    for sample in dataset.samples:
        tried.image(sample)
    for (method, kind, level), metrics in tried.found.items():
        scores = metrics.compute()
        if kind == "none" and scores.has_background:
            continue  # the largest map everywhere is for data where every pixel is of a class
        name = method if kind != "none" else f"{method}, arg max"
        base = tried.seconds[method.removesuffix("+crf")] / metrics.n_images
        each = base + (tried.seconds[method] / metrics.n_images / 3 if method.endswith("+crf") else 0)
        yield AfternoonRow(
            domain.name, name, dataset.split, metrics.n_images, kind, level, scores.miou, scores.mean("iou"),
            scores.f1_foreground, epochs, seed, round(training, 1), round(each, 3), words,
        )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write the rows of a set anew after each seed; those of other sets stay."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder that holds domains/ and voc-animals/")
    parser.add_argument("--set", action="append", help="one set alone; repeatable")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=1, help="how many, from 0 on")
    parser.add_argument("--out", type=Path, default=RESULTS / "afternoon.csv")
    given = parser.parse_args(arguments)
    for domain in sets(given.data, given.set):
        rows: list[AfternoonRow] = []
        for seed in range(given.seeds):
            options = ["--set", domain.name, "--epochs", given.epochs, "--seeds", given.seeds]
            words = quoted("python", "-m", "benchmarks.afternoon", given.data, *options)
            rows += measured(domain, given.epochs, seed, words)
            write_rows(given.out, rows, keep="kind")


if __name__ == "__main__":
    main()
