"""CAM in the pipeline: the classifier is trained and measured, and its maps are made."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tag2mask.backbones.build import check_network
from tag2mask.backbones.files import WEIGHTS, load_network, trained_side
from tag2mask.core.errors import DataError
from tag2mask.core.files import write_json
from tag2mask.core.progress import LOG
from tag2mask.data.base import Dataset
from tag2mask.evaluation.result_tables import METRICS, MetricRow, now, write_metrics
from tag2mask.inference.multiscale import CAMHead
from tag2mask.inference.raw_scores import CellLogits, RawScores, logit_unit
from tag2mask.inference.settings import MapsSettings
from tag2mask.methods.cam.classifier import average_precision, mean_precision
from tag2mask.methods.cam.kinds import ClassifierSettings, PrecisionSettings
from tag2mask.methods.cam.training import train_classifier
from tag2mask.methods.context import MapsProgram, StageContext


def train(context: StageContext[ClassifierSettings]) -> None:
    """Train the classifier on the tags of the training split; writes its weights.

    Raises:
        TrainingError: the loss is NaN or infinite.
        WeightsError: the initial weights do not fit the backbone.
    """
    train_classifier(
        context.dataset,
        context.settings,
        out=context.out,
        seed=context.seed,
        engine=context.engine,
        name=context.name,
    )


def check_data(settings: ClassifierSettings, dataset: Dataset) -> Sequence[str]:
    """Check that the tags can be learned, and that the network with its first weights is available.

    Returns:
        A line for the classes that every training image has: there is nothing to distinguish them from.

    Raises:
        ConfigError: the network is not available.
        DataError: no training image has a tag.
        WeightsError: weights of another network or number of classes.
    """
    check_network(settings.backbone, len(dataset.classes))
    samples = [s for s in dataset.samples if s.tags or settings.negatives == "keep"]
    if not any(s.tags for s in samples):
        raise DataError(f"no image of split '{dataset.split}' has a tag: a classifier has nothing to learn")
    always = [name for c, name in enumerate(dataset.classes) if all(c in s.tags for s in samples)]
    if not always:
        return ()
    dropped = len(dataset) - len(samples)
    remedy = (
        f"with negatives=keep of this stage take the {dropped} images without any tag too"
        if dropped
        else "add images without it: an empty tag cell, or a sub-folder named background, says that none is there"
    )
    names = ", ".join(f"'{name}'" for name in always)
    return (
        f"all {len(samples)} images that train are tagged {names}, and none is without: a classifier cannot learn what "
        f"distinguishes it, and its maps mean nothing.  Stop, and {remedy}",
    )


def program(context: StageContext[MapsSettings]) -> MapsProgram:
    """Eq. 1 on the classifier's features; raw scores are the logits of the cells."""
    folder = context.reads["classifier"].path
    network, _ = load_network(folder / WEIGHTS)
    with torch.no_grad():
        weights = network.class_weights()
        logits = CellLogits(weights, network.class_bias().detach())
        raw = RawScores(logits, logit_unit, len(weights)) if context.settings.raw else None
        return MapsProgram(network, CAMHead(weights), raw, trained_side(folder))


def measure(context: StageContext[PrecisionSettings]) -> None:
    """Average precision of the classifier for each class, on a held-out split."""
    dataset = context.split
    if context.rank != 0:
        return
    if dataset is None:
        LOG.info("%s: the data has no held-out split; nothing is measured", context.name)
        write_metrics(context.out / METRICS, [])
        return
    source = context.reads["classifier"]
    found = average_precision(source.path, dataset, context.engine)
    write_json(context.out / "average-precision.json", found)
    named = {"map": mean_precision(found), **{f"ap/{name}": value for name, value in found.items()}}
    rows = [_precision_row(context, dataset, metric, value) for metric, value in named.items()]
    write_metrics(context.out / METRICS, rows)


def _precision_row(
    context: StageContext[PrecisionSettings], dataset: Dataset, metric: str, value: float | None
) -> MetricRow:
    source = context.reads["classifier"]
    return MetricRow(
        source.name, source.base_name, dataset.split, len(dataset), metric, value, None, "none", context.seed, now()
    )
