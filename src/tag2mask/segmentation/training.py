"""Trains a segmentation network on masks, for the stage `segmenter`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from tag2mask.backbones.files import WEIGHTS
from tag2mask.config.engine import Engine
from tag2mask.core.processes.ranks import world_size
from tag2mask.core.progress import LOG
from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset
from tag2mask.segmentation.networks.base import Segmenter, has_norms, synchronise
from tag2mask.segmentation.networks.factory import build_segmenter, save_segmenter
from tag2mask.segmentation.settings import SegmenterSettings, SegmentTrainSettings
from tag2mask.segmentation.training_data import SegmentTransform
from tag2mask.training.device import resolve_device
from tag2mask.training.fit import fit_and_save
from tag2mask.training.label_images import LabelImages, LabelsOf, at_grid, checked, with_labels
from tag2mask.training.losses import pixel_counts, pixel_loss
from tag2mask.training.task import Batch, Task, rate_factor

_FROM = 1e-6
"""What multiplies the rates in the first step of a warm-up."""
_BOTH_SIDES = 2.0
"""`pixel_loss` balances by the mean of two means; DSRG and AdvCAM take their sum, for which their rate is meant."""


def segmenter_task(net: Segmenter, schedule: SegmentTrainSettings) -> Task:
    """The training of a network by the cross-entropy over the pixels of whole batches.

    A batch is images (N, 3, H, W) and masks (N, H, W) uint8, 255 where nothing is to be learned.
    """

    def counts(batch: Batch) -> Tensor:
        height, width = batch[1].shape[-2:]
        return output_counts(batch[1], net.grids(height, width))

    def loss(part: Batch, counted: Tensor | None) -> Tensor:
        images, labels = part
        first = 0 if net.background else 1
        return segmentation_loss(net.train_outputs(images), labels, schedule.balanced, counted, first)

    return Task(net, schedule, net.parameter_groups(schedule), loss, counts, segment_rate)


def segment_rate(settings: SegmentTrainSettings, steps: int) -> Callable[[int], float]:
    """What multiplies the rates at step t = 0 .. steps - 1.

    ``(1 - t' / steps)^poly_power`` with t' the last multiple of ``hold``, times ``1 - (1 - t / warmup) (1 - 1e-6)``
    while t is below ``warmup``.
    """
    plain = rate_factor(settings, steps)

    def factor(step: int) -> float:
        value = plain(step - step % settings.hold)
        return value * (1 - (1 - step / settings.warmup) * (1 - _FROM)) if step < settings.warmup else value

    return factor


def train_segmenter(
    dataset: Dataset,
    masks: LabelsOf,
    settings: SegmenterSettings,
    *,
    out: Path,
    seed: int,
    engine: Engine,
    name: str = "segmenter",
    samples: Sequence[Sample] | None = None,
) -> None:
    """Train a network on ``masks`` of the split's ``samples`` (None: all) and write its weights; resumes.

    The seed decides the head's first weights, order, augmentation and dropout.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = build_segmenter(settings.network, len(dataset.classes), dataset.background != "none")
    net.max_side, net.min_side = dataset.max_side, dataset.min_side
    masks = checked(masks, dataset.classes)
    learned = with_labels(dataset.samples if samples is None else samples, masks, name)
    schedule = settings.train.for_images(len(learned))
    _share_norms(net, engine, name)
    images = LabelImages(dataset, learned, masks, SegmentTransform(schedule, net.mean, net.std), seed)
    LOG.info("%s: %s on %s, first weights: %s", name, settings.network.kind, settings.network.encoder, net.initial)
    save = partial(save_segmenter, net, out / WEIGHTS, dataset.classes)
    task = segmenter_task(net, schedule)
    fit_and_save(task, images, save, out=out, seed=seed, engine=engine, name=name, steps=schedule.iterations)


def _share_norms(net: Segmenter, engine: Engine, name: str) -> None:
    """Batch norms of several processes count together on GPUs; elsewhere each counts for itself, which is said."""
    parts = net.trained_norms()
    if world_size() == 1 or not any(has_norms(part) for part in parts):
        return
    if resolve_device(engine).type != "cuda":
        LOG.warning(
            "%s: the batch norms of %s see the images of one of %d processes at a time: results depend on their "
            "number. On GPUs they are synchronised; kind=fpn has none", name, net.settings.kind, world_size(),
        )  # fmt: skip
        return
    for part in parts:
        synchronise(part)


def output_counts(labels: Tensor, grids: Sequence[tuple[int, int]]) -> Tensor:
    """(number of outputs, 2) int64: pixels of background and of foreground that each output is compared with.

    ``labels`` are (N, H, W) uint8: 0 background, c + 1 class c, 255 ignored or padded; ``grids`` rows and columns of
    each output.
    """
    return torch.stack([pixel_counts(at_grid(labels, *grid)) for grid in grids])


def segmentation_loss(
    outputs: Sequence[tuple[float, Tensor]],
    labels: Tensor,
    balanced: bool = False,
    counts: Tensor | None = None,
    first: int = 0,
) -> Tensor:
    """The weighted sum of the outputs' cross-entropies; pixels of 255 take no part, and without others it is 0.

    Labels are brought to an output's size by Pillow's nearest. Pixels are counted over all processes, and over the
    whole batch where it is computed in parts: the parts' losses add up, they are not to be averaged. The mean of what
    each process gives is the loss.

    Args:
        outputs: weight and logits (N, C + 1, h, w) of each output, background first.
        labels: (N, H, W) uint8, as in `output_counts`.
        balanced: the mean over background pixels plus the mean over foreground pixels (DSRG, AdvCAM); else one mean.
        counts: `output_counts` of all parts of this process's batch; None where this part is all of it.
        first: label of the first score: 0, or 1 where there is no background, and logits are (N, C, h, w).
    """
    if counts is None:
        counts = output_counts(labels, [(logits.shape[-2], logits.shape[-1]) for _, logits in outputs])
    factor = _BOTH_SIDES if balanced else 1.0
    terms = [
        factor * weight * pixel_loss(logits, at_grid(labels, *logits.shape[-2:]), 0.0, balanced, count, first)
        for (weight, logits), count in zip(outputs, counts, strict=True)
    ]
    return torch.stack(terms).sum()
