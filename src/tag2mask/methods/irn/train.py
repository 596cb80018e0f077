"""The training of the boundary branch on refined seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from tag2mask.config.engine import Engine
from tag2mask.core.ranks import barrier, rank
from tag2mask.data.base import Dataset
from tag2mask.data.transforms import TrainTransform
from tag2mask.methods.irn.affinity import pair_counts
from tag2mask.methods.irn.data import SeedImages, Seeds, with_sure_pixels
from tag2mask.methods.irn.files import WEIGHTS, save_boundary
from tag2mask.methods.irn.loss import boundary_loss
from tag2mask.methods.irn.network import BoundaryNet, build_boundary
from tag2mask.methods.irn.settings import IrnSettings
from tag2mask.training.fit import announce, discard_checkpoint, fit
from tag2mask.training.optimisation import scheduled
from tag2mask.training.parts import PartedTraining


class BoundaryTraining(PartedTraining):
    """The training of a boundary network, by the loss over the pairs of whole batches.

    A batch is images (N, 3, H, W) and labels (N, H / 4, W / 4) uint8.

    Args:
        net: the network.
        settings: rates, parts of a batch, radius.
        seed: of the training.
    """

    def __init__(self, net: BoundaryNet, settings: IrnSettings, seed: int) -> None:
        super().__init__(settings.train, seed)
        self.net, self.settings = net, settings

    def counts(self, batch: Sequence[Tensor]) -> Tensor:
        """Pairs of each kind."""
        return pair_counts(batch[1], self.settings.radius)

    def part_loss(self, part: Sequence[Tensor], counts: Tensor) -> Tensor:
        """The loss of the part's pairs."""
        images, labels = part
        edge = torch.sigmoid(self.net(images).float())[:, 0]
        return boundary_loss(edge, labels, self.settings.radius, counts)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The branch at its rate, over the steps of the whole training."""
        schedule = self.settings.train
        group = {
            "params": self.net.branch_parameters(), "lr": schedule.lr, "weight_decay": schedule.weight_decay,
        }  # fmt: skip
        return scheduled([group], schedule, int(self.trainer.estimated_stepping_batches))


def train_boundary(
    dataset: Dataset, seeds: Seeds, settings: IrnSettings, *, out: Path, seed: int, engine: Engine, name: str = "irn"
) -> None:
    """Train a boundary network and write ``weights.safetensors``; interrupted, it goes on by itself.

    Args:
        dataset: the split that trains.
        seeds: gives the refined seeds of its samples.
        settings: network, schedule, radius; ``checkpoint`` is not looked at.
        out: folder to write into.
        seed: of the branch's first weights, order and augmentation; at least 0.
        engine: device and workers.
        name: of the stage, for messages.

    Raises:
        ConfigError: a network, device or number of processes that cannot be had.
        DataError: nothing in the refined seeds is sure, or they or an image cannot be read.
        TrainingError: the loss is no number.
        WeightsError: the initial weights do not belong to the network.
    """
    samples = with_sure_pixels(dataset.samples, seeds, name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = build_boundary(settings.backbone, len(dataset.classes))
    schedule = settings.train
    transform = TrainTransform(schedule.crop, net.mean, net.std, rescale=schedule.rescale)
    images = SeedImages(dataset, samples, seeds, transform, seed)
    moments = 2 * sum(p.numel() * p.element_size() for p in net.branch_parameters())  # at most
    announce(net, moments, len(samples), schedule.epochs, out, name)
    module = BoundaryTraining(net, settings, seed)
    fit(module, images, schedule, out=out, seed=seed, engine=engine, name=name, whole_batches=True)
    if rank() == 0:
        save_boundary(net, out / WEIGHTS)
    barrier()
    discard_checkpoint(out)
