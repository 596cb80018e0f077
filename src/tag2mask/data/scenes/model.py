"""What a drawn scene is made of: rectangles in whole pixels, toys, props."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in whole pixels, ``height`` and ``width`` at least 1."""

    top: int
    left: int
    height: int
    width: int

    @property
    def area(self) -> int:
        """Pixels inside."""
        return self.height * self.width

    def shared(self, other: Box) -> int:
        """Pixels inside both."""
        rows = min(self.top + self.height, other.top + other.height) - max(self.top, other.top)
        columns = min(self.left + self.width, other.left + other.width) - max(self.left, other.left)
        return max(rows, 0) * max(columns, 0)


@dataclass(frozen=True, slots=True)
class Toy:
    """One toy; its parts lie inside the image."""

    kind: int  # 0-based class column
    head: Box  # the part that tells the class
    body: Box  # shared by all classes, as are the wheels
    wheels: tuple[Box, Box]  # left and right
    livery: int  # index of the body's colour, independent of the class
    mirrored: bool  # it looks the other way

    @property
    def base(self) -> int:
        """The row below the wheels; toys further down stand in front."""
        return self.wheels[0].top + self.wheels[0].height

    @property
    def box(self) -> Box:
        """The rectangle around all parts."""
        parts = (self.head, self.body, *self.wheels)
        top, left = min(p.top for p in parts), min(p.left for p in parts)
        return Box(top, left, self.base - top, max(p.left + p.width for p in parts) - left)


@dataclass(frozen=True, slots=True)
class Prop:
    """A distractor or a context (rails, water): background in the masks; its box may reach over the border."""

    name: str
    box: Box


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything in one picture, in pixels; ``noise`` is the standard deviation of the pixels in grey levels.

    The ground begins at the row ``horizon``. Props are drawn first, then toys, back to front.
    """

    height: int
    width: int
    horizon: int
    noise: float
    props: tuple[Prop, ...]
    toys: tuple[Toy, ...]

    @property
    def tags(self) -> tuple[int, ...]:
        """Class columns of the toys, ascending."""
        return tuple(sorted({toy.kind for toy in self.toys}))
