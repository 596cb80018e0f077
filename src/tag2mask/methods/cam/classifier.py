"""The classifier on tags: training, and average precision on a held-out split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchmetrics.functional.classification import binary_average_precision

from tag2mask.backbones.network import TagNet, build_network, load_network, save_network
from tag2mask.config.engine import Engine
from tag2mask.core.errors import DataError
from tag2mask.core.files import read_json, write_json
from tag2mask.core.prefetch import prefetch
from tag2mask.core.progress import LOG
from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset
from tag2mask.data.transforms import TrainTransform, normalise, scaled
from tag2mask.methods.cam.settings import ClassifierSettings
from tag2mask.training.device import resolve_device
from tag2mask.training.fit import fit_and_save
from tag2mask.training.images import TagImages, tag_vector
from tag2mask.training.losses import multilabel_soft_margin
from tag2mask.training.settings import TrainSettings
from tag2mask.training.task import Groups, Task, parameter_groups

WEIGHTS, METRICS = "weights.safetensors", "metrics.json"


@dataclass(frozen=True, slots=True)
class ClassifierResult:
    """What a training gave, as in ``metrics.json``.

    Attributes:
        classes: class names.
        trained: for each class, whether an image of it was trained on; the others have random weights in the head.
        long_side: long side in pixels to which an image is resized for average precision.
        average_precision: percent by class, None where left out; None without a held-out split.
        left_out: classes without average precision: not trained, or without a held-out image.
    """

    classes: tuple[str, ...]
    trained: tuple[bool, ...]
    long_side: int
    average_precision: Mapping[str, float | None] | None = None
    left_out: tuple[str, ...] = ()


class ClassifierTask(Task):
    """The training of a network on tags, by the multilabel soft margin loss.

    A batch is images (N, 3, H, W) and tags (N, C).

    Args:
        net: the network; its classes that are not ``trained`` take no part in the loss.
        settings: rates and schedule.
    """

    def __init__(self, net: TagNet, settings: TrainSettings) -> None:
        super().__init__(net, settings)
        self.settings = settings
        self.class_mask: Tensor
        self.register_buffer("class_mask", torch.tensor(net.trained), persistent=False)

    def forward(self, part: Sequence[Tensor], counts: Tensor | None) -> Tensor:
        """The mean over the part's images and the trained classes."""
        images, tags = part
        return multilabel_soft_margin(self.net(images), tags, self.class_mask)

    def groups(self) -> Groups:
        """Backbone and head at their rates."""
        return parameter_groups(self.net.backbone_parameters(), self.net.head_parameters(), self.settings)


def train_classifier(
    train: Dataset,
    settings: ClassifierSettings,
    *,
    out: Path,
    seed: int,
    engine: Engine,
    val: Dataset | None = None,
    name: str = "classifier",
) -> ClassifierResult:
    """Train a classifier and write ``weights.safetensors`` and ``metrics.json``; interrupted, it goes on by itself.

    Args:
        train: the split that trains.
        settings: network, schedule, negatives.
        out: folder to write into.
        seed: of the head's first weights, order and augmentation; at least 0.
        engine: device and workers.
        val: held-out split for average precision.
        name: of the stage, for messages.

    Raises:
        ConfigError: a network, device or number of processes that cannot be had.
        DataError: no training image has a tag, or an image cannot be read.
        TrainingError: the loss is no number.
        WeightsError: the initial weights do not belong to the network.
    """
    samples = [s for s in train.samples if s.tags or settings.negatives == "keep"]
    trained = _trained(train, samples)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = build_network(settings.backbone, len(train.classes))
    net.trained = trained
    schedule = settings.train
    transform = TrainTransform(schedule.crop, net.mean, net.std, long_side=schedule.long_side)
    images = TagImages(train, samples, transform, seed)

    def save() -> None:
        save_network(net, out / WEIGHTS, train.classes)
        result = ClassifierResult(train.classes, trained, sum(schedule.long_side) // 2)
        write_json(out / METRICS, asdict(result))
        if val is not None:
            scores = average_precision(out, val, engine)
            left_out = tuple(name for name, value in scores.items() if value is None)
            write_json(out / METRICS, asdict(replace(result, average_precision=scores, left_out=left_out)))

    fit_and_save(ClassifierTask(net, schedule), images, save, out=out, seed=seed, engine=engine, name=name)
    return _read_result(out)


def average_precision(folder: Path, dataset: Dataset, engine: Engine) -> dict[str, float | None]:
    """Average precision of a trained classifier on a held-out split, whole images one at a time.

    Computed by this process alone.

    Args:
        folder: as `train_classifier` left it.
        dataset: the held-out split, of the same classes.
        engine: device.

    Returns:
        Percent by class, None for a class that was not trained or has no image here.

    Raises:
        DataError: the classes differ, or an image cannot be read.
        StageError: the folder holds no result of a training.
        WeightsError: the weights are not whole.
    """
    result = _read_result(folder)
    if dataset.classes != result.classes:
        raise DataError(
            f"split '{dataset.split}' has the classes {list(dataset.classes)}, the classifier in {folder} was trained "
            f"on {list(result.classes)}: give the classifier and the split the same data.classes"
        )
    net, _ = load_network(folder / WEIGHTS)
    logits, tags = _predict(net, dataset, result.long_side, resolve_device(engine))
    found = {
        name: _percent(logits[:, c], tags[:, c]) if trained and tags[:, c].any() else None
        for c, (name, trained) in enumerate(zip(result.classes, result.trained, strict=True))
    }
    return found


def mean_precision(scores: Mapping[str, float | None]) -> float | None:
    """Mean of the average precisions that there are, in percent; None where there is none."""
    counted = [v for v in scores.values() if v is not None]
    return sum(counted) / len(counted) if counted else None


def _percent(logits: Tensor, tags: Tensor) -> float:
    """Average precision of one class from its logits and tags, both (n,), at least one of them present."""
    return 100 * float(binary_average_precision(logits.double().sigmoid(), tags.long()))


@torch.inference_mode()
def _predict(net: TagNet, dataset: Dataset, long_side: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Logits and tags of every sample, both (n, C) on the CPU."""
    net = net.eval().to(device)
    to_tensor = normalise(net.mean, net.std)

    def prepare(sample: Sample) -> Tensor:
        image = dataset.image(sample)
        height, width = scaled(image.height, image.width, long_side / max(image.size))
        resized = image.resize((width, height), Image.Resampling.BICUBIC)  # as in training
        tensor: Tensor = to_tensor(resized).as_subclass(Tensor)
        return tensor[None]

    logits = [net(image.to(device)).cpu() for image in prefetch(prepare, dataset.samples)]
    return torch.cat(logits), torch.stack([tag_vector(s, len(dataset.classes)) for s in dataset.samples])


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


def _read_result(folder: Path) -> ClassifierResult:
    values = read_json(folder / METRICS)
    return ClassifierResult(
        tuple(values["classes"]), tuple(values["trained"]), values["long_side"], values["average_precision"],
        tuple(values["left_out"]),
    )  # fmt: skip
