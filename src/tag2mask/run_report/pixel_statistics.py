"""Counts what a page shows beyond the measurements: confusion, ignored shares, the best threshold of each image.

One pass over what was measured; what it finds is remembered beside the measurements, so that a rebuilt page costs
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tag2mask.core.errors import NothingShownError, StageError
from tag2mask.core.files import read_json, write_json
from tag2mask.core.manifest import sealed, unsealed
from tag2mask.core.prefetch import prefetch
from tag2mask.core.progress import LOG, progress
from tag2mask.core.types import IGNORE, ActivationMaps, Sample
from tag2mask.data.base import Dataset
from tag2mask.evaluation.best_thresholds import analyse_optimum
from tag2mask.evaluation.confusion import LabelImage, Matrix, confusion_matrix
from tag2mask.methods.stage_kinds import Makes
from tag2mask.pipeline.metric_stages import unseen
from tag2mask.pipeline.run_result import Measured

PIXELS = "pixels.json"
_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class PixelStatistics:
    """What one pass over the pixels of a split finds.

    Attributes:
        matrix: pixel counts at the measured threshold, row = ground truth, background first.
        void: id -> share of the ignored pixels, of every image with ground truth.
        optima: id -> best threshold, of the images to which the threshold makes a difference; empty for masks.
    """

    matrix: tuple[tuple[int, ...], ...]
    void: Mapping[str, float]
    optima: Mapping[str, float]

    @property
    def counts(self) -> Matrix:
        """The matrix as an array."""
        return np.array(self.matrix, dtype=np.int64)


def pixels_of(found: Measured, dataset: Dataset) -> PixelStatistics:
    """The pixels of what was measured, from memory or from a pass over the split."""
    path = found.measuring.artefact.path / PIXELS
    known = _read(path)
    if known is not None:
        return known
    pixels = _count_pixels(found, dataset)
    try:
        write_json(path, sealed({"schema": _SCHEMA, **asdict(pixels)}))
    except StageError as error:  # a store that may only be read: the page is made all the same
        LOG.warning("%s: the pixels counted for the page are not remembered: %s", found.name, error)
    return pixels


def _read(path: Path) -> PixelStatistics | None:
    """What was remembered; None where there is nothing of this schema, or it is damaged."""
    if not path.is_file():
        return None
    try:
        values = unsealed(read_json(path), path)
        if values.get("schema") != _SCHEMA:
            return None
        return PixelStatistics(tuple(tuple(row) for row in values["matrix"]), values["void"], values["optima"])
    except (StageError, KeyError, TypeError):  # cut off or foreign: recount
        return None


def _count_pixels(found: Measured, dataset: Dataset) -> PixelStatistics:
    samples = unseen([found.measuring.artefact], dataset, found.name)
    counted: dict[str, tuple[Matrix, float]] = {}
    with progress(f"{found.name}, for the report", len(samples)) as counter:
        if found.maker.stage.kind.makes is Makes.MASKS:
            read = partial(_labels, found, dataset)
            for _ in prefetch(partial(_count, dataset, read, counted), samples, 2):
                counter.advance()
            optima: dict[str, float] = {}
        else:
            maps = partial(_maps, found, dataset, counted)
            optima = {}
            with suppress(NothingShownError):  # then there is no best threshold of an image; its pixels are counted
                analysis = analyse_optimum(dataset, maps, samples=samples, advance=counter.advance)
                optima = {image.id: image.threshold for image in analysis.images}
    total = sum((matrix for matrix, _ in counted.values()), np.zeros_like(next(iter(counted.values()))[0]))
    ids = sorted(counted)
    return PixelStatistics(tuple(tuple(row) for row in total.tolist()), {i: counted[i][1] for i in ids}, optima)


def _labels(found: Measured, dataset: Dataset, sample: Sample, _: LabelImage) -> NDArray[np.uint8]:
    return found.maker.artefact.labels(dataset, sample)


def _maps(
    found: Measured, dataset: Dataset, counted: dict[str, tuple[Matrix, float]], sample: Sample
) -> ActivationMaps:
    """The maps of one sample, whose seeds are counted by the way; called from several threads."""
    maps = found.maker.artefact.maps(dataset, sample, found.threshold.scores)

    def seeds(_: Sample, truth: LabelImage) -> NDArray[np.uint8]:
        return found.threshold.seeds(dataset, sample, maps.resize(*truth.shape).maps.numpy(), maps.classes)

    _count(dataset, seeds, counted, sample)
    return maps


def _count(
    dataset: Dataset,
    read: Callable[[Sample, LabelImage], LabelImage],
    counted: dict[str, tuple[Matrix, float]],
    sample: Sample,
) -> None:
    """Note the confusion and the ignored share of one image, if it has ground truth."""
    truth = dataset.truth(sample)
    if truth is not None:
        matrix = confusion_matrix(read(sample, truth), truth, len(dataset.classes) + 1, sample_id=sample.id)
        counted[sample.id] = matrix, float((truth == IGNORE).mean())


def measured_ids(found: Measured, dataset: Dataset) -> Sequence[str]:
    """Ids of the images that were measured or left out for want of ground truth, in order."""
    return [sample.id for sample in unseen([found.measuring.artefact], dataset, found.name)]
