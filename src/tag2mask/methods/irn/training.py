"""Trains the boundary branch on refined seeds, for the stage `irn`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from tag2mask.backbones.files import WEIGHTS
from tag2mask.config.engine import Engine
from tag2mask.data.base import Dataset
from tag2mask.data.transforms import TrainTransform
from tag2mask.methods.irn.affinity import boundary_loss, pair_counts
from tag2mask.methods.irn.network import BoundaryNet, build_boundary, save_boundary
from tag2mask.methods.irn.settings import STRIDE, IrnSettings
from tag2mask.training.fit import fit_and_save
from tag2mask.training.label_images import LabelImages, LabelsOf, with_labels
from tag2mask.training.task import Batch, Task


def boundary_task(net: BoundaryNet, settings: IrnSettings, background: bool = True) -> Task:
    """The training of the branch, by the loss over the pairs of whole batches.

    A batch is images (N, 3, H, W) and labels (N, H / 4, W / 4) uint8.
    """

    def loss(part: Batch, counts: Tensor | None) -> Tensor:
        images, labels = part
        edge = torch.sigmoid(net(images).float())[:, 0]
        return boundary_loss(edge, labels, settings.radius, counts, background)

    train = settings.train
    groups = [{"params": net.branch_parameters(), "lr": train.lr, "weight_decay": train.weight_decay}]
    return Task(net, train, groups, loss, lambda batch: pair_counts(batch[1], settings.radius))


def train_boundary(
    dataset: Dataset, seeds: LabelsOf, settings: IrnSettings, *, out: Path, seed: int, engine: Engine, name: str = "irn"
) -> None:
    """Train a boundary network on refined seeds and write ``weights.safetensors``; interrupted, it resumes.

    Called by the stage ``irn``; ``settings.checkpoint`` is not looked at. ``seed``, at least 0, is that of the branch's
    first weights, order and augmentation.
    """
    samples = with_labels(dataset.samples, seeds, name)
    settings = settings.model_copy(update={"train": settings.train.for_images(len(samples))})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = build_boundary(settings.backbone, len(dataset.classes))
    schedule = settings.train
    transform = TrainTransform(schedule.crop, net.mean, net.std, rescale=schedule.rescale)
    images = LabelImages(dataset, samples, seeds, transform, seed, grid=(schedule.crop // STRIDE,) * 2)
    save = partial(save_boundary, net, out / WEIGHTS)
    task = boundary_task(net, settings, dataset.background != "none")
    fit_and_save(task, images, save, out=out, seed=seed, engine=engine, name=name)
