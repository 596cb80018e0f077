"""The instances of a label image: connected components of each class, and their outlines as polygons along pixel edges.

Pixels that touch at a side or a corner belong together (8 neighbours): a slanting line of one pixel's width is one
instance, not one for each pixel.

Pixel (x, y) is the square from (x, y) to (x + 1, y + 1), so a polygon along pixel edges has integer corners, and
whatever asks for the pixels whose centres lie inside gets the mask back exactly. pycocotools does.

Tools that draw polygons cut coordinates to integers, take these for pixels, and draw the outline too (Pillow, and
OpenCV's ``fillPoly``, with which LabelMe and the YOLO tools make masks). A polygon that lies a tenth of a pixel inside
of the mask means the same pixels to them: each corner is cut to the pixel in whose corner it lies.

No polygon format has holes. A hole is joined to the outline by a **cut**: a line from the outline to the hole and,
behind the hole's own outline, the same line back. It encloses nothing, and it runs over pixels of the mask only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tag2mask.core.types import IGNORE
from tag2mask.data.base import Labels

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Instance:
    """One connected component of one class."""

    column: int  # class column; the label is ``column + 1``
    top: int  # of the box's first pixel
    left: int  # of the box's first pixel
    mask: Mask  # (h, w), the pixels of the instance within its box
    area: int  # number of its pixels

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom in pixels; right and bottom are the first outside."""
        height, width = self.mask.shape
        return self.left, self.top, self.left + width, self.top + height


def find_instances(labels: Labels) -> list[Instance]:
    """The instances of (H, W) uint8 labels, in the reading order of their first pixels; 0 and 255 are of none."""
    from scipy import ndimage

    found = []
    for label, place in enumerate(ndimage.find_objects(labels, IGNORE - 1), start=1):
        if place is None:
            continue
        numbers, _ = ndimage.label(labels[place] == label, np.ones((3, 3)))
        for number, box in enumerate(ndimage.find_objects(numbers), start=1):
            mask = numbers[box] == number
            top, left = (whole.start + part.start for whole, part in zip(place, box, strict=True))
            found.append(Instance(label - 1, top, left, mask, int(np.count_nonzero(mask))))
    return sorted(found, key=lambda one: (one.top, one.left + int(one.mask[0].argmax())))


def count_holes(mask: Mask) -> int:
    """Number of holes of a (h, w) mask that is one instance: what its outside does not reach over sides of pixels."""
    from scipy import ndimage

    return int(ndimage.label(~np.pad(mask, 1))[1]) - 1


Points = NDArray[np.float64]
"""(n, 2): x to the right, y down, in pixels."""

INSET = 0.1
"""How far inside a polygon lies, in pixels, for tools that cut coordinates to integers."""

_Ints = NDArray[np.int64]


def outline(instance: Instance, inset: float = 0.0) -> Points:
    """The outline of an instance as a closed polygon (n, 2), n >= 4, clockwise; the first point is not repeated.

    ``inset`` is what lies between the edges of the pixels and the polygon, 0 to below 0.5. The polygon goes twice
    through a corner where two pixels touch at it only.
    """
    mask = instance.mask
    found = rings(mask)
    points = (found[0] if len(found) == 1 else _cut_open(found, mask)).astype(np.float64)
    points = _moved_in(points, mask, inset) if inset else points
    placed: Points = points + np.array([instance.left, instance.top])
    return placed


def rings(mask: Mask) -> list[_Ints]:
    """The closed edges of an instance's (h, w) mask, it on their right: the outline first, clockwise, then each hole.

    Of each ring its (n, 2) corners (x, y), which alternate between horizontal and vertical edges.
    """
    padded = np.pad(mask, 1).astype(np.int8)
    # +1: the mask lies below (a horizontal edge, run to the right) or to the right (a vertical one, run upwards)
    y, xa, xb, east = _edges(padded[1:] - padded[:-1])
    x, ya, yb, north = _edges((padded[:, 1:] - padded[:, :-1]).T)
    width = mask.shape[1] + 1
    start_h, end_h = y * width + np.where(east, xa, xb), y * width + np.where(east, xb, xa)
    start_v, end_v = np.where(north, yb, ya) * width + x, np.where(north, ya, yb) * width + x
    # Two edges arrive where pixels touch at a corner: turning left each time keeps these pixels in one ring.
    after_h = _matched(2 * end_h + ~east, 2 * start_v + ~north)
    after_v = _matched(2 * end_v + north, 2 * start_h + ~east)
    corners = np.stack([start_h, end_h], axis=1)
    return [
        np.stack([corners[ring].reshape(-1) % width, corners[ring].reshape(-1) // width], axis=1)
        for ring in _cycles(after_v[after_h])
    ]


def _edges(change: NDArray[np.int8]) -> tuple[_Ints, _Ints, _Ints, Mask]:
    """Straight edges in the rows of (m, n + 2) changes: row, first and last corner, and whether the change is +1."""
    turn = change[:, 1:] != change[:, :-1]
    line, begin = np.nonzero(turn & (change[:, 1:] != 0))
    _, end = np.nonzero(turn & (change[:, :-1] != 0))
    return line, begin, end, change[line, begin + 1] > 0


def _matched(ends: _Ints, starts: _Ints) -> _Ints:
    """For each end the position of its start: both are sorted, and the k-th of one meets the k-th of the other."""
    found = np.empty(len(ends), dtype=np.int64)
    found[np.argsort(ends)] = np.argsort(starts)
    return found


def _cycles(after: _Ints) -> list[list[int]]:
    """The cycles of a permutation, each from its lowest element, in the order of these."""
    following = after.tolist()
    seen = [False] * len(following)
    found = []
    for first in range(len(following)):
        if not seen[first]:
            ring, at = [], first
            while not seen[at]:
                seen[at] = True
                ring.append(at)
                at = following[at]
            found.append(ring)
    return found


def _cut_open(found: list[_Ints], mask: Mask) -> Points:
    """One polygon of an outline and its holes.

    Each cut begins at a hole's leftmost edge (the topmost of several) and runs to the left as far as the mask goes: to
    the outline, or to a hole that reaches further left. So no hole is left out. It runs along the middle of a row of
    pixels, so its ends are the only points with a half in y.
    """
    lengths = np.array([len(ring) for ring in found])
    points, starts = np.concatenate(found), np.cumsum(lengths) - lengths
    after = np.arange(1, len(points) + 1)
    after[starts + lengths - 1] = starts
    begin = np.array([s + np.lexsort((r[:, 1], r[:, 0]))[0] for s, r in zip(starts[1:], found[1:], strict=True)])
    x, row = points[begin].T
    reached = np.maximum.accumulate(np.where(mask, 0, np.arange(1, mask.shape[1] + 1)), axis=1)[row, x - 1]
    edge = _edge_at(points, after, reached, row)
    order = np.lexsort((-row, edge))  # as they come along each edge, which runs upwards
    begin, x, row, reached, edge = begin[order], x[order], row[order], reached[order], edge[order]
    here, there, back, behind = (len(points) + k * len(edge) + np.arange(len(edge)) for k in range(4))
    following = np.concatenate([after, there, after[begin], behind, after[edge]])
    following[begin] = back
    again = edge[1:] == edge[:-1]  # several cuts at one edge: from each to the next
    following[behind[:-1][again]] = here[1:][again]
    following[edge[::-1]] = here[::-1]  # of several the first stays
    middle = row + 0.5
    outer, inner = np.stack([reached, middle], axis=1), np.stack([x, middle], axis=1)
    (whole,) = _cycles(following)
    joined: Points = np.concatenate([points, outer, inner, inner, outer])[whole]
    return joined


def _edge_at(points: _Ints, after: _Ints, x: _Ints, row: _Ints) -> _Ints:
    """For each pixel (x, row) with its left edge on a ring, the corner from which that edge comes up."""
    up = np.flatnonzero((points[after, 0] == points[:, 0]) & (points[after, 1] < points[:, 1]))
    rows = int(points[:, 1].max()) + 1
    place = points[up, 0] * rows + points[after[up], 1]
    order = np.argsort(place)
    found: _Ints = up[order][np.searchsorted(place[order], x * rows + row, "right") - 1]
    return found


def _moved_in(points: Points, mask: Mask, inset: float) -> Points:
    """The polygon moved into the mask by ``inset``; a corner where two pixels touch becomes a point in each."""
    into, out = np.sign(points - np.roll(points, 1, axis=0)), np.sign(np.roll(points, -1, axis=0) - points)
    right_of_in, right_of_out = np.stack([-into[:, 1], into[:, 0]], 1), np.stack([-out[:, 1], out[:, 0]], 1)
    shift = right_of_in + right_of_out
    cut = points[:, 1] % 1 != 0
    shift[cut] = np.where(into[cut, 1:] != 0, right_of_in[cut], right_of_out[cut])
    pixel = np.floor(points + shift / 2).astype(np.int64)
    touching = ~cut & ~mask[pixel[:, 1], pixel[:, 0]]
    repeats = np.where(touching, 2, 1)
    moved = np.repeat(points + inset * shift, repeats, axis=0)
    first = (np.cumsum(repeats) - repeats)[touching]
    moved[first] = points[touching] + inset * (right_of_in - into)[touching]
    moved[first + 1] = points[touching] + inset * (right_of_out + out)[touching]
    return moved
