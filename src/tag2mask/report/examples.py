"""Rows of example images for the figures of analyses, comparisons and papers: a photo and what was made of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tag2mask.core.errors import DataError
from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset
from tag2mask.report.figures import save_figure
from tag2mask.report.pictures import fit_within, heat_overlay, label_overlay

_SIDE = 320
"""Pixels of the longer side of a picture in a figure."""


@dataclass(frozen=True, slots=True)
class Example:
    """One image of a figure, why it is shown, and its pictures with their captions: photo, methods, ground truth."""

    id: str
    reason: str
    pictures: tuple[tuple[str, Image.Image], ...]

    @classmethod
    def of(cls, id: str, reason: str, pictures: Iterable[tuple[str, Image.Image]]) -> Example:
        """An example from captions and images, each shrunk to the size of figures."""
        return cls(id, reason, tuple((caption, fit_within(image, _SIDE)) for caption, image in pictures))

    @classmethod
    def over(
        cls,
        dataset: Dataset,
        sample: Sample,
        image: Image.Image,
        reason: str,
        layers: Iterable[tuple[str, NDArray[Any]]],
    ) -> Example:
        """A photo (W, H) with its tags, then layers over it, then its ground truth if there is any.

        A layer is its caption and either a map, (h, w) float in [0, 1], or labels, (H, W) uint8.
        """
        tags = ", ".join(dataset.classes[c] for c in sample.tags) or "no tags"
        truth = dataset.truth(sample)
        pictures = [(f"image: {tags}", image)]
        for caption, values in [*layers, *([] if truth is None else [("ground truth", truth)])]:
            draw = heat_overlay if values.dtype.kind == "f" else label_overlay
            pictures.append((caption, draw(image, values)))
        return cls.of(sample.id, reason, pictures)


def draw_examples(examples: Sequence[Example], title: str, out: Path) -> None:
    """Draw images, one row each, the reason above it (AMN, Figure 1b, c); a row may lack pictures at its end."""
    if not examples:
        raise DataError("a figure needs at least one example")
    from matplotlib.figure import Figure

    columns = max(len(example.pictures) for example in examples)
    figure = Figure(figsize=(2.6 * columns, 2.7 * len(examples)), layout="constrained")
    for example, row in zip(examples, figure.subfigures(len(examples), 1, squeeze=False)[:, 0], strict=True):
        row.suptitle(f"{example.id}: {example.reason}", fontsize=9)
        panels = row.subplots(1, columns, squeeze=False)[0]
        for axes in panels:
            axes.set_axis_off()
        for (caption, image), axes in zip(example.pictures, panels, strict=False):
            axes.imshow(np.asarray(image.convert("RGB")))
            axes.set_title(caption, fontsize=8)
    save_figure(figure, title, out)
