"""Stand-ins for what cannot be recorded for all sizes give what torch gives."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tag2mask.segmentation.onnx.export import pooled, recordable, rolled


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (6, 6), (7, 13), (24, 31), (3, 64)])
@pytest.mark.parametrize("grid", [1, 3, (2, 2), (6, 6), (2, 5), (None, 2), (4, None)])
def test_adaptive_pooling_is_torchs(size: tuple[int, int], grid: int | tuple[int | None, int | None]) -> None:
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = F.adaptive_avg_pool2d(images, grid)
    assert torch.allclose(pooled(images, grid), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("shifts", [(-3, -3), (3, 3), (0, 2), (5, -11)])
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 7), (8, 4)])
def test_a_roll_is_torchs_even_where_it_is_longer_than_the_side(shifts: tuple[int, int], size: tuple[int, int]) -> None:
    tokens = torch.arange(2 * size[0] * size[1] * 3).reshape(2, *size, 3)
    assert torch.equal(rolled(tokens, shifts, (1, 2)), torch.roll(tokens, shifts, (1, 2)))
    assert torch.equal(rolled(tokens, shifts[0], 1), torch.roll(tokens, shifts[0], 1))


def test_stand_ins_serve_every_caller_within_and_are_gone_after_an_error() -> None:
    own = F.adaptive_avg_pool2d, torch.roll
    images = torch.rand(1, 2, 5, 7, generator=torch.Generator().manual_seed(0))
    calls: tuple[Callable[[Tensor], Tensor], ...] = (
        nn.AdaptiveAvgPool2d(3),
        lambda x: F.interpolate(x, size=(2, 3), mode="area"),
        lambda x: F.adaptive_avg_pool2d(x, output_size=(3, 2)),
        lambda x: torch.roll(x, shifts=(-6, 1), dims=(2, 3)),
    )
    expected = [call(images) for call in calls]
    with recordable():
        assert own[0] is not F.adaptive_avg_pool2d
        assert own[1] is not torch.roll
        for call, value in zip(calls, expected, strict=True):
            assert torch.allclose(call(images), value, atol=1e-6)
    with pytest.raises(RuntimeError, match="halfway"), recordable():
        raise RuntimeError("halfway")
    assert (F.adaptive_avg_pool2d, torch.roll) == own


def test_other_threads_keep_the_functions_of_torch() -> None:
    values, own = torch.arange(6).reshape(2, 3), torch.roll
    with recordable(), ThreadPoolExecutor(1) as pool:
        assert torch.roll is not own
        elsewhere = pool.submit(lambda: torch.roll(values, 1)).result()  # over the flat values, which no stand-in does
    assert elsewhere.tolist() == [[5, 0, 1], [2, 3, 4]]
    assert torch.roll is own
