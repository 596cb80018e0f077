"""Finds classes that a classifier confuses, and what the weights of a confusing class respond to (LPCAM, Figure 1)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tag2mask.backbones.files import WEIGHTS, load_network, trained_side
from tag2mask.backbones.folded import for_inference
from tag2mask.backbones.tagnet import TagNet
from tag2mask.core.arrays import rounded
from tag2mask.core.progress import progress
from tag2mask.core.resize import bilinear
from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset
from tag2mask.data.transforms import scaled
from tag2mask.evaluation.result_tables import ResultRow, write_table
from tag2mask.evaluation.thresholds import Threshold
from tag2mask.inference.maps_file import stride4
from tag2mask.inference.multiscale import CAMHead, merge_scales, pair_features
from tag2mask.inference.runner import image_tensor
from tag2mask.inference.settings import MapsSettings
from tag2mask.methods.stage_kinds import Makes
from tag2mask.papers.catalogue import FinishedExperiment, StepResult
from tag2mask.papers.steps.threshold_examples import shown_rows
from tag2mask.pipeline.opened_run import OpenedRun
from tag2mask.report.examples import Example, draw_examples
from tag2mask.training.device import resolve_device

OWN, CONFUSING, EITHER = "CAM: weights of the true class", "weights of a confusing class", "either of the two"
CLASSIFIER = "classifier's weights"
"""Names of the rows of L5 and L13 that this step fills."""

_IMAGES, _SHOWN = 100, 4
_NO_THRESHOLD = Threshold(None, "none")


@dataclass(frozen=True, slots=True)
class ImageConfusion:
    """One image under the weights of its own classes and of its confusing class."""

    sample: Sample
    confusing: int  # column of the absent class with the highest score
    scores: NDArray[np.float32]  # (C,) probabilities of the classes, each by itself, 0..1
    maps: Tensor  # (K + 1, h, w) CAMs in [0, 1] at stride 4: tags in order, confusing class


@dataclass(slots=True)
class ObjectRecall:
    """Pixels of the objects, and those above the threshold in the map of their class, the confusing one, either."""

    pixels: int = 0
    own: int = 0
    confusing: int = 0
    either: int = 0

    def count(self, found: ImageConfusion, truth: NDArray[np.uint8], threshold: float) -> None:
        """Add one image; ``truth`` is (H, W) labels."""
        above = np.asarray(bilinear(found.maps, *truth.shape).numpy()) > np.float32(threshold)
        for column, own in zip(found.sample.tags, above[:-1], strict=True):
            inside = truth == column + 1
            self.pixels += int(inside.sum())
            self.own += int((inside & own).sum())
            self.confusing += int((inside & above[-1]).sum())
            self.either += int((inside & (own | above[-1])).sum())


@dataclass(frozen=True, slots=True)
class ConfusedLine:
    """A class and one that it is confused with; a line of CSV."""

    name: str  # a class that the images have
    confusing: str  # the absent class with the highest score in some of them
    images: int  # in how many
    share: float  # of the class's images that were analysed, 0..1


def weights(run: FinishedExperiment) -> StepResult:
    """Compare up to 100 images, evenly spaced, under the weights of true and confusing classes; first seed.

    ``object_recall`` is the share of the objects' pixels above the seeds' threshold, if there is ground truth;
    ``weight_norm`` is the length of a class's weights, ``confusion`` its mean probability in percent over the images
    that lack it.
    """
    opened, cam = OpenedRun(run.out), run.made(run.stages[OWN])[0]
    dataset = opened.split(opened.plan.data.infer)
    classifier = cam.artefact.reads["classifier"].path
    network, _ = load_network(classifier / WEIGHTS)
    settings = cam.stage.settings
    assert isinstance(settings, MapsSettings)  # it is of kind cam
    spaced = np.linspace(0, len(dataset) - 1, min(_IMAGES, len(dataset))).round().astype(int)
    samples = [dataset.samples[i] for i in spaced]
    with progress("confusing classes", len(samples)) as counter:
        device = resolve_device(opened.plan.recipe.engine)
        side = trained_side(classifier)
        found = confusions(network, dataset, samples, settings, device, counter.advance, side)
    if not found:
        return StepResult(lines=("No image lacks a class that another has: nothing confuses.",))
    csv, figure = run.out / "confusing-classes.csv", run.out / "confusing-classes.png"
    confused = confused_lines(found, dataset.classes)
    write_table(csv, ConfusedLine, confused)
    draw_examples(
        _examples(run, dataset, found), f"{run.experiment.id}: true and confusing classes, {dataset.split}", figure
    )
    recall = _recall_rows(run, dataset, found)
    rows = (*recall, *_weight_rows(run, dataset, network, found))
    first = confused[0]
    lines = [
        f"most confused: {first.name} with {first.confusing}, in {first.images} images ({100 * first.share:.0f} %)"
    ]
    known = {row.method: row.value for row in recall}
    own, either = known.get(OWN), known.get(EITHER)
    if own is not None and either is not None:
        lines.append(f"{either - own:.1f} % of the objects' pixels are seen by the confusing class's weights alone")
    return StepResult(rows, (csv, figure), tuple(lines))


def confusions(
    network: TagNet, dataset: Dataset, samples: Sequence[Sample], settings: MapsSettings, device: torch.device,
    advance: Callable[[], None], side: int | None = None,
) -> list[ImageConfusion]:  # fmt: skip
    """Scores and maps of every image that has some of the trained classes and lacks others; ``side`` as for maps."""
    network = for_inference(network, device)
    found = []
    for sample in samples:
        absent = [c for c, trained in enumerate(network.trained) if trained and c not in sample.tags]
        if sample.tags and absent:
            found.append(_confusion(network, dataset, sample, absent, settings, device, side))
        advance()
    return found


@torch.inference_mode()
def _confusion(
    network: TagNet, dataset: Dataset, sample: Sample, absent: Sequence[int], settings: MapsSettings,
    device: torch.device, side: int | None,
) -> ImageConfusion:  # fmt: skip
    image = dataset.image(sample)
    full = image.height, image.width
    base = settings.base(full, side)
    whole = image_tensor(image, full, network.mean, network.std).to(device)
    scores = network(whole[None])[0].float().sigmoid().cpu()
    confusing = max(absent, key=lambda c: float(scores[c]))
    images = (image_tensor(image, scaled(*base, s), network.mean, network.std).to(device) for s in settings.scales)
    bfloat16 = settings.precision == "bfloat16"
    features = pair_features(network.features, images, mirror=settings.mirror, bfloat16=bfloat16)
    classes = torch.tensor([*sample.tags, confusing], device=device)
    part = settings.part(base, network.stride)
    (maps,) = merge_scales(features, [CAMHead(network.class_weights())], classes, stride4(*full), part)
    return ImageConfusion(sample, confusing, scores.numpy(), maps.cpu())


def confused_lines(found: Sequence[ImageConfusion], classes: Sequence[str]) -> list[ConfusedLine]:
    """How often each class is confused with which, the most frequent pair first."""
    pairs = Counter((tag, one.confusing) for one in found for tag in one.sample.tags)
    images = Counter(tag for one in found for tag in one.sample.tags)
    lines = [ConfusedLine(classes[a], classes[b], n, rounded(n / images[a])) for (a, b), n in pairs.items()]
    return sorted(lines, key=lambda line: (-line.images, line.name, line.confusing))


def _recall_rows(run: FinishedExperiment, dataset: Dataset, found: Sequence[ImageConfusion]) -> list[ResultRow]:
    at = next(one.threshold for name, one in shown_rows(run) if name == OWN)
    assert at.value is not None  # the recipe's own
    recall, n_images = ObjectRecall(), 0
    for one in found:
        truth = dataset.truth(one.sample)
        if truth is not None:
            recall.count(one, truth, at.value)
            n_images += 1
    if not recall.pixels:
        return []
    shares = {OWN: recall.own, CONFUSING: recall.confusing, EITHER: recall.either}
    return [
        _row(run, name, dataset, n_images, "object_recall", 100 * n / recall.pixels, at) for name, n in shares.items()
    ]


def _weight_rows(
    run: FinishedExperiment, dataset: Dataset, network: TagNet, found: Sequence[ImageConfusion]
) -> list[ResultRow]:
    rows = []
    for column, name in enumerate(dataset.classes):
        norm = float(network.class_weights()[column].detach().norm())
        rows.append(_row(run, CLASSIFIER, dataset, len(found), f"weight_norm/{name}", norm))
        without = [100 * float(one.scores[column]) for one in found if column not in one.sample.tags]
        if without:
            rows.append(_row(run, CLASSIFIER, dataset, len(without), f"confusion/{name}", fmean(without)))
    return rows


def _row(
    run: FinishedExperiment, name: str, dataset: Dataset, n_images: int, metric: str, value: float,
    at: Threshold = _NO_THRESHOLD,
) -> ResultRow:  # fmt: skip
    seed = run.made(run.stages[OWN])[0].stage.seed
    return ResultRow(name, dataset.split, n_images, at.kind_text, at.value, metric, rounded(value), seed, run.command)


def _examples(run: FinishedExperiment, dataset: Dataset, found: Sequence[ImageConfusion]) -> list[Example]:
    """The images whose confusing class has the highest scores, and those named by the user."""
    ranked = sorted(found, key=lambda one: (-float(one.scores[one.confusing]), one.sample.id))
    named = [one for one in ranked[_SHOWN:] if one.sample.id in run.images]
    others = [(row, one) for row, one in shown_rows(run) if row != OWN and one.maker.stage.kind.makes is Makes.MAPS]
    examples = []
    for one in [*ranked[:_SHOWN], *named]:
        true, wrong = dataset.classes[one.sample.tags[0]], dataset.classes[one.confusing]
        heats = [(f"weights of {true} (true)", one.maps[0]), (f"weights of {wrong}", one.maps[-1])]
        heats += [(row, other.maker.artefact.maps(dataset, one.sample).maps[0]) for row, other in others]
        reason = f"{wrong} is absent and has the score {float(one.scores[one.confusing]):.2f}"
        layers = [(caption, heat.numpy()) for caption, heat in heats]
        examples.append(Example.over(dataset, one.sample, dataset.image(one.sample), reason, layers))
    return examples
