"""The prototype gallery: what each prototype looks like, its score and size, and why it was kept or dropped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from tag2mask.core.errors import DataError, quoted
from tag2mask.report.html import render

SIDES = ("foreground", "context")


@dataclass(frozen=True, slots=True)
class GalleryPrototype:
    """One cluster centre and what it looks like."""

    name: str  # side and number, such as foreground:3; what ``tag2mask prototypes RUN drop`` takes
    score: float  # probability of the class that the classifier gives it, 0..1 (LPCAM eqs. 3, 4)
    size: int  # feature vectors in the cluster
    kept: bool  # whether it serves as a prototype
    reason: str  # for that
    patches: tuple[Image.Image, ...]  # of images, nearest to it first

    @property
    def side(self) -> str:
        """``foreground`` or ``context``."""
        return self.name.partition(":")[0]


@dataclass(frozen=True, slots=True)
class GalleryClass:
    """One class and its prototypes: foreground first, then context, in the order of their numbers."""

    name: str
    prototypes: tuple[GalleryPrototype, ...]

    @property
    def quoted(self) -> str:
        """The name as one word of a shell command."""
        return quoted(self.name)

    def of(self, side: str) -> tuple[GalleryPrototype, ...]:
        """The prototypes of one of `SIDES`."""
        return tuple(p for p in self.prototypes if p.side == side)

    def n_kept(self, side: str) -> int:
        """How many of one side serve as prototypes."""
        return sum(p.kept for p in self.of(side))


def render_gallery(classes: Sequence[GalleryClass], title: str, out: Path, run: str = "RUN") -> None:
    """Write the gallery as one HTML file that needs no other file and no network; its commands name the ``run``."""
    for group in classes:
        for prototype in group.prototypes:
            side, _, number = prototype.name.partition(":")
            if side not in SIDES or not number.isdecimal():
                raise DataError(
                    f"prototype '{prototype.name}' of class '{group.name}' is not named like foreground:3 or context:0"
                )
    render("gallery.html", out, title=title, classes=classes, sides=SIDES, run=quoted(run))
