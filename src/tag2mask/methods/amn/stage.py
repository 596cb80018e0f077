"""AMN in the pipeline: trained on refined seeds, its maps, and its features for LPCAM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tag2mask.backbones.build import build_network
from tag2mask.backbones.files import WEIGHTS, save_network
from tag2mask.backbones.folded import for_inference
from tag2mask.core.errors import ConfigError
from tag2mask.core.progress import LOG
from tag2mask.core.types import ActivationMaps, Sample
from tag2mask.data.base import Dataset
from tag2mask.data.transforms import scaled
from tag2mask.evaluation.background import CONSTANT, rule_on
from tag2mask.inference.maps_file import stride4
from tag2mask.inference.runner import image_tensor
from tag2mask.methods.amn.maps import class_maps, image_logits
from tag2mask.methods.amn.network import AmnNet, build_amn, load_amn, load_official, plain_weights, save_amn
from tag2mask.methods.amn.settings import AmnFeaturesSettings, AmnMapsSettings, AmnSettings
from tag2mask.methods.amn.training import train_amn
from tag2mask.methods.context import ImageProgram, StageContext
from tag2mask.training.device import resolve_device
from tag2mask.training.images import tag_vector
from tag2mask.training.label_images import at_grid, check_size


def train(context: StageContext[AmnSettings]) -> None:
    """Train AMN on the refined seeds, or take the authors' own; writes its weights.

    A classifier of the role ``first`` gives the backbone's first weights: it has learned these classes already, so that
    fewer steps do. As published they are ImageNet's.

    Raises:
        DataError: the refined seeds do not belong to the images or their tags, or every pixel of them is ignored.
        StageError: the refined seeds of an image are missing.
        TrainingError: the loss is NaN or infinite.
        WeightsError: initial weights or checkpoint do not fit the network or the classes.
    """
    settings = context.settings
    dataset, seeds = context.dataset, context.reads["seeds"]
    if settings.checkpoint is None:
        first = context.reads["first"].path / WEIGHTS if "first" in context.reads else None
        train_amn(
            dataset, partial(seeds.labels, dataset), settings, first=first,
            out=context.out, seed=context.seed, engine=context.engine, name=context.name,
        )  # fmt: skip
    elif context.rank == 0:
        net = load_official(settings.checkpoint, settings, len(dataset.classes))
        LOG.info(
            "%s: not trained, taken from %s, which its authors trained on refined seeds from tags",
            context.name, settings.checkpoint,
        )  # fmt: skip
        save_amn(net, context.out / WEIGHTS, dataset.classes)


def check_data(settings: AmnSettings, dataset: Dataset) -> Sequence[str]:
    """Check that the network with its first weights is available, or that AMN's own be read.

    Raises:
        ConfigError: the network is not available, or the smoothing too strong.
        WeightsError: weights or a checkpoint of another network or number of classes.
    """
    with torch.random.fork_rng(devices=[]):
        if settings.checkpoint is not None:
            load_official(settings.checkpoint, settings, len(dataset.classes))
        else:
            build_amn(settings, len(dataset.classes))
    return ()


@dataclass(frozen=True, slots=True)
class AmnInput:
    """What the maps of one image need.

    Attributes:
        sample: the image and its tags.
        size: (height, width) of the maps.
        images: (3, H, W) for each scale, normalised; none for an image without tags, whose network passes are spared.
        background: (height, width) bool, background in the refined seeds; None where they are not needed.
    """

    sample: Sample
    size: tuple[int, int]
    images: Sequence[Tensor]
    background: NDArray[np.bool_] | None


def check_maps(settings: AmnMapsSettings, roles: frozenset[str]) -> None:
    """See that the normalisation has what it needs.

    Raises:
        ConfigError: ``background-prior`` without refined seeds.
    """
    if settings.normalise == "background-prior" and "seeds" not in roles:
        raise ConfigError(
            "normalise = background-prior needs refined seeds, but reads.seeds is not set: name a stage of kind "
            "refined-seeds, or set normalise to minmax or learned"
        )


def program(context: StageContext[AmnMapsSettings]) -> ImageProgram:
    """Maps of each image, in settings and roles that `check_maps` has seen.

    Raises:
        WeightsError: AMN's file is damaged. Preparing an image raises what reading it and its refined seeds raises.
    """
    settings = context.settings
    seeds = context.reads.get("seeds")
    prior, competes = settings.normalise == "background-prior", rule_on(context.background, CONSTANT).competes
    net, classes = load_amn(context.reads["amn"].path / WEIGHTS)
    device, dataset = resolve_device(context.engine), context.dataset
    net = for_inference(net, device)

    def prepare(sample: Sample) -> AmnInput:
        image = dataset.image(sample)
        full = image.height, image.width
        size = stride4(*full)
        if not sample.tags:
            return AmnInput(sample, size, (), None)
        background = None
        if prior and seeds is not None:
            labels = seeds.labels(dataset, sample)
            check_size(labels, image, sample)
            background = at_grid(torch.from_numpy(labels == 0), *size).numpy()
        images = [image_tensor(image, scaled(*full, s), net.mean, net.std) for s in settings.scales]
        return AmnInput(sample, size, images, background)

    @torch.inference_mode()
    def compute(inputs: Sequence[AmnInput]) -> list[ActivationMaps]:
        return [_maps(net, entry, len(classes), settings, device, competes) for entry in inputs]

    return ImageProgram(prepare, compute)


def _maps(
    net: AmnNet, entry: AmnInput, n_classes: int, settings: AmnMapsSettings, device: torch.device, competes: bool
) -> ActivationMaps:
    columns = entry.sample.tags
    if not columns:
        return ActivationMaps((), torch.zeros(0, *entry.size))
    tags = tag_vector(entry.sample, n_classes).to(device)
    images = (image.to(device, non_blocking=True) for image in entry.images)
    bfloat16 = settings.precision == "bfloat16"
    merged = image_logits(net, images, tags, entry.size, mirror=settings.mirror, bfloat16=bfloat16)
    background = None if entry.background is None else torch.from_numpy(entry.background).to(device)
    maps = class_maps(merged, torch.tensor(columns, device=device), settings.normalise, background, competes)
    return ActivationMaps(columns, maps.cpu())


def features(context: StageContext[AmnFeaturesSettings]) -> None:
    """Write AMN's backbone under a linear classifier made of its head, in the form of a classifier's weights.

    Raises:
        ConfigError: features before the last are conditioned.
        WeightsError: AMN's file is damaged.
    """
    if context.rank != 0:
        return
    amn, classes = load_amn(context.reads["amn"].path / WEIGHTS)
    backbone = amn.settings.backbone.model_copy(update={"weights": "none"})
    with torch.random.fork_rng(devices=[]):
        net = build_network(backbone, len(classes))
    weights = plain_weights(amn)
    net.body.load_state_dict(amn.body.state_dict())
    with torch.no_grad():
        net.head.weight.copy_(weights[:, :, None, None])
        # A bias, which joined levels bring, is 0 from the beginning, and `plain_weights` leaves biases out.
    save_network(net, context.out / WEIGHTS, classes)
