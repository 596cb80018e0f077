"""Trains AMN on refined seeds and tags, for the stage `amn`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from tag2mask.backbones.files import WEIGHTS, load_network
from tag2mask.backbones.state_dict import load_strict
from tag2mask.config.engine import Engine
from tag2mask.core.errors import WeightsError
from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset, Labels
from tag2mask.data.transforms import TrainTransform
from tag2mask.methods.amn.network import AmnNet, BackboneAmn, build_amn, save_amn
from tag2mask.methods.amn.settings import AmnSettings
from tag2mask.training.fit import fit_and_save
from tag2mask.training.label_images import LabelImages, LabelsOf, checked, with_labels
from tag2mask.training.losses import code_counts, pixel_counts, pixel_loss, weighted_pixel_loss
from tag2mask.training.task import Batch, Task, parameter_groups

_OF_TRAINING = ("weights", "freeze", "detach_after")
"""Settings of a backbone that change none of its parameters' names and shapes."""


def amn_task(net: AmnNet, settings: AmnSettings, background: bool = True) -> Task:
    """The training of AMN by its per-pixel loss over the cells of whole batches.

    Without ``background`` the classes alone compete: its logit is left out, and no cell is of it.

    A batch is images (N, 3, H, W), tags (N, C) and labels (N, h, w) uint8 on the grid of the logits.
    """
    first = 0 if background else 1
    power = settings.class_weight if background else None  # without one, cells of all classes weigh the same anyway
    smoothing = settings.smoothed(net.n_classes - first)  # by the number of others

    def loss(part: Batch, counts: Tensor | None) -> Tensor:
        images, tags, labels = part
        logits = net(images, tags)[:, first:]
        if power is None:
            return pixel_loss(logits, labels, smoothing, settings.balanced, counts, first)
        return weighted_pixel_loss(logits, labels, tags, smoothing, power, counts)

    def counts_of(batch: Batch) -> Tensor:
        return pixel_counts(batch[2]) if power is None else code_counts(batch[2], batch[1])

    groups = parameter_groups(net.backbone_parameters(), net.head_parameters(), settings.train)
    return Task(net, settings.train, groups, loss, counts_of)


def with_absent(tags: Tensor, share: float) -> Tensor:
    """Tags to which one more class is added, one of those that the image lacks, all alike likely.

    Seen under its own tags alone, an image without a class never asks whether it is there: the code has said so. The
    network then learns to see a class in whatever is most like it, and in an image with the class that is most of it.

    Args:
        tags: (C,) 0 and 1.
        share: how likely one is added; with torch's random numbers, none of which are drawn for 0.

    Returns:
        (C,), a copy where it differs.
    """
    lacking = (tags == 0).nonzero()[:, 0]
    if share == 0 or torch.rand(()) >= share or not len(lacking):
        return tags
    added = tags.clone()
    added[lacking[torch.randint(len(lacking), ())]] = 1
    return added


class AmnImages(LabelImages):
    """Augmented images with their tags, to some of which an absent class is added, and their labels on the grid.

    Args:
        dataset: opens the images.
        samples: which of its samples.
        labels: gives their refined seeds.
        transform: augments image and labels together.
        seed: of the training.
        grid: rows and columns of the logits.
        absent: share of images to whose tags a class is added.
    """

    def __init__(
        self,
        dataset: Dataset,
        samples: Sequence[Sample],
        labels: LabelsOf,
        transform: TrainTransform,
        seed: int,
        *,
        grid: tuple[int, int],
        absent: float,
    ) -> None:
        super().__init__(dataset, samples, labels, transform, seed, grid=grid, tags=True)
        self.absent = absent

    def augmented(self, sample: Sample, content: tuple[Image.Image, Labels]) -> tuple[Tensor, ...]:
        """The augmented image, its tags and perhaps one more, and the labels on the grid."""
        image, tags, labels = super().augmented(sample, content)
        return image, with_absent(tags, self.absent), labels


def begin_with(net: BackboneAmn, classifier: Path) -> None:
    """Give the backbone of AMN the weights of a classifier's, which has to be the same network.

    Raises:
        WeightsError: the file is damaged, or holds another network; the settings that differ are named.
    """
    other, _ = load_network(classifier)
    own, given = net.settings.backbone, other.settings
    names = [name for name in type(own).model_fields if name not in _OF_TRAINING]
    differ = [name for name in names if getattr(own, name) != getattr(given, name)]
    if differ:
        said = "; ".join(f"backbone.{n} = {getattr(given, n)}, of AMN {getattr(own, n)}" for n in differ)
        raise WeightsError(
            f"{classifier}: AMN cannot begin with the weights of this classifier, whose network is another one "
            f"({said}). Give both the same backbone, or leave reads.first out"
        )
    load_strict(net.body, other.body.state_dict(), str(classifier), "AMN's backbone")


def train_amn(
    dataset: Dataset,
    seeds: LabelsOf,
    settings: AmnSettings,
    *,
    out: Path,
    seed: int,
    engine: Engine,
    name: str = "amn",
    first: Path | None = None,
) -> None:
    """Train AMN on tags and refined seeds and write ``weights.safetensors``; interrupted, it resumes.

    Called by the stage ``amn``; ``settings.checkpoint`` is not looked at. ``seed``, at least 0, is that of the head's
    first weights, order, augmentation and dropout. ``first`` is a classifier's file, see `begin_with`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = build_amn(settings, len(dataset.classes))
        if first is not None:
            begin_with(net, first)
    seeds = checked(seeds, dataset.classes, tags=True)
    tagged = [sample for sample in dataset.samples if sample.tags or settings.negatives == "keep"]
    samples = with_labels(tagged, seeds, name)
    schedule = settings.train.for_images(len(samples))
    settings = settings.model_copy(update={"train": schedule})
    transform = TrainTransform(schedule.crop, net.mean, net.std, rescale=schedule.rescale)
    grid = net.grid(schedule.crop, schedule.crop)
    images = AmnImages(dataset, samples, seeds, transform, seed, grid=grid, absent=settings.absent)
    save = partial(save_amn, net, out / WEIGHTS, dataset.classes)
    task = amn_task(net, settings, dataset.background != "none")
    fit_and_save(task, images, save, out=out, seed=seed, engine=engine, name=name)
