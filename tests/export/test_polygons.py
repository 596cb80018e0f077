"""Outlines: by hand, by their area, and drawn again by two rasterisers."""

from __future__ import annotations

import time

import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from tag2mask.export.instances import INSET, Instance, Points, find_instances, outline, rings
from tests.export.drawn_masks import Labels, holed, solid
from tests.export.readers import outlined

Mask = NDArray[np.bool_]


def one(*rows: str, top: int = 0, left: int = 0) -> Instance:
    """An instance drawn with # in its box."""
    mask = np.array([[c == "#" for c in row] for row in rows])
    return Instance(0, top, left, mask, int(mask.sum()))


def area(points: Points) -> float:
    """Signed area of a polygon, positive where it goes clockwise on the screen."""
    x, y = points.T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def centres_inside(points: Points, shape: tuple[int, int]) -> Mask:
    """Pixels whose centre a polygon encloses, by counting the edges to its right, an odd number of them."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    inside = np.zeros(shape, np.bool_)
    for (xa, ya), (xb, yb) in zip(points, np.roll(points, -1, axis=0), strict=True):
        if ya != yb:
            crosses = ((ya <= y) != (yb <= y)) & (x < xa + (y - ya) / (yb - ya) * (xb - xa))
            inside ^= crosses
    return inside


def drawn() -> list[tuple[Instance, tuple[int, int]]]:
    """Instances of every label image, random ones too, with the size of their image."""
    rng = np.random.default_rng(3)
    images: list[Labels] = [*solid().values(), *holed().values()]
    images += [(rng.random(rng.integers(1, 13, 2)) < p).astype(np.uint8) for p in (0.3, 0.5, 0.6, 0.8) * 6]
    images += [np.kron(image, np.ones((2, 3), np.uint8)) for image in images[-8:]]
    return [(i, (image.shape[0], image.shape[1])) for image in images for i in find_instances(image)]


def full(instance: Instance, shape: tuple[int, int]) -> Mask:
    mask = np.zeros(shape, np.bool_)
    left, top, right, bottom = instance.box
    mask[top:bottom, left:right] = instance.mask
    return mask


def test_a_pixel_is_a_square_clockwise_from_its_upper_left_corner() -> None:
    assert outline(one("#", top=4, left=7)).tolist() == [[7, 4], [8, 4], [8, 5], [7, 5]]


def test_straight_edges_have_no_points_between_their_ends() -> None:
    assert outline(one("####", "#...", "#...")).tolist() == [[0, 0], [4, 0], [4, 1], [1, 1], [1, 3], [0, 3]]


def test_pixels_that_touch_at_a_corner_have_one_outline_through_it_twice() -> None:
    points = outline(one("#.", ".#")).tolist()
    assert points == [[0, 0], [1, 0], [1, 1], [2, 1], [2, 2], [1, 2], [1, 1], [0, 1]]


def test_a_hole_is_joined_by_a_cut_along_the_middle_of_a_row() -> None:
    points = outline(one("###", "#.#", "###")).tolist()
    assert points == [
        [0, 0], [3, 0], [3, 3], [0, 3],
        [0, 1.5], [1, 1.5], [1, 2], [2, 2], [2, 1], [1, 1], [1, 1.5], [0, 1.5],
    ]  # fmt: skip


def test_moved_in_every_corner_lies_in_the_pixel_beside_it() -> None:
    points = outline(one("##", "#."), INSET)
    assert points.round(2).tolist() == [[0.1, 0.1], [1.9, 0.1], [1.9, 0.9], [0.9, 0.9], [0.9, 1.9], [0.1, 1.9]]
    touching = outline(one("#.", ".#"), INSET)
    assert touching.round(2).tolist() == [
        [0.1, 0.1], [0.9, 0.1], [0.9, 0.9], [1.1, 1.1], [1.9, 1.1], [1.9, 1.9], [1.1, 1.9], [1.1, 1.1], [0.9, 0.9],
        [0.1, 0.9],
    ]  # fmt: skip


def test_the_first_ring_is_the_outline_and_the_others_run_the_other_way() -> None:
    for instance, _ in drawn():
        areas = [area(ring.astype(np.float64)) for ring in rings(instance.mask)]
        assert areas[0] > 0
        assert all(a < 0 for a in areas[1:])
        assert sum(areas) == instance.area


def test_the_area_of_an_outline_is_the_number_of_pixels() -> None:
    for instance, _ in drawn():
        assert area(outline(instance)) == instance.area


def test_an_outline_encloses_the_centres_of_its_pixels_and_no_others() -> None:
    for instance, shape in drawn()[::2]:
        for inset in (0.0, INSET):
            assert np.array_equal(centres_inside(outline(instance, inset), shape), full(instance, shape))


@pytest.mark.parametrize("inset", [0.0, INSET])
def test_pycocotools_draws_the_same_pixels_again(inset: float) -> None:
    for instance, shape in drawn():
        runs = coco_mask.frPyObjects([outline(instance, inset).reshape(-1).tolist()], *shape)
        assert np.array_equal(coco_mask.decode(runs)[..., 0] == 1, full(instance, shape))


def test_tools_that_cut_to_integers_and_draw_the_outline_draw_the_same_pixels_again() -> None:
    for instance, shape in drawn():
        assert np.array_equal(outlined(outline(instance, INSET).tolist(), shape), full(instance, shape))


def test_thousands_of_holes_take_a_moment() -> None:
    labels = np.ones((201, 201), np.uint8)
    labels[1::2, 1::2] = 0
    (instance,) = find_instances(labels)
    started = time.process_time()
    points = outline(instance)
    assert area(points) == instance.area
    assert len(points) > 10_000 * 8 - 1000
    assert (
        time.process_time() - started < 5
    )  # 0.1 s on the machine it was written on; minutes if each hole cost them all
