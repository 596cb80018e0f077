"""Pairs, their counts and their loss, against float64 loops over every pair and every cell of its path."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from tag2mask.core.errors import ConfigError
from tag2mask.methods.irn.affinity import boundary_loss, pair_counts, pair_sum
from tests.helpers.refused import refused

Pair = tuple[tuple[int, int], tuple[int, int]]


def pairs(height: int, width: int, radius: int) -> Iterator[Pair]:
    """Every pair (y, x), (y + dy, x + dx) of the half-plane whose first cell keeps its neighbourhood in the grid."""
    for y in range(height - radius + 1):
        for x in range(radius - 1, width - radius + 1):
            for dy in range(radius):
                for dx in range(1 - radius, radius):
                    if (dy > 0 or dx > 0) and dy * dy + dx * dx < radius * radius:
                        yield (y, x), (y + dy, x + dx)


def way(first: tuple[int, int], second: tuple[int, int]) -> list[tuple[int, int]]:
    """Cells of the bounding box nearer than 1 to the line between two cells."""
    (y0, x0), (y1, x1) = first, second
    rows, columns = range(min(y0, y1), max(y0, y1) + 1), range(min(x0, x1), max(x0, x1) + 1)
    near = (1 - 1e-12) * math.hypot(y1 - y0, x1 - x0)
    return [(y, x) for y in rows for x in columns if abs((x1 - x0) * (y - y0) - (y1 - y0) * (x - x0)) < near]


def slow_terms(edge: Tensor, labels: Tensor, radius: int) -> tuple[list[Tensor], list[int]]:
    """Sums of the terms of background, foreground and different pairs, and how many there are."""
    sums, counts = [edge.new_zeros(()) for _ in range(3)], [0, 0, 0]
    for n in range(len(labels)):
        for first, second in pairs(labels.shape[1], labels.shape[2], radius):
            a, b = int(labels[n][first]), int(labels[n][second])
            if 255 in (a, b):
                continue
            kind = 2 if a != b else int(a > 0)
            affinity = 1 - torch.stack([edge[n][cell] for cell in way(first, second)]).max()
            sums[kind] = sums[kind] - torch.log(affinity + 1e-5 if kind < 2 else 1 + 1e-5 - affinity)
            counts[kind] += 1
    return sums, counts


def slow_loss(edge: Tensor, labels: Tensor, radius: int) -> Tensor:
    (bg, fg, different), (n_bg, n_fg, n_different) = slow_terms(edge, labels, radius)
    alike = (bg / (n_bg + 1e-5) + fg / (n_fg + 1e-5)) / 2
    return (alike + different / (n_different + 1e-5)) / 2


def drawn(n: int, height: int, width: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Edges that carry a gradient, and labels 0, 1, 2 and 255 in patches; float64."""
    rng = np.random.default_rng(seed)
    patches = rng.choice([0, 0, 1, 2, 255], (n, -(-height // 3), -(-width // 3)))
    labels = patches.repeat(3, 1).repeat(3, 2)[:, :height, :width].astype(np.uint8)
    edge = torch.from_numpy(rng.uniform(0.02, 0.98, (n, height, width)))
    return edge.requires_grad_(), torch.from_numpy(labels)


@pytest.mark.parametrize(
    ("shape", "radius"), [((2, 9, 11), 3), ((1, 11, 13), 5), ((1, 6, 11), 6), ((3, 5, 4), 2)], ids=str
)
def test_loss_and_gradient_are_those_of_a_loop_over_every_pair(shape: tuple[int, int, int], radius: int) -> None:
    edge, labels = drawn(*shape)
    expected = slow_loss(edge, labels, radius)
    (slope,) = torch.autograd.grad(expected, edge)
    found = boundary_loss(edge, labels, radius)
    (found_slope,) = torch.autograd.grad(found, edge)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(found_slope, slope, rtol=1e-4, atol=1e-6)
    assert (slope != 0).any()


def test_counts_are_those_of_the_loop() -> None:
    edge, labels = drawn(2, 12, 15, seed=3)
    assert pair_counts(labels, 4).tolist() == slow_terms(edge.detach(), labels, 4)[1]


def test_a_published_crop_gives_the_published_number_of_pairs() -> None:
    """152 offsets of 119 x 110 pairs on the grid of a 512 crop; all background is all background pairs."""
    labels = torch.zeros(1, 128, 128, dtype=torch.uint8)
    assert pair_counts(labels, 10).tolist() == [152 * 119 * 110, 0, 0]
    assert pair_counts(labels + 3, 10).tolist() == [0, 152 * 119 * 110, 0]
    assert pair_counts(labels[:, :64], 5).tolist() == [34 * 60 * 120, 0, 0]


def test_gradient_of_the_weighted_sum_is_the_numeric_one() -> None:
    edge, labels = drawn(1, 5, 7, seed=1)
    weights = torch.tensor([0.5, 2.0, 3.0], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda e: pair_sum(e, labels, weights, 3), (edge,), atol=1e-5)


def test_weights_are_of_background_foreground_and_different_pairs() -> None:
    edge, labels = drawn(1, 8, 9, seed=2)
    sums, _ = slow_terms(edge.detach(), labels, 3)
    for kind in range(3):
        weights = torch.eye(3, dtype=torch.float64)[kind]
        assert pair_sum(edge, labels, weights, 3).item() == pytest.approx(sums[kind].item(), rel=1e-9)


def test_terms_of_a_hand_made_grid() -> None:
    """Edge 1/2 everywhere: every affinity is 1/2, so each of the three means is -log(1/2 + 1e-5)."""
    labels = torch.zeros(1, 8, 12, dtype=torch.uint8)
    labels[..., 6:] = 4
    loss = boundary_loss(torch.full((1, 8, 12), 0.5), labels, 3)
    assert loss.item() == pytest.approx(-math.log(0.5 + 1e-5), rel=1e-6)


def test_a_wall_between_two_classes_parts_all_pairs_across_it() -> None:
    """Edge 1 on one unsure column between background and a class, 0 elsewhere: the loss is that of no mistake."""
    labels = torch.zeros(1, 9, 13, dtype=torch.uint8)
    labels[..., 7:] = 1
    labels[..., 6] = 255
    wall = torch.zeros(1, 9, 13)
    wall[..., 6] = 1
    perfect = -math.log(1 + 1e-5)
    assert boundary_loss(wall, labels, 4).item() == pytest.approx(perfect, abs=1e-6)
    without = boundary_loss(torch.zeros(1, 9, 13), labels, 4).item()
    assert without == pytest.approx(0.5 * perfect - 0.5 * math.log(1e-5), rel=1e-4)


def test_nothing_sure_gives_no_loss_and_no_gradient() -> None:
    edge = torch.full((2, 8, 9), 0.3, requires_grad=True)
    labels = torch.full((2, 8, 9), 255, dtype=torch.uint8)
    loss = boundary_loss(edge, labels, 4)
    (slope,) = torch.autograd.grad(loss, edge)
    assert loss.item() == 0
    assert slope.count_nonzero() == 0
    assert pair_counts(labels, 4).tolist() == [0, 0, 0]


def test_images_of_background_alone_count() -> None:
    edge = torch.full((1, 8, 9), 0.3, requires_grad=True)
    loss = boundary_loss(edge, torch.zeros(1, 8, 9, dtype=torch.uint8), 4)
    assert loss.item() == pytest.approx(-0.25 * math.log(0.7 + 1e-5), rel=1e-6)
    (slope,) = torch.autograd.grad(loss, edge)
    assert (slope >= 0).all()
    assert (slope > 0).any()


@pytest.mark.parametrize("edge", [0.0, 1.0])
def test_edges_at_the_ends_of_their_range_stay_finite(edge: float) -> None:
    values = torch.full((1, 8, 9), edge, requires_grad=True)
    loss = boundary_loss(values, drawn(1, 8, 9)[1], 4)
    (slope,) = torch.autograd.grad(loss, values)
    assert math.isfinite(loss.item())
    assert torch.isfinite(slope).all()


def test_parts_with_the_counts_of_the_batch_add_up_to_its_loss() -> None:
    edge, labels = drawn(5, 9, 11, seed=4)
    whole = boundary_loss(edge, labels, 4)
    counts = pair_counts(labels, 4)
    parts = [boundary_loss(edge[i : i + 2], labels[i : i + 2], 4, counts) for i in (0, 2, 4)]
    total = torch.stack(parts).sum()
    assert total.item() == pytest.approx(whole.item(), rel=1e-6)
    slopes = [torch.autograd.grad(value, edge)[0] for value in (whole, total)]
    torch.testing.assert_close(slopes[1], slopes[0], rtol=1e-5, atol=1e-9)
    averaged = torch.stack([boundary_loss(edge[i : i + 2], labels[i : i + 2], 4) for i in (0, 2, 4)]).mean()
    assert abs(averaged.item() - whole.item()) > 1e-3, "the case does not tell a mean of ratios from the ratio of sums"


def test_half_precision_edges_give_a_float32_loss() -> None:
    edge, labels = drawn(1, 9, 11)
    loss = boundary_loss(edge.detach().bfloat16(), labels, 4)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(slow_loss(edge.detach(), labels, 4).item(), rel=0.02)


@pytest.mark.parametrize(("height", "width"), [(3, 20), (20, 6)])
def test_a_grid_without_room_is_refused(height: int, width: int) -> None:
    labels = torch.zeros(1, height, width, dtype=torch.uint8)
    with refused(ConfigError, f"{height} x {width} cells", "pairs of radius 4"):
        boundary_loss(torch.zeros(1, height, width), labels, 4)


def test_without_a_background_pairs_alike_weigh_what_different_ones_do() -> None:
    edge, labels = drawn(2, 9, 11)
    labels[labels == 0] = 2
    sums, counts = slow_terms(edge, labels, 3)
    assert counts[0] == 0
    expected = (sums[1] / (counts[1] + 1e-5) + sums[2] / (counts[2] + 1e-5)) / 2
    found = boundary_loss(edge, labels, 3, background=False)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
