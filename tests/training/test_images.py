"""The order of images: each once an epoch, from the seed alone, shared out without changing a batch."""

from __future__ import annotations

import pytest
import torch

from tag2mask.core.errors import ConfigError
from tag2mask.training.images import EpochOrder, derive
from tests.helpers.refused import lacking
from tests.training.toy import images, train_settings


def epoch_of(order: EpochOrder, epoch: int) -> list[tuple[int, int]]:
    order.set_epoch(epoch)
    return list(order)


def test_each_image_once_an_epoch_in_another_order_each_epoch() -> None:
    order = EpochOrder(12, train_settings(batch_size=4), seed=5)
    first, second = epoch_of(order, 0), epoch_of(order, 1)
    assert sorted(first) == [(0, i) for i in range(12)]
    assert sorted(second) == [(1, i) for i in range(12)]
    assert [i for _, i in first] != [i for _, i in second]
    assert epoch_of(EpochOrder(12, train_settings(batch_size=4), seed=5), 1) == second
    assert epoch_of(EpochOrder(12, train_settings(batch_size=4), seed=6), 1) != second


def test_incomplete_batch_is_left_out_as_published() -> None:
    order = EpochOrder(14, train_settings(batch_size=4), seed=0)
    assert (order.batches, len(order), len(set(order))) == (3, 12, 12)


def test_incomplete_batch_is_filled_where_nothing_is_dropped() -> None:
    order = EpochOrder(14, train_settings(batch_size=4, drop_last=False), seed=0)
    draws = list(order)
    assert (order.batches, len(draws)) == (4, 16)
    assert {i for _, i in draws} == set(range(14))
    assert len(set(draws)) == 16


@pytest.mark.parametrize("drop_last", [True, False])
def test_few_images_fill_a_batch_with_different_augmentations(drop_last: bool) -> None:
    order = EpochOrder(3, train_settings(batch_size=8, epochs=2, drop_last=drop_last), seed=0)
    draws = epoch_of(order, 0) + epoch_of(order, 1)
    assert len(draws) == 16
    assert len(set(draws)) == 16
    counts = [sum(index == i for _, index in draws) for i in range(3)]
    assert min(counts) >= 4


@pytest.mark.parametrize("world", [1, 2, 4])
def test_processes_share_the_same_batches(world: int) -> None:
    settings = train_settings(batch_size=8, accumulate=4)
    whole = EpochOrder(20, settings, seed=1)
    whole.set_epoch(2)
    shares = [EpochOrder(20, settings, seed=1, rank=r, world=world) for r in range(world)]
    parts = [epoch_of(share, 2) for share in shares]
    step = 8 // world
    joined = [draw for b in range(whole.batches) for part in parts for draw in part[b * step : (b + 1) * step]]
    assert joined == list(whole)
    assert all(len(share) == len(part) for share, part in zip(shares, parts, strict=True))


def test_processes_that_do_not_divide_the_parts_are_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        EpochOrder(20, train_settings(batch_size=8, accumulate=2), 0, 0, 3)
    assert not lacking(caught.value, "train.accumulate = 2 … 3 processes … multiple of 3")


def test_derived_seeds_differ_and_stay() -> None:
    seeds = {derive(a, b, c) for a in range(8) for b in range(8) for c in range(8)}
    assert len(seeds) == 512
    assert all(0 <= s < 2**63 for s in seeds)
    assert derive(1, 2, 3) == 6498626229777268288


def test_an_item_depends_on_seed_epoch_and_index_alone() -> None:
    data = images(5)
    alone = data[(2, 3)]
    torch.rand(7)
    beside = data.__getitems__([(0, 1), (2, 3), (1, 3)])
    assert torch.equal(alone[0], beside[1][0])
    assert not torch.equal(alone[0], beside[2][0])
    assert not torch.equal(alone[0], images(5, seed=4)[(2, 3)][0])
    assert alone[0].shape == (3, 32, 32)
    assert alone[1].tolist() == [1.0, 0.0, 0.0]
    assert data[(0, 0)][1].tolist() == [1.0, 1.0, 0.0]
