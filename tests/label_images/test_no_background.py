"""Label images where every pixel is of a class, or some are given as of none: by hand, and through the CRF."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tag2mask.evaluation.background import NOTHING, Background, Given
from tag2mask.label_images.cutting import PhotoMaps, crf_seeds, cut_masks, refine_seeds, separate_seeds
from tests.label_images.test_label_images import Unchanged, at, photo, unchanged

__all__ = ["unchanged"]
MAPS = [[[0.9, 0.5, 0.4, 0.0]], [[0.1, 0.4, 0.5, 0.0]]]


def inside(maps: Any, classes: tuple[int, ...], foreground: Any, *levels: float) -> PhotoMaps:
    """A photo whose sidecar says where anything is."""
    bare = photo(maps, classes)
    sides = {"foreground": np.asarray(foreground, np.float32)}
    return PhotoMaps(bare.image, bare.classes, bare.maps, levels, sides)


def test_masks_are_the_arg_max_whatever_the_level() -> None:
    for level in (0.0, 0.45, 1.0, np.array([0.9, 0.1], np.float32)):
        (mask,) = cut_masks([at(photo(MAPS, (1, 3)), level)], NOTHING)
        assert mask.tolist() == [[2, 2, 4, 2]], "the lower column of equal maps"


@pytest.mark.parametrize("make", [cut_masks, crf_seeds, separate_seeds])
@pytest.mark.parametrize("value", [0.0, 0.2, 1.0])
def test_an_image_with_one_class_is_that_class_everywhere(make: Any, value: float) -> None:
    (mask,) = make([at(photo(np.full((1, 3, 4), value), (5,)), 0.3)], rule=NOTHING)
    assert mask.shape == (3, 4)
    assert (mask == 6).all()


@pytest.mark.parametrize("make", [cut_masks, crf_seeds, separate_seeds])
def test_of_an_image_without_a_class_nothing_is_known(make: Any) -> None:
    (mask,) = make([at(photo(np.zeros((0, 3, 4)), ()), 0.3)], rule=NOTHING)
    assert (mask == 255).all()


def test_refined_seeds_are_confident_where_the_best_class_leads_by_enough(unchanged: type[Unchanged]) -> None:
    """Through a CRF that changes nothing: the leads are 0.8, 0.1, 0.1 and 0, of 0.8 at most."""
    (seeds,) = separate_seeds([at(photo(MAPS, (1, 3)), 0.3)])
    assert seeds.tolist() == [[2, 255, 255, 255]]
    (seeds,) = separate_seeds([at(photo(MAPS, (1, 3)), 0.12)])
    assert seeds.tolist() == [[2, 2, 4, 255]]
    (other,) = separate_seeds([at(photo(0.5 + np.array(MAPS) / 40, (1, 3)), 0.12)])
    assert other.tolist() == seeds.tolist(), "raw scores, which lie closer together"
    unchanged.asked.pop()
    assert [asked[1] for asked in unchanged.asked] == [[2], [2]], "two labels, none for a background"


def test_maps_that_say_nothing_leave_everything_open() -> None:
    (seeds,) = separate_seeds([at(photo(np.zeros((2, 6, 6)), (0, 1)), 0.1)])
    assert (seeds == 255).all()


def test_what_is_given_as_of_no_class_stays_so_and_takes_no_part(unchanged: type[Unchanged]) -> None:
    shown = inside(MAPS, (1, 3), [[1, 0, 1, 0]], 0.3)
    assert cut_masks([shown], Given())[0].tolist() == [[2, 0, 4, 0]]
    assert crf_seeds([shown], rule=Given())[0].tolist() == [[2, 0, 4, 0]]
    assert separate_seeds([shown], rule=Given())[0].tolist() == [[2, 0, 255, 0]]
    empty = inside(np.zeros((0, 1, 4)), (), [[1, 0, 1, 0]], 0.3)
    for made in (cut_masks([empty], Given()), crf_seeds([empty], rule=Given())):
        assert made[0].tolist() == [[255, 0, 255, 0]]


@pytest.mark.parametrize("rule", [NOTHING, Given()])
def test_the_crf_moves_borders_to_the_edges_of_the_photo(rule: Background) -> None:
    """Left half dark, right half light; the maps part two columns too far to the right."""
    image = np.zeros((16, 24, 3), np.uint8)
    image[:, 12:] = 220
    first = (np.arange(24) < 14).astype(np.float32) * np.ones((16, 1), np.float32)
    maps = np.stack([first, 1 - first])
    outside = np.ones((16, 24), np.float32)
    outside[:3] = 0
    shown = PhotoMaps(image, (0, 2), maps, (0.2,), {"foreground": outside})
    (mask,), (seeds,) = crf_seeds([shown], rule=rule), separate_seeds([shown], rule=rule)
    body = slice(3 if rule.sidecars else 0, None)
    assert (mask[body, :12] == 1).all()
    assert (mask[body, 12:] == 3).all()
    assert set(np.unique(seeds[body])) <= {1, 3, 255}
    assert (seeds[body, :10] == 1).all()
    assert (seeds[body, 12:14] == 255).all(), "the CRF has moved them to another class"
    assert (seeds[body, 16:] == 3).all()
    if rule.sidecars:
        assert not mask[:3].any()
        assert not seeds[:3].any()


def test_with_a_background_all_is_as_before(unchanged: type[Unchanged]) -> None:
    (labels,) = refine_seeds([at(photo(MAPS, (1, 3)), 0.45, 0.25)])
    assert labels.tolist() == [[2, 2, 4, 0]]
