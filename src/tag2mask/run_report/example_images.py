"""Pictures of a few images for a page: the photo, its maps, seeds, masks and predictions, and ground truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from tag2mask.core.errors import StageError
from tag2mask.core.resize import bilinear
from tag2mask.core.types import IGNORE, Sample
from tag2mask.data.base import Dataset
from tag2mask.evaluation.result_tables import read_columns
from tag2mask.methods.stage_kinds import Makes
from tag2mask.pipeline.metric_stages import IMAGES
from tag2mask.pipeline.run_result import Measured
from tag2mask.pipeline.session import Done
from tag2mask.report.choice import Candidate, ImageChoice, choose_images, draw
from tag2mask.report.parts import Layer, Panel, ShownImage
from tag2mask.report.pictures import class_uri, data_uri, fit_within, ignored_uri, map_uri, quantised

_SIZES = ((300, 320, 128), (1500, 224, 96), (3000, 160, 64), (5000, 128, 48), (7500, 96, 32), (12_000, 72, 24))
_SMALLEST = (48, 16)
"""Up to how many pictures a photo and a map have how many pixels on their longer side: a page of 500
images of up to 30 stages stays below 30 MB, and opens in less than a second."""


@dataclass(frozen=True)
class MeasuredSplit:
    """One split of a run, and all that can be shown of it.

    Attributes:
        dataset: the split.
        makers: stages that made maps or masks of it, in order.
        measured: what is measured of it, by name.
    """

    dataset: Dataset
    makers: Sequence[Done]
    measured: Mapping[str, Measured]

    @cached_property
    def scores(self) -> dict[str, dict[str, float]]:
        """Name of what is measured -> id -> mIoU of the image, in percent, NaN where undefined."""
        return {name: image_scores(m) for name, m in self.measured.items() if not m.refined}

    @cached_property
    def by_id(self) -> dict[str, Sample]:
        """The samples by id."""
        return {sample.id: sample for sample in self.dataset.samples}


def examples(
    scene: MeasuredSplit, last: Measured, ignored: Mapping[str, float], choice: ImageChoice
) -> tuple[ShownImage, ...]:
    """Images chosen by rule, from the scores of what is measured last; at random among the tagged without scores."""
    scores = scene.scores[last.name]
    every = [sample.id for sample in scene.dataset.samples]
    gone = next((i for i in scores if i not in scene.by_id), None)
    if gone is not None:
        raise StageError(
            f"image '{gone}', on which '{last.name}' was measured, is not in split '{scene.dataset.split}' of the data "
            f"now: the photos or their split have changed. Name the folder of the run's own photos with --root, or run "
            f"again: {last.maker.artefact.command}"
        )
    if scores:
        at = "" if last.threshold.value is None else f", {last.threshold.kind_text} threshold {last.threshold.value:g}"
        candidates = [Candidate(i, score, ignored.get(i, 0.0)) for i, score in scores.items()]
        chosen = [
            (i, f"{why} ({last.name}{at}): {scores[i]:.1f} mIoU" if scores.get(i, np.nan) >= 0 else why)
            for i, why in choose_images(candidates, every, choice)
        ]
    else:
        listed = [i for i in choice.images if i in scene.by_id]
        tagged = [s.id for s in scene.dataset.samples if s.tags and s.id not in listed]
        count = 3 * choice.each + choice.random
        drawn = draw(tagged, count, choice.seed)
        chosen = [*((i, "chosen") for i in listed), *((i, f"random, seed {choice.seed}") for i in drawn)]
    side, cells = sizes(len(chosen) * len(scene.makers))
    return tuple(_shown(scene, scene.by_id[i], why, side, cells) for i, why in chosen)


def sizes(pictures: int) -> tuple[int, int]:
    """Pixels of the longer side of a photo, and of a map, on a page of so many pictures: images times stages."""
    return next(((side, cells) for most, side, cells in _SIZES if pictures <= most), _SMALLEST)


def image_scores(found: Measured) -> dict[str, float]:
    """MIoU of each image in percent, NaN where undefined; empty where nothing was measured."""
    path = found.measuring.artefact.path / IMAGES
    if not path.is_file():
        return {}
    return dict(read_columns(path, ("image", "miou"), numbers=("miou",)))


def _shown(scene: MeasuredSplit, sample: Sample, reason: str, side: int, cells: int) -> ShownImage:
    image = scene.dataset.image(sample)
    photo = fit_within(image, side)
    tags = ", ".join(scene.dataset.classes[c] for c in sample.tags) or "no tags"
    panels = [Panel("photo", f"image: {tags}", f"photo with the tags {tags}")]
    truth = scene.dataset.truth(sample)
    if truth is not None:
        panels.append(_label_panel("truth", "ground truth", truth, photo, scene.dataset.classes, ""))
    for done in scene.makers:
        if done.stage.kind.makes is Makes.MAPS:
            panels += _maps(scene, sample, done, photo, cells)
        else:
            labels = done.artefact.labels(scene.dataset, sample)
            note = _score(scene, done.stage.name, sample)
            panels.append(_label_panel("labels", done.stage.name, labels, photo, scene.dataset.classes, note))
    return ShownImage(sample.id, reason, data_uri(photo, side), photo.width, photo.height, tuple(panels))


def _maps(scene: MeasuredSplit, sample: Sample, done: Done, photo: Image.Image, cells: int) -> list[Panel]:
    """A picture for each map; and the seeds, where they are measured."""
    name, names = done.stage.name, scene.dataset.classes
    found = scene.measured.get(name)
    slides = found is not None and found.threshold.value is not None and found.threshold.background.is_constant
    form = found.threshold.scores if found is not None and slides else "normalised"  # what a slider cuts is shown
    made = done.artefact.maps(scene.dataset, sample, form)
    values = quantised(made.maps.numpy(), cells)
    panels = [
        Panel("map", f"{name}: {names[c]}", f"map of {names[c]} by {name}", (Layer(map_uri(v)),), name, c)
        for c, v in zip(made.classes, values, strict=True)
    ]
    if found is None or found.threshold.kind == "none":
        return panels
    threshold, note = found.threshold, _score(scene, name, sample)
    cut = values if threshold.scores == form else _raw(scene, done, sample, cells)
    labels = threshold.seeds(scene.dataset, sample, carried(cut, (photo.height, photo.width)), made.classes)
    if threshold.value is None or not slides:  # unlike a slider's: these stay as they are
        caption = f"seeds of {name}, threshold {threshold.text}"
        return [*panels, _label_panel("labels", caption, labels, photo, names, note)]
    share, at = shares(labels, names), f"{threshold.value:.2f}"
    alt = f"seeds of {name} at {at}: {share}"
    return [*panels, Panel("seeds", at, alt, _layers(labels), name, share=share, note=note)]


def _raw(scene: MeasuredSplit, done: Done, sample: Sample, cells: int) -> NDArray[np.uint8]:
    return quantised(done.artefact.maps(scene.dataset, sample, "raw").maps.numpy(), cells)


def carried(values: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.float32]:
    """Maps (K, height, width) as the script of a page has them, from what the page carries: (K, h, w), 255 for 1."""
    maps: NDArray[np.float32] = bilinear(torch.from_numpy(values.astype(np.float32) / 255), *size).numpy()
    return maps


def shares(labels: NDArray[np.uint8], names: Sequence[str]) -> str:
    """The share of the pixels that each class has, in words."""
    found = [(names[i - 1], (labels == i).mean()) for i in np.unique(labels) if 0 < i < IGNORE]
    return ", ".join(f"{name} {100 * share:.1f} %" for name, share in found) or "nothing"


def _label_panel(
    what: str, name: str, labels: NDArray[np.uint8], photo: Image.Image, names: Sequence[str], note: str
) -> Panel:
    small = np.asarray(Image.fromarray(labels).resize(photo.size, Image.Resampling.NEAREST))
    alt = f"{'mask drawn by hand' if what == 'truth' else f'labels of {name}'}: {shares(small, names)}"
    return Panel(what, name, alt, _layers(small), note=note)


def _layers(labels: NDArray[np.uint8]) -> tuple[Layer, ...]:
    """Ignored pixels below, then the classes that the labels hold."""
    present = [int(i) for i in np.unique(labels) if i]
    ignored = (Layer(ignored_uri(labels)),) if IGNORE in present else ()
    return (*ignored, *(Layer(class_uri(labels, i), i - 1) for i in present if i != IGNORE))


def _score(scene: MeasuredSplit, name: str, sample: Sample) -> str:
    score = scene.scores.get(name, {}).get(sample.id, np.nan)
    return f"{score:.1f} mIoU" if score >= 0 else ""
