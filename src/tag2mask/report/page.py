"""Writing the page of one run or several; and what an example of a figure is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from tag2mask.core.errors import DataError
from tag2mask.report.html import render
from tag2mask.report.parts import RunPart
from tag2mask.report.views import comparison, run_view, script_data


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of an example of a figure.

    Attributes:
        caption: what it is, such as ``LPCAM``.
        alt: what it shows, for those who do not see it.
        image: any size.
    """

    caption: str
    alt: str
    image: Image.Image


@dataclass(frozen=True, slots=True)
class Example:
    """One image with all its pictures in order, for a figure: image, each method, truth.

    Attributes:
        id: the sample's.
        reason: why this image is shown, such as ``best of 48 (LPCAM, fixed threshold): 81.2 mIoU``.
        pictures: at least one.
    """

    id: str
    reason: str
    pictures: tuple[Picture, ...]


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
