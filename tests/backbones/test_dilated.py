"""The dilated head as one product: the four convolutions are the reference."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tag2mask.backbones.dilated import RATES, dilated_convs, dilated_sum, each

CHANNELS, LABELS = 24, 3


def drawn(dtype: torch.dtype = torch.float64) -> list[nn.Conv2d]:
    torch.manual_seed(0)
    convs = each(dilated_convs(CHANNELS, LABELS))
    for conv in convs:
        nn.init.normal_(conv.weight)
        assert conv.bias is not None
        nn.init.normal_(conv.bias)
        conv.to(dtype)
    return convs


def features(height: int, width: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(2, CHANNELS, height, width, generator=torch.Generator().manual_seed(1)).to(dtype)


def convolved(convs: list[nn.Conv2d], values: Tensor) -> Tensor:
    return torch.stack([conv(values) for conv in convs]).sum(0)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (6, 7), (7, 6), (12, 24), (25, 25), (24, 49), (63, 50)])
def test_product_and_shifts_are_the_convolutions(size: tuple[int, int]) -> None:
    convs, values = drawn(), features(*size)
    torch.testing.assert_close(dilated_sum(convs, values), convolved(convs, values), rtol=1e-12, atol=1e-12)


def test_gradients_are_the_convolutions() -> None:
    convs, values = drawn(), features(13, 20)
    goal = torch.randn(2, LABELS, 13, 20, dtype=torch.float64)
    found = []
    for head in (dilated_sum, convolved):
        told = values.clone().requires_grad_()
        for conv in convs:
            conv.zero_grad()
        torch.autograd.backward((head(convs, told) * goal).sum())
        found.append([told.grad, *(p.grad for conv in convs for p in conv.parameters())])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


def test_bfloat16_is_no_farther_from_ground_truth_than_convolutions_in_bfloat16() -> None:
    exact = dilated_sum(drawn(), features(30, 40))
    convs, values = drawn(torch.float32), features(30, 40, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        ours, theirs = dilated_sum(convs, values), convolved(convs, values)
    assert ours.dtype == torch.float32
    assert (ours - exact).abs().mean() < (theirs - exact).abs().mean()
    assert (ours - exact).abs().max() < 0.01 * exact.abs().max()


@pytest.mark.filterwarnings("ignore:`torch.jit.trace:FutureWarning")  # old, but still there to be used
def test_a_traced_network_keeps_its_convolutions() -> None:
    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convs = nn.ModuleList(drawn())

        def forward(self, values: Tensor) -> Tensor:
            return dilated_sum(each(self.convs), values)

    traced = torch.jit.trace(Head().eval(), features(30, 30))  # type: ignore[no-untyped-call]  # torch's
    small = features(5, 9)
    torch.testing.assert_close(traced(small), convolved(drawn(), small), rtol=1e-12, atol=1e-12)
    assert str(traced.inlined_graph).count("aten::_convolution") == len(RATES)


def test_gradients_add_up_over_parts_of_a_batch() -> None:
    """Gradients of the four biases are equal, but each has a memory of its own, or every part would be added to all."""
    convs, values = drawn(), features(13, 20)
    for part in values.chunk(2):
        torch.autograd.backward(dilated_sum(convs, part).square().sum())
    parts = [p.grad.clone() for conv in convs for p in conv.parameters() if p.grad is not None]
    for conv in convs:
        conv.zero_grad()
    torch.autograd.backward(convolved(convs, values).square().sum())
    whole = [p.grad for conv in convs for p in conv.parameters()]
    for ours, theirs in zip(parts, whole, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
