"""Wrong tags on purpose: what is drawn, that every reader has them, and that truth and held-out tags stay."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tag2mask.core.errors import ConfigError, DataError
from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset
from tag2mask.data.registry import load_dataset
from tag2mask.data.tag_noise import NoiseCount, TagNoise, count_noise, noisy
from tests.helpers.draw import draw_coco, draw_folder, draw_voc
from tests.helpers.refused import refused

NAMES = tuple("abcdef")
DRAWERS: dict[str, Callable[[Path], object]] = {"voc": draw_voc, "coco": draw_coco, "folder": draw_folder}


def samples(n: int = 400) -> tuple[Sample, ...]:
    """Images with 0 to 6 of six classes."""
    rng = np.random.default_rng(0)
    return tuple(Sample(f"image{i}", tuple(np.flatnonzero(rng.random(6) < 0.4).tolist())) for i in range(n))


def counted(**noise: Any) -> NoiseCount:
    right = samples()
    return count_noise(right, noisy(right, NAMES, TagNoise(**noise)))


def test_no_noise_is_no_change() -> None:
    assert noisy(samples(), NAMES, TagNoise()) == samples()


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_the_share_of_dropped_tags_is_what_was_requested(share: float) -> None:
    found = counted(drop=share)
    assert found.added == 0
    assert found.removed / found.tags == pytest.approx(share, abs=4 * (share * (1 - share) / found.tags) ** 0.5)
    assert found.emptied > 0
    assert found.changed <= found.removed


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_flipped_tags_are_replaced_by_as_many_wrong_ones(share: float) -> None:
    right = samples()
    wrong = noisy(right, NAMES, TagNoise(flip=share))
    found = count_noise(right, wrong)
    assert found.removed == found.added
    assert found.emptied == 0
    possible = sum(len(s.tags) for s in right if len(s.tags) < 6)
    assert found.removed / possible == pytest.approx(share, abs=4 * (share * (1 - share) / possible) ** 0.5)
    for before, after in zip(right, wrong, strict=True):
        assert len(after.tags) == len(before.tags)
        assert list(after.tags) == sorted(set(after.tags))


def test_an_image_with_every_class_keeps_the_tags_that_would_be_flipped() -> None:
    full = (Sample("x", (0, 1)), Sample("y", (0, 1)))
    assert noisy(full, ("a", "b"), TagNoise(flip=0.99)) == full


def test_every_wrong_class_is_drawn() -> None:
    one = tuple(Sample(f"image{i}", (0,)) for i in range(300))
    found = np.bincount([s.tags[0] for s in noisy(one, NAMES, TagNoise(flip=0.99))], minlength=6)
    assert found[0] < 15
    assert found[1:].min() > 30


def test_what_is_wrong_at_one_level_is_wrong_at_every_higher_one() -> None:
    right = samples()
    for kind in ("drop", "flip"):
        levels = [noisy(right, NAMES, TagNoise.model_validate({kind: share})) for share in (0.1, 0.2, 0.4)]
        for low, high in pairwise(levels):
            for a, b, c in zip(right, low, high, strict=True):
                assert set(a.tags) - set(b.tags) <= set(a.tags) - set(c.tags)


def test_the_draw_hangs_on_seed_image_and_class_alone() -> None:
    right = samples()
    noise = TagNoise(drop=0.2, flip=0.2, seed=3)
    found = noisy(right, NAMES, noise)
    assert noisy(right[::-1], NAMES, noise) == found[::-1]
    assert noisy(right[:7], NAMES, noise) == found[:7]
    assert noisy(right, NAMES, TagNoise(drop=0.2, flip=0.2, seed=4)) != found
    renamed = tuple(Sample(s.id, tuple(sorted(5 - t for t in s.tags))) for s in right)
    mirrored = noisy(renamed, NAMES[::-1], noise)  # the same classes in other columns
    assert [{5 - t for t in s.tags} for s in mirrored] == [set(s.tags) for s in found]


def test_a_count_by_hand() -> None:
    right = (Sample("a", (0, 1)), Sample("b", (2,)), Sample("c", (1,)), Sample("d", ()))
    wrong = (Sample("a", (0, 3)), Sample("b", ()), Sample("c", (1,)), Sample("d", ()))
    assert count_noise(right, wrong) == NoiseCount(images=4, tags=4, removed=2, added=1, changed=2, emptied=1)


@pytest.fixture(params=[*sorted(DRAWERS), "parts"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Dataset]:
    kind = str(request.param)
    if kind == "parts":
        return lambda split, **more: load_dataset("parts", None, split, images=12, size=64, **more)
    DRAWERS[kind](tmp_path / "data")
    return lambda split, **more: load_dataset(kind, tmp_path / "data", split, **more)


def test_every_reader_gives_wrong_tags_and_the_right_truth(opened: Callable[..., Dataset], tmp_path: Path) -> None:
    noise = {"flip": 0.6, "seed": 1}
    right, wrong = opened("train"), opened("train", tag_noise=noise)
    assert [s.id for s in wrong.samples] == [s.id for s in right.samples]
    assert wrong.samples == noisy(right.samples, right.classes, TagNoise(flip=0.6, seed=1))
    assert wrong.samples != right.samples
    for a, b in zip(right.samples, wrong.samples, strict=True):
        truth, same = right.truth(a), wrong.truth(b)
        assert truth is not None
        assert same is not None
        np.testing.assert_array_equal(truth, same)
    assert opened("val", tag_noise=noise).samples == opened("val").samples
    assert opened("val", tag_noise=noise, infer="val").samples != opened("val").samples  # its maps are to be noisy
    few = tmp_path / "few.txt"
    few.write_text("".join(f"{s.id}\n" for s in right.samples[:4]))
    assert opened(f"train@{few}", tag_noise=noise).samples == wrong.samples[:4]


def test_impossible_noise_is_refused(tmp_path: Path) -> None:
    with refused(DataError, "data.tag_noise.drop = 0.99", "2 images", "split 'train'"):
        noisy((Sample("a", (0,)), Sample("b", ())), NAMES, TagNoise(drop=0.99), "train")
    draw_folder(tmp_path)
    for noise, text in (
        ({"drop": 1}, "setting 'data.tag_noise.drop' = 1: input should be less than 1"),
        ({"drop": 0.7, "flip": 0.6}, "drop 0.7 and flip 0.6 are more than all tags; lower one of them"),
        ({"dorp": 0.1}, "unknown setting 'data.tag_noise.dorp': did you mean 'drop'"),
    ):
        with pytest.raises(ConfigError, match=text):
            load_dataset("folder", tmp_path, "train", tag_noise=noise)
