"""Writing the page of one run or several; and what an example of a figure is made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from PIL import Image

from tag2mask.core.errors import DataError
from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset
from tag2mask.report.html import render
from tag2mask.report.parts import RunPart
from tag2mask.report.pictures import fit, heat_overlay, label_overlay
from tag2mask.report.views import comparison, run_view, script_data

_SIDE = 320
"""Pixels of the longer side of a picture in a figure."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of an example of a figure."""

    caption: str  # what it is, such as LPCAM
    alt: str  # what it shows, for those who do not see it
    image: Image.Image


@dataclass(frozen=True, slots=True)
class Example:
    """One image with all its pictures in order, for a figure: image, each method, truth."""

    id: str
    reason: str  # why it is shown, such as best of 48 (LPCAM, fixed threshold): 81.2 mIoU
    pictures: tuple[Picture, ...]  # at least one

    @classmethod
    def of(cls, id: str, reason: str, pictures: Iterable[tuple[str, Image.Image]]) -> Example:
        """An example from captions and images, each shrunk to the size of figures."""
        return cls(id, reason, tuple(Picture(caption, caption, fit(image, _SIDE)) for caption, image in pictures))

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


def render_page(runs: Sequence[RunPart], out: Path) -> None:
    """Write one HTML file, a section for each run, that needs no other file; several are compared first."""
    if not runs:
        raise DataError("a page needs at least one run")
    for run in runs:
        if not run.parts:
            raise DataError(f"a page needs at least one measured stage, but {run.name} has none; run a recipe with one")
    title = runs[0].title if len(runs) == 1 else f"{len(runs)} runs: {', '.join(run.name for run in runs)}"
    render(
        "page.html",
        out,
        title=title,
        runs=[run_view(run, f"r{number}") for number, run in enumerate(runs)],
        compared=comparison(runs) if len(runs) > 1 else None,
        data=script_data(runs),
    )
