"""Trains the classifier on tags, for the stage `classifier`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from tag2mask.backbones.build import build_network
from tag2mask.backbones.files import METRICS_JSON, WEIGHTS, save_network
from tag2mask.backbones.tagnet import TagNet
from tag2mask.config.engine import Engine
from tag2mask.core.errors import DataError
from tag2mask.core.files import write_json
from tag2mask.core.progress import LOG
from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset
from tag2mask.data.transforms import TrainTransform
from tag2mask.methods.cam.classifier import predict
from tag2mask.methods.cam.kinds import ClassifierSettings
from tag2mask.training.fit import fit_and_save
from tag2mask.training.images import TagImages
from tag2mask.training.losses import multilabel_soft_margin
from tag2mask.training.plateau import Plateau, held_out
from tag2mask.training.settings import StopSettings, TrainSettings
from tag2mask.training.task import Batch, Task, parameter_groups


def classifier_task(net: TagNet, settings: TrainSettings, plateau: Plateau | None = None) -> Task:
    """The training on tags, by the mean multilabel soft margin loss over images and the classes that are trained.

    A batch is images (N, 3, H, W) and tags (N, C). A plateau ends it, where there is one.
    """
    trained = torch.tensor(net.trained)

    def loss(part: Batch, _counts: Tensor | None) -> Tensor:
        images, tags = part
        return multilabel_soft_margin(net(images), tags, trained.to(tags.device))

    groups = parameter_groups(net.backbone_parameters(), net.head_parameters(), settings)
    return Task(net, settings, groups, loss, plateau=plateau)


def train_classifier(
    train: Dataset, settings: ClassifierSettings, *, out: Path, seed: int, engine: Engine, name: str = "classifier"
) -> None:
    """Train a classifier and write ``weights.safetensors`` and ``metrics.json``; interrupted, it resumes.

    Called by the stage ``classifier``. ``seed``, at least 0, is that of the head's first weights, order and
    augmentation.
    """
    samples = [s for s in train.samples if s.tags or settings.negatives == "keep"]
    trained = _trained(train, samples)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = build_network(settings.backbone, len(train.classes), settings.pooling)
    net.trained = trained
    learned, held = _parted(samples, settings.train.stop, seed, name)
    schedule = settings.train.for_images(len(learned))
    transform = TrainTransform(schedule.crop, net.mean, net.std, long_side=schedule.long_side)
    images = TagImages(train, learned, transform, seed)
    plateau = None
    if held and schedule.stop is not None:
        measured = partial(held_out_loss, net, train, held, sum(schedule.long_side) // 2)
        plateau = Plateau(schedule.stop, schedule, len(learned), measured)

    def save() -> None:
        save_network(net, out / WEIGHTS, train.classes)
        # The last two are of a time when a training measured itself: the file's bytes are part of keys.
        about = {"classes": train.classes, "trained": trained, "long_side": sum(schedule.long_side) // 2}
        write_json(out / METRICS_JSON, {**about, "average_precision": None, "left_out": ()})

    fit_and_save(classifier_task(net, schedule, plateau), images, save, out=out, seed=seed, engine=engine, name=name)


def _parted(
    samples: Sequence[Sample], stop: StopSettings | None, seed: int, name: str
) -> tuple[Sequence[Sample], Sequence[Sample]]:
    """The images that train, and those held out to end the training: none where it ends after its epochs."""
    if stop is None:
        return samples, ()
    learned, held = held_out(samples, stop.held_out, seed)
    if not any(sample.tags for sample in held):
        LOG.warning(
            "%s: too few images of each class to hold some out (train.stop), so it ends after its epochs; "
            "train.min_steps is the least number of steps", name,
        )  # fmt: skip
        return samples, ()
    return learned, held


@torch.no_grad()
def held_out_loss(net: TagNet, dataset: Dataset, samples: Sequence[Sample], long_side: int) -> float:
    """The loss of the training on whole images, without augmentation; leaves the network in evaluation mode."""
    logits, tags = predict(net, dataset, samples, long_side, next(net.parameters()).device)
    return float(multilabel_soft_margin(logits.float(), tags, torch.tensor(net.trained)))


def _trained(train: Dataset, samples: Sequence[Sample]) -> tuple[bool, ...]:
    """Which classes have an image; those that have none are logged."""
    present = {c for s in samples for c in s.tags}
    if not present:
        raise DataError(f"no image of split '{train.split}' has a tag: a classifier has nothing to learn")
    absent = [name for c, name in enumerate(train.classes) if c not in present]
    if absent:
        LOG.warning(
            "%d of %d classes have no image in split '%s' and are left out of the training: %s",
            len(absent), len(train.classes), train.split, ", ".join(absent),
        )  # fmt: skip
    return tuple(c in present for c in range(len(train.classes)))
