"""Trains AMN on refined seeds and tags, for the stage `amn`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from tag2mask.backbones.files import WEIGHTS
from tag2mask.config.engine import Engine
from tag2mask.data.base import Dataset
from tag2mask.data.transforms import TrainTransform
from tag2mask.methods.amn.network import AmnNet, build_amn, save_amn
from tag2mask.methods.amn.settings import AmnSettings
from tag2mask.training.fit import fit_and_save
from tag2mask.training.label_images import LabelImages, LabelsOf, checked, with_labels
from tag2mask.training.losses import pixel_counts, pixel_loss
from tag2mask.training.task import Batch, Task, parameter_groups


def amn_task(net: AmnNet, settings: AmnSettings, background: bool = True) -> Task:
    """The training of AMN by its per-pixel loss over the cells of whole batches.

    Without ``background`` the classes alone compete: its logit is left out, and no cell is of it.

    A batch is images (N, 3, H, W), tags (N, C) and labels (N, h, w) uint8 on the grid of the logits.
    """
    first = 0 if background else 1

    def loss(part: Batch, counts: Tensor | None) -> Tensor:
        images, tags, labels = part
        logits = net(images, tags)[:, first:]
        return pixel_loss(logits, labels, settings.smoothing, settings.balanced, counts, first)

    groups = parameter_groups(net.backbone_parameters(), net.head_parameters(), settings.train)
    return Task(net, settings.train, groups, loss, lambda batch: pixel_counts(batch[2]))


def train_amn(
    dataset: Dataset, seeds: LabelsOf, settings: AmnSettings, *, out: Path, seed: int, engine: Engine, name: str = "amn"
) -> None:
    """Train AMN on tags and refined seeds and write ``weights.safetensors``; interrupted, it resumes.

    Called by the stage ``amn``; ``settings.checkpoint`` is not looked at. ``seed``, at least 0, is that of the head's
    first weights, order, augmentation and dropout.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = build_amn(settings, len(dataset.classes))
    seeds = checked(seeds, dataset.classes, tags=True)
    tagged = [sample for sample in dataset.samples if sample.tags or settings.negatives == "keep"]
    samples = with_labels(tagged, seeds, name)
    schedule = settings.train
    transform = TrainTransform(schedule.crop, net.mean, net.std, rescale=schedule.rescale)
    grid = net.grid(schedule.crop, schedule.crop)
    images = LabelImages(dataset, samples, seeds, transform, seed, grid=grid, tags=True)
    save = partial(save_amn, net, out / WEIGHTS, dataset.classes)
    task = amn_task(net, settings, dataset.background != "none")
    fit_and_save(task, images, save, out=out, seed=seed, engine=engine, name=name)
