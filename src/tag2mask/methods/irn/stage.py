"""IRN in the pipeline: the boundary network is trained on refined seeds, and maps walk along its boundaries."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tag2mask.backbones.files import WEIGHTS
from tag2mask.core.progress import LOG
from tag2mask.core.types import IGNORE, ActivationMaps, Sample
from tag2mask.data.base import Dataset
from tag2mask.evaluation.threshold_rules.by_seeds import best_agreement
from tag2mask.inference.runner import image_tensor
from tag2mask.methods.context import ImageProgram, StageContext
from tag2mask.methods.irn.network import boundary_map, build_boundary, load_boundary, load_official, save_boundary
from tag2mask.methods.irn.settings import IrnSettings, WalkSettings
from tag2mask.methods.irn.training import train_boundary
from tag2mask.refine.pixels.model import load_pixels
from tag2mask.refine.walk import random_walk
from tag2mask.training.device import resolve_device
from tag2mask.training.label_images import at_grid


def train(context: StageContext[IrnSettings]) -> None:
    """Train the boundary network on the refined seeds, or take IRN's own; writes its weights.

    Where every class of the data has a pixel model nothing walks (see `walked_without`): then the network is written as
    it begins, and says so.

    Raises:
        DataError: every pixel of the refined seeds is ignored.
        StageError: the refined seeds of an image are missing.
        TrainingError: the loss is NaN or infinite.
        WeightsError: initial weights or checkpoint do not fit the network.
    """
    settings = context.settings
    if settings.checkpoint is not None:
        if context.rank == 0:
            net = load_official(settings.checkpoint, settings.backbone)
            LOG.info(
                "%s: not trained, taken from %s, which its authors trained on refined seeds from VOC's tags",
                context.name, settings.checkpoint,
            )  # fmt: skip
            save_boundary(net, context.out / WEIGHTS)
        return
    dataset, seeds = context.dataset, context.reads["seeds"]
    if thin_classes(context).issuperset(range(len(dataset.classes))):
        if context.rank == 0:
            LOG.info("%s: not trained: every class has a model of its pixels, whose maps do not walk", context.name)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(context.seed)
                save_boundary(build_boundary(settings.backbone, len(dataset.classes)), context.out / WEIGHTS)
        return
    train_boundary(
        dataset, lambda sample: seeds.labels(dataset, sample), settings,
        out=context.out, seed=context.seed, engine=context.engine, name=context.name,
    )  # fmt: skip


def thin_classes(context: StageContext[Any]) -> frozenset[int]:
    """The class columns that have a pixel model; none where the stage reads no models."""
    if "pixels" not in context.reads:
        return frozenset()
    return frozenset(load_pixels(context.reads["pixels"].path / WEIGHTS, context.dataset.classes).columns)


def check_data(settings: IrnSettings, dataset: Dataset) -> Sequence[str]:
    """Check that the network with its first weights is available, or that IRN's own be read.

    Raises:
        ConfigError: the network is not available.
        WeightsError: weights or a checkpoint of another network.
    """
    with torch.random.fork_rng(devices=[]):
        if settings.checkpoint is not None:
            load_official(settings.checkpoint, settings.backbone)
        else:
            build_boundary(settings.backbone, len(dataset.classes))
    return ()


@dataclass(frozen=True, slots=True)
class WalkInput:
    """What the walk of one image needs.

    Attributes:
        image: (3, H, W), normalised; None for an image without a class that walks, whose network pass is spared.
        maps: (K, ceil(H / 4), ceil(W / 4)).
        seeds: (ceil(H / 4), ceil(W / 4)) uint8, refined seeds that the walk must keep to; None without.
    """

    image: Tensor | None
    maps: ActivationMaps
    seeds: Tensor | None = None


def program(context: StageContext[WalkSettings]) -> ImageProgram:
    """Boundary map of each image, and its maps after the walk along it.

    Raises:
        WeightsError: the boundary network's file is damaged. Preparing an image raises what reading it and its maps
            raises, which names the image.
    """
    settings = context.settings
    device = resolve_device(context.engine)
    net = load_boundary(context.reads["irn"].path / WEIGHTS).to(device).to(memory_format=torch.channels_last)
    dataset, source = context.dataset, context.reads["maps"]
    thin = thin_classes(context)

    def prepare(sample: Sample) -> WalkInput:
        maps = source.maps(dataset, sample)
        if thin.issuperset(sample.tags):
            return WalkInput(None, maps)
        image = dataset.image(sample)
        seeds = None
        if "seeds" in context.reads:
            seeds = at_grid(torch.from_numpy(context.reads["seeds"].labels(dataset, sample)), *maps.maps.shape[1:])
        return WalkInput(image_tensor(image, (image.height, image.width), net.mean, net.std), maps, seeds)

    @torch.inference_mode()
    def compute(inputs: Sequence[WalkInput]) -> list[ActivationMaps]:
        return [one(entry) for entry in inputs]

    def one(entry: WalkInput) -> ActivationMaps:
        if entry.image is None:
            return entry.maps
        edge = boundary_map(net, entry.image.to(device), settings.mirror, settings.pad)
        maps = ActivationMaps(entry.maps.classes, entry.maps.maps.to(device))
        result = walked_without(thin, maps, edge, settings)
        return result if entry.seeds is None else kept_to(entry.seeds, entry.maps, result, settings.agreement)

    return ImageProgram(prepare, compute)


def walked_without(thin: Collection[int], maps: ActivationMaps, edge: Tensor, settings: WalkSettings) -> ActivationMaps:
    """As `walked`, the maps of some classes left as they are.

    A thing no wider than a few cells of the grid is all boundary: a walk takes its map away, or spreads what is left.

    Args:
        thin: class columns whose maps stay.
        maps: as for `walked`; so are the others.
        edge: likewise.
        settings: of the walk.
    """
    others = [k for k, column in enumerate(maps.classes) if column not in thin]
    if len(others) == len(maps.classes):
        return walked(maps, edge, settings)
    result = maps.maps.float().cpu().clone()
    if others:
        chosen = ActivationMaps(tuple(maps.classes[k] for k in others), maps.maps[others])
        result[others] = walked(chosen, edge, settings).maps.float()
    return ActivationMaps(maps.classes, result)


def kept_to(seeds: Tensor, before: ActivationMaps, after: ActivationMaps, agreement: float) -> ActivationMaps:
    """Maps after the walk, those of classes that it spoils as they were before it.

    Where the network has learned no boundaries of a thing, as of a few cells or from a few steps, the walk carries its
    map over the image or takes it away. What is confident of a class has to be so after the walk. A map that disagrees
    with the seeds somewhat more may be the better one, they are cut from the maps before the walk: hence a share.

    Args:
        seeds: (h, w) uint8, refined seeds on the maps' grid: 0 background, class column + 1, 255 ignored. A class of
            which they hold nothing stays as it was.
        before: (K, h, w).
        after: of the same classes.
        agreement: the share of its `agreements` with the seeds that a class has to keep.
    """
    was, now = (agreements(seeds, maps) for maps in (before, after))
    walks = (now > 0) & (now >= agreement * was)
    return ActivationMaps(after.classes, torch.where(walks[:, None, None], after.maps, before.maps.to(after.maps)))


def agreements(seeds: Tensor, maps: ActivationMaps) -> Tensor:
    """(K,) IoU of each class's map (h, w) with its confident pixels in ``seeds`` (h, w), at the best threshold.

    A walk changes the scale of a map, so each is judged at the threshold that suits it. Seeds without background are of
    data without it, where classes compete with each other alone and nothing is cut.
    """
    if not len(maps.maps):
        return torch.zeros(0)
    values, labels = maps.maps.float().cpu().numpy(), seeds.numpy()
    sure, highest, cut = labels != IGNORE, values.argmax(0), bool((labels == 0).any())
    found = []
    for place, column in enumerate(maps.classes):
        here, own = sure & (highest == place), labels == column + 1
        scores = values[place][here] if cut else np.zeros(int(here.sum()), np.float32)
        found.append(best_agreement(scores, own[here], int(own.sum())))
    return torch.tensor(found, dtype=torch.float64)


def walked(maps: ActivationMaps, edge: Tensor, settings: WalkSettings) -> ActivationMaps:
    """Maps after the random walk, divided by the largest value of them all.

    Published maps are divided after they were resized to the image, whose largest value is a little smaller.

    Args:
        maps: (K, h, w) in [0, 1] at stride 4.
        edge: (h, w) in [0, 1], boundary probability, on the same device.
        settings: of the walk.

    Returns:
        The same classes, (K, h, w) float32. The largest value of all maps together is 1; maps that are zero
        everywhere stay zero.

    Raises:
        DataError: the sizes differ, or ``edge`` is not in [0, 1].
    """
    if not len(maps.maps):
        return maps
    values = random_walk(maps.maps**settings.power, edge, settings.radius, settings.beta, settings.log2_steps)
    peak = values.amax()
    return ActivationMaps(maps.classes, torch.where(peak > 0, values / peak, 0).cpu())
