"""Decides whether the data has a background, for ``data.background=auto``, before anything is cut.

It says that there is none on strong evidence alone: all images have a tag, and in those with one tag every cell tells
which class it is (`cell_evidence`), by colours and the first layers of the network with ImageNet weights out of pip.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from tag2mask.backbones.build import build_network
from tag2mask.backbones.hooks import evaluating, listening
from tag2mask.backbones.levels import stage_places
from tag2mask.backbones.settings import BackboneSettings
from tag2mask.backbones.tagnet import TagNet
from tag2mask.core.prefetch import prefetch
from tag2mask.core.progress import LOG, Counter, progress
from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset
from tag2mask.inference.runner import image_tensor
from tag2mask.methods.artefact import Decided
from tag2mask.methods.context import StageContext
from tag2mask.thresholds.cell_evidence import FOLDS, ImageCells, parted, placed
from tag2mask.thresholds.kinds import BackgroundSettings, single_tagged

LEAST = 0.85
"""Share of cells, of the two classes that are parted worst, that have to tell their class: balanced, of unseen images.
Measured: 0.89 on land use from above; 0.42 to 0.69 on photographs of animals, crops with weeds, and drawn toys; 0.80
on objects photographed on plain ground of another colour for each class."""
ANYWHERE = 0.7
"""Share of cells up to which it does not show where in the image they lie: photographs have a middle, a sky, a ground.
Measured: 0.56 on land use; 0.66 to 0.99 on the others."""
_STAGES = (1, 2)
"""Of the network, at strides 4 and 8: they see some 40 pixels around."""
_SIDE, _STRIDE, _AROUND = 224, 16, 32
"""Longest side at which images are looked at, pixels of a cell, and what is mirrored around the image, in pixels."""


def decide(context: StageContext[BackgroundSettings]) -> None:
    """Write whether the data has a background, and why.

    Raises:
        DataError: an image cannot be read.
        WeightsError: the bundled weights are damaged.
    """
    if context.rank != 0:
        return
    dataset = context.dataset
    found = by_tags(dataset) or by_cells(dataset, context.name, context.settings)
    found.write(context.out)
    LOG.info("%s: %s", context.name, found.text)


def by_tags(dataset: Dataset) -> Decided | None:
    """What the tags alone settle: that there is a background; None where they settle nothing."""
    untagged = sum(not s.tags for s in dataset.samples)
    if untagged:
        return Decided("present", f"{untagged} of {len(dataset)} images have no tag, so there are pixels of no class")
    alone = Tally(s.tags[0] for s in dataset.samples if len(s.tags) == 1)
    shown = {c for s in dataset.samples for c in s.tags}
    several = [c for c, count in alone.items() if count >= FOLDS]
    count = sum(alone[c] for c in several)
    if len(several) < max(2, len(shown) / 2) or count < _ENOUGH:
        what = f"{count} images of {len(several)} classes show one class alone, and {FOLDS} or more each"
        return Decided("present", f"{what}, too few of {len(dataset)} images and {len(shown)} classes to tell")
    return None


_ENOUGH = 12
"""Images with one tag of such classes that it takes: fewer say too little."""
_SETTINGS = BackgroundSettings()


def by_cells(dataset: Dataset, name: str, settings: BackgroundSettings = _SETTINGS) -> Decided:
    """What the cells of images with one tag say; the same for every call."""
    samples = single_tagged(settings, dataset)
    with progress(name, len(samples)) as counter:
        images = cells_of(dataset, samples, counter)
    counts = Tally(image.column for image in images)
    images = [image for image in images if counts[image.column] >= FOLDS]
    pairs, where = parted(images), placed(images)
    (a, b), worst = min(pairs.items(), key=lambda item: item[1])
    first, second = dataset.classes[a], dataset.classes[b]
    evidence = (
        f"of cells in {len(images)} images with one tag {100 * worst:.0f} % tell '{first}' from '{second}', the "
        f"hardest of all pairs (none from {100 * LEAST:.0f} on), and {100 * where:.0f} % where in the image they lie "
        f"(none up to {100 * ANYWHERE:.0f})"
    )
    scores = {"parted": round(worst, 4), "placed": round(where, 4)}
    return Decided("none" if worst >= LEAST and where <= ANYWHERE else "present", evidence, scores)


def cells_of(dataset: Dataset, samples: Sequence[Sample], counter: Counter) -> list[ImageCells]:
    """The cells of images with one tag, on a grid of `_STRIDE` pixels."""
    with torch.random.fork_rng(devices=[]):
        net = build_network(BackboneSettings(), 1).eval()
    modules = [place.module for place in stage_places(net, _STAGES)]

    def read(sample: Sample) -> Tensor:
        image = dataset.image(sample)
        factor = _SIDE / max(image.size)
        size = [max(_STRIDE * 3, round(side * factor / _STRIDE) * _STRIDE) for side in (image.height, image.width)]
        return image_tensor(image, size, net.mean, net.std)

    found = []
    for sample, tensor in zip(samples, prefetch(read, samples), strict=True):
        found.append(ImageCells(sample.tags[0], *_cells(net, modules, tensor)))
        counter.advance()
    return found


def _cells(net: TagNet, modules: Sequence[str], image: Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Colours and features of the cells, and where they lie; mirrored around itself, the image has no edge."""
    seen: list[Tensor] = []
    hooks = {net.body.get_submodule(name): lambda _m, _i, output: seen.append(output) for name in modules}
    around = F.pad(image[None], (_AROUND,) * 4, mode="reflect")
    with evaluating(net), listening(hooks):
        net.features(around)
    grid = (around.shape[2] // _STRIDE, around.shape[3] // _STRIDE)
    rim = _AROUND // _STRIDE
    planes = torch.cat([F.adaptive_avg_pool2d(level, grid)[0] for level in (around, *seen)])
    inner = planes[:, rim : grid[0] - rim, rim : grid[1] - rim]
    height, width = inner.shape[1:]
    y, x = np.mgrid[:height, :width]
    down, across = (y + 0.5) / height, (x + 0.5) / width
    from_middle = 2 * np.maximum(np.abs(down - 0.5), np.abs(across - 0.5))
    places = np.stack([from_middle.ravel(), down.ravel()], axis=1).astype(np.float32)
    return inner.flatten(1).T.contiguous().numpy(), places
