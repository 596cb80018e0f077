"""The second stage in the pipeline: a network is trained on masks, and segments images image by image."""

from __future__ import annotations

from collections.abc import Sequence, Set

import torch

from tag2mask.backbones.files import WEIGHTS
from tag2mask.core.errors import ConfigError, WeightsError
from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset, Labels
from tag2mask.methods.context import ImageProgram, StageContext
from tag2mask.segmentation.networks.factory import build_segmenter, check_network, load_segmenter
from tag2mask.segmentation.predict.labeller import Labeller, at_once
from tag2mask.segmentation.predict.logits import LoadedNetwork
from tag2mask.segmentation.predict.options import PredictionSettings
from tag2mask.segmentation.predict.photo_readers import DatasetPhoto
from tag2mask.segmentation.settings import SegmenterSettings
from tag2mask.segmentation.training import train_segmenter
from tag2mask.segmentation.training_data import no_truth, truth_of
from tag2mask.training.device import resolve_device


def check(settings: SegmenterSettings, roles: Set[str]) -> None:
    """Find what is wrong with a network before hours are spent on its masks.

    Raises:
        ConfigError: masks are read although ground truth trains, or neither is there; an unknown encoder.
        WeightsError: weights that the encoder does not have, or a file that cannot be read or is another network's.
    """
    if ("masks" in roles) == settings.truth:
        found = "both truth = true and reads.masks" if settings.truth else "neither truth = true nor reads.masks"
        raise ConfigError(
            f"{found}: a segmenter trains on one of them. Name a stage of pseudo-masks (reads.masks=STAGE), or set "
            f"truth=true"
        )
    check_network(settings.network)


def check_data(settings: SegmenterSettings, dataset: Dataset) -> Sequence[str]:
    """See that the network can be built with its first weights, and that there is ground truth where it should train.

    Raises:
        ConfigError: a network that cannot be built.
        DataError: ground truth should train, and there is none.
        WeightsError: weights of another network.
    """
    with torch.random.fork_rng(devices=[]):
        build_segmenter(settings.network, len(dataset.classes), dataset.background != "none")
    if settings.truth and not dataset.has_truth:
        raise no_truth(dataset)
    return ()


def train(context: StageContext[SegmenterSettings]) -> None:
    """Train a network on the masks that are read, or on ground truth; writes its weights.

    Raises:
        DataError: every pixel of the masks is ignored, or they do not belong to the images.
        StageError: the mask of an image is missing.
        TrainingError: the loss is NaN or infinite.
        WeightsError: the initial weights do not fit the network.
    """
    settings = context.settings
    source = context.reads.get("masks")
    dataset = context.dataset
    if source is None:
        samples, masks = truth_of(dataset, context.name)
    else:
        artefact, samples = source, list(dataset.samples)

        def masks(sample: Sample) -> Labels:
            return artefact.labels(dataset, sample)

    train_segmenter(
        dataset, masks, settings,
        out=context.out, seed=context.seed, engine=context.engine, name=context.name, samples=samples,
    )  # fmt: skip


def program(context: StageContext[PredictionSettings]) -> ImageProgram:
    """Labels of each photo by the network, whatever its tags say: those that `tag2mask predict` gives it.

    Raises:
        StageError: the data has no held-out split, and the settings name none.
        WeightsError: the network's file is damaged, or it has other classes than the data.
    """
    settings = context.settings
    device = resolve_device(context.engine)
    path = context.reads["segmenter"].path / WEIGHTS
    net, classes = load_segmenter(path)
    dataset = context.dataset
    check_classes(classes, dataset.classes, str(path))
    labeller = Labeller(LoadedNetwork.of(net.to(device), classes), settings.options())

    def prepare(sample: Sample) -> DatasetPhoto:
        photo = DatasetPhoto(dataset, sample)
        if at_once(photo.size):  # larger ones are decoded when it is their turn, one at a time
            _ = photo.pixels
        return photo

    def compute(photos: Sequence[DatasetPhoto]) -> list[Labels]:
        return [labeller.labels([photo])[0] for photo in photos]

    return ImageProgram(prepare, compute)


def check_classes(own: Sequence[str], data: Sequence[str], source: str) -> None:
    """Refuse a network of other classes than the data's, or of another order; the error names the first difference."""
    if tuple(own) == tuple(data):
        return
    first = next((i for i, (a, b) in enumerate(zip(own, data, strict=False)) if a != b), min(len(own), len(data)))
    named = [names[first] if first < len(names) else "none" for names in (own, data)]
    raise WeightsError(
        f"{source} is a network for {len(own)} classes, the data has {len(data)}; class {first + 1} is '{named[0]}' "
        f"there and '{named[1]}' here. Use a network trained on these classes, or set data.classes to its own"
    )
