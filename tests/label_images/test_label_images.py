"""Label images from maps: the merge of two passes by hand, the CRF's part, and what needs no CRF."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tag2mask.config.settings import validate
from tag2mask.core.errors import ConfigError, DataError
from tag2mask.evaluation.background import Level
from tag2mask.evaluation.confusion import LabelImage
from tag2mask.evaluation.thresholds import cut
from tag2mask.label_images import cutting as module
from tag2mask.label_images.cutting import PhotoMaps, crf_seeds, cut_masks, refine_seeds
from tag2mask.label_images.kinds import CRFSettings, RefinedSeedsSettings
from tag2mask.refine.crf.api import DenseCRF
from tests.helpers.refused import refused
from tests.helpers.seam_kinds import Inside, NoBackground, registered


class Unchanged:
    """A CRF that leaves labels as they are and notes what it was asked."""

    asked: ClassVar[list[tuple[list[tuple[int, ...]], list[int], float, int]]] = []

    def __init__(self, images: Sequence[NDArray[np.uint8]], preset: str, device: str) -> None:
        self.sizes = [image.shape[:2] for image in images]

    @classmethod
    def batch(cls, images: Sequence[NDArray[np.uint8]], preset: str, *, device: str) -> Unchanged:
        return cls(images, preset, device)

    def refine_labels(
        self, labels: Sequence[NDArray[np.uint8]], n_labels: Sequence[int], gt_prob: float, iterations: int
    ) -> list[torch.Tensor]:
        self.asked.append(([a.shape for a in labels], list(n_labels), gt_prob, iterations))
        assert all(a.shape[-2:] == size for a, size in zip(labels, self.sizes, strict=True))
        return [torch.from_numpy(a).long() for a in labels]


@pytest.fixture
def unchanged(monkeypatch: pytest.MonkeyPatch) -> type[Unchanged]:
    Unchanged.asked = []
    monkeypatch.setattr(module, "DenseCRF", Unchanged)
    return Unchanged


def photo(maps: Any, classes: tuple[int, ...], size: tuple[int, int] | None = None) -> PhotoMaps:
    values = np.asarray(maps, dtype=np.float32)
    height, width = size or values.shape[1:]
    return PhotoMaps(np.full((height, width, 3), 128, np.uint8), classes, values, ())


def at(shown: PhotoMaps, *levels: Level) -> PhotoMaps:
    """The photo, to be cut at these."""
    return replace(shown, levels=levels)


def test_two_passes_are_merged_as_published(unchanged: type[Unchanged]) -> None:
    """Foreground where the higher threshold says so, background where both say so, unsure between."""
    maps = [[[1.0, 0.5, 0.3, 0.2, 0.0]], [[0.0, 0.6, 0.1, 0.4, 0.25]]]
    (labels,) = refine_seeds([at(photo(maps, (4, 7)), 0.45, 0.25)])
    assert labels.dtype == np.uint8
    assert labels.tolist() == [[5, 8, 255, 255, 0]]  # 0.25 itself is not above the lower threshold


def test_passes_of_one_image_are_requested_together(unchanged: type[Unchanged]) -> None:
    photos = [photo(np.ones((2, 3, 4)), (0, 2)), photo(np.ones((1, 5, 2)), (1,))]
    refine_seeds([at(one, 0.4, 0.2) for one in photos], CRFSettings(iterations=7, gt_prob=0.6))
    assert unchanged.asked == [([(2, 3, 4), (2, 5, 2)], [3, 2], 0.6, 7)]


@pytest.mark.parametrize("maps", [np.zeros((0, 3, 4)), np.zeros((2, 3, 4))], ids=["no tags", "zero maps"])
def test_nothing_to_decide_is_background_without_the_crf(unchanged: type[Unchanged], maps: Any) -> None:
    other, empty = photo(np.ones((1, 3, 4)), (1,)), photo(maps, tuple(range(len(maps))))
    first, second, third = refine_seeds([at(one, 0.4, 0.2) for one in (other, empty, other)])
    assert (second == 0).all()
    assert second.shape == (3, 4)
    assert (first == 2).all()
    assert (third == 2).all(), "results stay in order"
    assert len(unchanged.asked[0][1]) == 2
    (labels,) = crf_seeds([at(empty, 0.3)])
    assert (labels == 0).all()


def test_maps_are_resized_to_the_image_before_the_cut(unchanged: type[Unchanged]) -> None:
    maps = torch.rand(2, 5, 6, generator=torch.Generator().manual_seed(0))
    full = torch.nn.functional.interpolate(maps[None], (18, 23), mode="bilinear", align_corners=False)[0].numpy()
    shown = photo(maps.numpy(), (0, 3), (18, 23))
    expected = cut(full, (0, 3), 0.5)
    assert (cut_masks([at(shown, 0.5)])[0] == expected).all()
    assert (crf_seeds([at(shown, 0.5)])[0] == expected).all()
    high, low = cut(full, (0, 3), 0.6), cut(full, (0, 3), 0.4)
    merged = [
        [h if h else 255 if lo else 0 for h, lo in zip(*rows, strict=True)] for rows in zip(high, low, strict=True)
    ]
    assert refine_seeds([at(shown, 0.6, 0.4)])[0].tolist() == merged


def two_halves() -> PhotoMaps:
    """A dark and a bright half; the map's edge lies three pixels beside the colours' edge."""
    image = np.full((24, 32, 3), 30, np.uint8)
    image[:, 16:] = (200, 180, 40)
    image += np.random.default_rng(0).integers(0, 4, image.shape).astype(np.uint8)
    maps = np.zeros((1, 24, 32), np.float32)
    maps[0, :, 19:] = 1
    maps[0, :, 13:19] = 0.35  # between the thresholds
    return PhotoMaps(image, (2,), maps, ())


def test_the_crf_moves_the_edge_of_both_passes_to_the_colours() -> None:
    (labels,) = refine_seeds([at(two_halves(), 0.45, 0.25)])
    assert set(np.unique(labels)) <= {0, 3, 255}
    assert (labels[:, 17:] == 3).all()
    assert (labels[:, :12] == 0).all()
    (one,) = crf_seeds([at(two_halves(), 0.45)])
    assert (one == np.where(np.arange(32) >= 16, 3, 0)).all()


def slow(shown: PhotoMaps, foreground: float, background: float) -> LabelImage:
    """The published procedure, pass by pass and pixel by pixel."""
    maps = torch.from_numpy(shown.maps)[None]
    full = torch.nn.functional.interpolate(maps, shown.image.shape[:2], mode="bilinear")[0].numpy()
    passes = []
    for threshold in (foreground, background):
        scores = np.concatenate([np.full((1, *full.shape[1:]), threshold, np.float32), full])
        crf = DenseCRF(shown.image, "irn")
        passes.append(crf.refine_labels(scores.argmax(0), len(full) + 1, 0.7, 10).numpy())
    result = np.full(shown.image.shape[:2], 255, np.uint8)
    for (y, x), high in np.ndenumerate(passes[0]):
        if high:
            result[y, x] = shown.classes[high - 1] + 1
        elif passes[1][y, x] == 0:
            result[y, x] = 0
    return result


def test_equals_the_published_procedure_written_out() -> None:
    rng = np.random.default_rng(1)
    image = rng.integers(0, 255, (6, 8, 3)).repeat(4, 0).repeat(4, 1).astype(np.uint8)
    shown = PhotoMaps(image, (1, 5), rng.random((2, 6, 8), dtype=np.float32), ())
    found = refine_seeds([at(shown, 0.6, 0.45), at(two_halves(), 0.6, 0.45)])
    assert (found[0] == slow(shown, 0.6, 0.45)).all()
    assert (found[1] == slow(two_halves(), 0.6, 0.45)).all()
    assert {2, 6, 255} <= set(np.unique(found[0]))


def test_photos_of_a_batch_may_have_thresholds_of_their_own() -> None:
    maps = np.random.default_rng(2).random((2, 6, 8), dtype=np.float32)
    noisy = PhotoMaps(np.tile(np.arange(8, dtype=np.uint8)[None, :, None] * 30, (6, 1, 3)), (1, 5), maps, ())
    photos = [noisy, two_halves()]
    high: list[Level] = [np.array([0.7, 0.5], np.float32), 0.45]
    low: list[Level] = [np.array([0.4, 0.3], np.float32), 0.25]
    both = refine_seeds([at(*each) for each in zip(photos, high, low, strict=True)])
    makes: tuple[Callable[..., list[LabelImage]], ...] = (crf_seeds, cut_masks)
    for make, levels in zip(makes, (high, low), strict=True):
        cut_at = [at(*each) for each in zip(photos, levels, strict=True)]
        for found, shown in zip(make(cut_at), cut_at, strict=True):
            np.testing.assert_array_equal(found, make([shown])[0])
    for found, shown, above, below in zip(both, photos, high, low, strict=True):
        np.testing.assert_array_equal(found, refine_seeds([at(shown, above, below)])[0])
    with refused(DataError, "background threshold 0.25", "foreground's 0.2", "exchange them"):
        refine_seeds([at(photos[0], high[0], low[0]), at(photos[1], 0.2, low[1])])


def test_equal_thresholds_leave_nothing_ignored() -> None:
    (labels,) = refine_seeds([at(two_halves(), 0.4, 0.4)])
    assert 255 not in labels
    assert (labels == crf_seeds([at(two_halves(), 0.4)])[0]).all()


def test_thresholds_the_wrong_way_round_are_refused() -> None:
    with refused(DataError, "background threshold 0.5", "foreground's 0.3", "exchange them"):
        refine_seeds([at(two_halves(), 0.3, 0.5)])
    with refused(ConfigError, "background 0.5", "foreground 0.3", "exchange them"):
        validate(RefinedSeedsSettings, {"foreground": 0.3, "background": 0.5}, "refined")


def test_the_middle_stands_for_both_thresholds() -> None:
    assert RefinedSeedsSettings().threshold == 0.35
    assert "threshold" not in RefinedSeedsSettings().model_dump()


def test_a_background_rule_cuts_before_each_pass(unchanged: type[Unchanged]) -> None:
    rng = np.random.default_rng(3)
    photo = replace(two_halves(), maps=rng.random((len(two_halves().classes), 6, 8), dtype=np.float32))
    photo = replace(photo, sides={"foreground": rng.random(photo.image.shape[:2], dtype=np.float32)})
    rule = Inside(least=0.3)
    high, low = at(photo, 0.7, 0.4).cuts(rule, photo.classes)
    full = torch.nn.functional.interpolate(torch.from_numpy(photo.maps)[None], photo.image.shape[:2], mode="bilinear")
    np.testing.assert_array_equal(low, rule.labels(full[0].numpy(), photo.classes, 0.4, photo.sides))
    assert {0, *(c + 1 for c in photo.classes)} == {*np.unique(low)}
    np.testing.assert_array_equal(cut_masks([at(photo, 0.4)], rule)[0], low)
    np.testing.assert_array_equal(crf_seeds([at(photo, 0.4)], rule=rule)[0], low)
    refined = np.where(high > 0, high, np.where(low > 0, 255, 0))
    np.testing.assert_array_equal(refine_seeds([at(photo, 0.7, 0.4)], rule=rule)[0], refined)
    untagged = PhotoMaps(photo.image, (), np.zeros((0, 6, 8), np.float32), (0.4,))
    assert (crf_seeds([untagged], rule=NoBackground())[0] == 255).all()


def test_refined_seeds_take_a_rule_where_their_lower_threshold_stands() -> None:
    with registered():
        own = validate(RefinedSeedsSettings, {"background": "nowhere", "foreground": 0.6}, "refined")
        again = validate(RefinedSeedsSettings, own.model_dump(mode="json"), "refined")
    assert (own.rule, own.background, own.foreground) == (NoBackground(), 0.25, 0.6)
    assert again == own
    assert "background_rule" not in RefinedSeedsSettings().model_dump()
    with pytest.raises(ConfigError, match="unknown background rule 'nowhre'"):
        validate(RefinedSeedsSettings, {"background": {"kind": "nowhre"}}, "refined")
