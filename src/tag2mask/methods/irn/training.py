"""The training of the boundary branch on refined seeds."""

from __future__ import annotations

from collections.abc import Sequence
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
from tag2mask.training.task import Groups, Task


class BoundaryTask(Task):
    """The training of a boundary network, by the loss over the pairs of whole batches.

    A batch is images (N, 3, H, W) and labels (N, H / 4, W / 4) uint8.

    Args:
        net: the network.
        settings: rates, parts of a batch, radius.
    """

    def __init__(self, net: BoundaryNet, settings: IrnSettings) -> None:
        super().__init__(net, settings.train)
        self.radius = settings.radius

    def counts(self, batch: Sequence[Tensor]) -> Tensor:
        """Pairs of each kind."""
        return pair_counts(batch[1], self.radius)

    def forward(self, part: Sequence[Tensor], counts: Tensor | None) -> Tensor:
        """The loss of the part's pairs."""
        images, labels = part
        edge = torch.sigmoid(self.net(images).float())[:, 0]
        return boundary_loss(edge, labels, self.radius, counts)

    def groups(self) -> Groups:
        """The branch at its rate."""
        schedule = self.schedule
        return [{"params": self.net.branch_parameters(), "lr": schedule.lr, "weight_decay": schedule.weight_decay}]


def train_boundary(
    dataset: Dataset, seeds: LabelsOf, settings: IrnSettings, *, out: Path, seed: int, engine: Engine, name: str = "irn"
) -> None:
    """Train a boundary network and write ``weights.safetensors``; interrupted, it resumes.

    Args:
        dataset: the split that trains.
        seeds: gives the refined seeds of its samples.
        settings: network, schedule, radius; ``checkpoint`` is not looked at.
        out: folder to write into.
        seed: of the branch's first weights, order and augmentation; at least 0.
        engine: device and workers.
        name: of the stage, for messages.
    """
    samples = with_labels(dataset.samples, seeds, name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = build_boundary(settings.backbone, len(dataset.classes))
    schedule = settings.train
    transform = TrainTransform(schedule.crop, net.mean, net.std, rescale=schedule.rescale)
    images = LabelImages(dataset, samples, seeds, transform, seed, grid=(schedule.crop // STRIDE,) * 2)
    save = partial(save_boundary, net, out / WEIGHTS)
    fit_and_save(BoundaryTask(net, settings), images, save, out=out, seed=seed, engine=engine, name=name)
