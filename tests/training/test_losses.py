"""Losses against plain numbers, and on two processes against one."""

from __future__ import annotations

import ast
import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tag2mask.training.label_images import at_grid
from tag2mask.training.losses import (
    code_counts,
    global_ratio,
    label_weights,
    multilabel_soft_margin,
    pixel_counts,
    pixel_loss,
    weighted_pixel_loss,
)
from tests.project.source import modules
from tests.training.ratios import CASES, outputs


def slow_soft_margin(logits: list[list[float]], tags: list[list[int]], columns: list[int]) -> float:
    terms = []
    for row, truth in zip(logits, tags, strict=True):
        for c in columns:
            p = 1 / (1 + math.exp(-row[c]))
            terms.append(-math.log(p if truth[c] else 1 - p))
    return sum(terms) / len(terms)


LOGITS = [[0.5, -1.0, 3.0], [2.0, 0.0, -4.0]]
TAGS = [[1, 0, 1], [0, 1, 0]]


def test_soft_margin_is_the_mean_over_images_and_classes() -> None:
    found = multilabel_soft_margin(torch.tensor(LOGITS), torch.tensor(TAGS))
    assert found.item() == pytest.approx(slow_soft_margin(LOGITS, TAGS, [0, 1, 2]), rel=1e-6)


def test_soft_margin_is_torchs_own() -> None:
    logits, tags = torch.randn(5, 4), torch.randint(0, 2, (5, 4)).float()
    expected = torch.nn.functional.multilabel_soft_margin_loss(logits, tags)
    torch.testing.assert_close(multilabel_soft_margin(logits, tags), expected)


def test_masked_classes_count_for_nothing() -> None:
    mask = torch.tensor([True, False, True])
    logits = torch.tensor(LOGITS, requires_grad=True)
    found = multilabel_soft_margin(logits, torch.tensor(TAGS), mask)
    assert found.item() == pytest.approx(slow_soft_margin(LOGITS, TAGS, [0, 2]), rel=1e-6)
    found.backward()  # type: ignore[no-untyped-call]  # torch's own
    assert logits.grad is not None
    assert logits.grad[:, 1].tolist() == [0.0, 0.0]
    assert (logits.grad[:, [0, 2]] != 0).all()


def test_half_precision_logits_give_a_float32_loss_without_overflow() -> None:
    loss = multilabel_soft_margin(torch.tensor([[-300.0, 300.0]], dtype=torch.bfloat16), torch.tensor([[1, 0]]))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(300, rel=0.01)


def test_ratio_of_one_process_is_the_ratio() -> None:
    assert global_ratio(torch.tensor(6.0), torch.tensor(4.0)).item() == 1.5


def test_ratios_of_vectors_and_of_nothing() -> None:
    found = global_ratio(torch.tensor([6.0, 0.0, 1.0]), torch.tensor([4, 0, 0]), epsilon=0.5)
    assert found.tolist() == pytest.approx([6 / 4.5, 0, 2])


def losses_over_processes() -> set[str]:
    """Functions of the package whose result is a `global_ratio`, or made of such a function's."""
    calls = {
        node.name: {c.func.id for c in ast.walk(node) if isinstance(c, ast.Call) and isinstance(c.func, ast.Name)}
        for module in modules()
        for node in module.tree.body
        if isinstance(node, ast.FunctionDef) and node.returns is not None and ast.unparse(node.returns) == "Tensor"
    }
    found = {"global_ratio"}
    while more := {name for name, called in calls.items() if called & found} - found:
        found |= more
    return found - {"global_ratio"}


def test_every_loss_that_is_a_ratio_has_a_case() -> None:
    assert CASES.keys() == losses_over_processes()


def test_cases_have_a_gradient_everywhere_it_matters() -> None:
    for name, share in CASES.items():
        values = outputs()
        share(values, slice(0, 7)).backward()  # type: ignore[no-untyped-call]  # torch's own
        assert values.grad is not None, name
        assert (values.grad.abs().sum(1) > 0).all(), name


def slow(logits: Tensor, labels: Tensor, smoothing: float, balanced: bool = True) -> float:
    """The loss cell by cell, with the target written out."""
    values, truth = logits.double().numpy(), labels.numpy()
    n = values.shape[1]
    sides: dict[bool, list[float]] = {True: [], False: []}
    for i, y, x in np.ndindex(*truth.shape):
        label = int(truth[i, y, x])
        if label == 255:
            continue
        target: NDArray[np.float64] = np.full(n, smoothing / (n - 1))
        target[label] = 1 - smoothing
        row = values[i, :, y, x]
        log_p = row - row.max() - np.log(np.exp(row - row.max()).sum())
        sides[label == 0].append(float(-(target * log_p).sum()))
    if not balanced:
        return float(np.mean(sides[True] + sides[False]))
    return sum(0.5 * float(np.mean(side)) for side in sides.values() if side)


def drawn(n_classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits and labels of three images, with more background than foreground, some unsure."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(3, n_classes + 1, 5, 7, generator=generator)
    labels = torch.randint(0, n_classes + 1, (3, 5, 7), generator=generator)
    draw = torch.rand(3, 5, 7, generator=generator)
    labels[draw < 0.5] = 0
    labels[draw > 0.85] = 255
    return logits, labels.to(torch.uint8)


@pytest.mark.parametrize(("n_classes", "smoothing"), [(20, 0.4), (20, 0.0), (1, 0.4), (3, 0.2), (80, 0.4)])
@pytest.mark.parametrize("balanced", [True, False])
def test_loss_is_that_of_a_loop_over_cells(n_classes: int, smoothing: float, balanced: bool) -> None:
    logits, labels = drawn(n_classes)
    found = pixel_loss(logits, labels, smoothing, balanced)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(slow(logits, labels, smoothing, balanced), rel=1e-5)


def test_counts_are_of_cells_and_of_background_under_the_code() -> None:
    """Two images of 2 x 3 cells; the second is tagged with class 1 too, which it does not show."""
    labels = torch.tensor([[[0, 0, 1], [255, 0, 1]], [[0, 1, 1], [1, 255, 255]]], dtype=torch.uint8)
    assert code_counts(labels, torch.tensor([[1.0, 0.0], [1.0, 1.0]])).tolist() == [[4, 5, 0], [4, 4, 1]]
    assert code_counts(labels, torch.tensor([[1.0, 0.0], [0.0, 0.0]])).tolist() == [[4, 5, 0], [4, 3, 0]]


def test_weights_are_powers_of_background_over_own() -> None:
    counts = torch.tensor([[100, 4, 50, 0, 7], [100, 64, 25, 30, 0]])
    assert label_weights(counts, 1).tolist() == [1, 16, 0.5, 1, 1]
    assert label_weights(counts, 0.5).tolist() == pytest.approx([1, 4, 0.5**0.5, 1, 1])
    assert label_weights(counts, 0).tolist() == [1] * 5


@pytest.mark.parametrize("power", [0.0, 0.25, 1.0])
def test_weighted_loss_is_a_weighted_mean_over_cells(power: float) -> None:
    """The same number as the loop's over each label's cells, weighed by hand."""
    logits, labels = drawn(3)
    tags = torch.tensor([[1.0, 1, 0], [1, 1, 1], [0, 1, 1]])
    total = weight = 0.0
    for label in range(4):
        alone = torch.where(labels == label, labels, 255).to(torch.uint8)
        own = int((labels == label).sum())
        under = int((labels[tags[:, label - 1] > 0] == 0).sum()) if label else own
        total += (under / own) ** power * own * slow(logits, alone, 0.3, balanced=False)
        weight += (under / own) ** power * own
    found = weighted_pixel_loss(logits, labels, tags, 0.3, power)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(total / weight, rel=1e-5)


@pytest.mark.parametrize(("power", "balanced"), [(1.0, True), (0.0, False)])
def test_weighted_loss_has_the_published_ones_at_its_ends(power: float, balanced: bool) -> None:
    logits, labels = drawn(1)
    found = weighted_pixel_loss(logits, labels, torch.ones(3, 1), 0.4, power)
    assert found.item() == pytest.approx(pixel_loss(logits, labels, 0.4, balanced).item(), rel=1e-6)


def test_parts_of_the_weighted_loss_add_up() -> None:
    logits, labels = drawn(3)
    tags = torch.tensor([[1.0, 1, 0], [1, 1, 1], [0, 1, 1]])
    counts = code_counts(labels, tags)
    parts = [
        weighted_pixel_loss(logits[i : i + 1], labels[i : i + 1], tags[i : i + 1], 0.1, 0.5, counts) for i in range(3)
    ]
    assert torch.stack(parts).sum().item() == pytest.approx(
        weighted_pixel_loss(logits, labels, tags, 0.1, 0.5).item(), rel=1e-6
    )


def test_weighted_loss_of_ignored_cells_is_nothing() -> None:
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    loss = weighted_pixel_loss(logits, torch.full((1, 2, 2), 255, dtype=torch.uint8), torch.ones(1, 2), 0.1, 0.5)
    loss.backward()  # type: ignore[no-untyped-call]  # torch's own
    assert loss.item() == 0
    assert logits.grad is not None
    assert (logits.grad == 0).all()


def test_target_of_voc_is_06_and_002() -> None:
    """The gradient of a cell's cross-entropy is its softmax minus its target."""
    logits = torch.randn(1, 21, 1, 1, requires_grad=True)
    pixel_loss(logits, torch.tensor([[[7]]], dtype=torch.uint8)).backward()  # type: ignore[no-untyped-call]  # torch's
    assert logits.grad is not None
    target = (logits.softmax(1) - 2 * logits.grad).detach().flatten()
    expected = torch.full((21,), 0.02)
    expected[7] = 0.6
    torch.testing.assert_close(target, expected, atol=1e-5, rtol=1e-4)


def test_both_sides_weigh_the_same_whatever_their_number() -> None:
    logits = torch.zeros(1, 2, 1, 100)
    logits[:, 1] = torch.linspace(-1, 3, 100)
    labels = torch.zeros(1, 1, 100, dtype=torch.uint8)
    labels[0, 0, -1] = 1
    few = pixel_loss(logits, labels, 0.0)
    own = -logits.log_softmax(1)
    assert few.item() == pytest.approx(0.5 * own[0, 0, 0, :-1].mean().item() + 0.5 * own[0, 1, 0, -1].item(), rel=1e-5)
    plain = pixel_loss(logits, labels, 0.0, balanced=False)
    assert plain.item() == pytest.approx((own[0, 0, 0, :-1].sum() + own[0, 1, 0, -1]).item() / 100, rel=1e-5)


@pytest.mark.parametrize("label", [0, 2, 255])
@pytest.mark.parametrize("balanced", [True, False])
def test_batch_without_foreground_or_background_or_anything_gives_a_number(label: int, balanced: bool) -> None:
    logits = torch.randn(2, 4, 3, 3, requires_grad=True)
    labels = torch.full((2, 3, 3), label, dtype=torch.uint8)
    loss = pixel_loss(logits, labels, 0.4, balanced)
    loss.backward()  # type: ignore[no-untyped-call]  # torch's own
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    expected = 0.0 if label == 255 else slow(logits.detach(), labels, 0.4, balanced)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert bool((logits.grad == 0).all()) == (label == 255)


def test_ignored_cells_have_no_gradient() -> None:
    logits, labels = drawn(3)
    logits.requires_grad_()
    pixel_loss(logits, labels).backward()  # type: ignore[no-untyped-call]  # torch's own
    assert logits.grad is not None
    reached = logits.grad.abs().sum(1) > 0
    assert torch.equal(reached, labels != 255)


def test_losses_of_parts_add_up_to_that_of_the_batch() -> None:
    logits, labels = drawn(3)
    counts = pixel_counts(labels)
    assert counts.tolist() == [int((labels == 0).sum()), int(((labels > 0) & (labels < 255)).sum())]
    for balanced in (True, False):
        parts = [pixel_loss(logits[i : i + 1], labels[i : i + 1], 0.4, balanced, counts) for i in range(3)]
        assert sum(p.item() for p in parts) == pytest.approx(pixel_loss(logits, labels, 0.4, balanced).item(), rel=1e-5)


@pytest.mark.parametrize("size", [(512, 512), (512, 320), (65, 97), (48, 49), (1, 7), (50, 101)], ids=str)
@pytest.mark.parametrize("grid", [(32, 32), (5, 7), (4, 9), (1, 1)], ids=str)
def test_labels_are_reduced_as_pillow_does_it(size: tuple[int, int], grid: tuple[int, int]) -> None:
    labels = np.random.default_rng(0).integers(0, 256, size).astype(np.uint8)
    expected = np.array(Image.fromarray(labels).resize(grid[::-1], Image.Resampling.NEAREST))
    found = at_grid(torch.from_numpy(labels), *grid).numpy()
    # Unless its fractions are exact, Pillow may miss the edge of a pixel on which a cell's middle falls.
    rows, columns = (
        ((2 * np.arange(n) + 1) * side % (2 * n) != 0) | (n & (n - 1) == 0) for n, side in zip(grid, size, strict=True)
    )
    clear = rows[:, None] & columns
    assert np.array_equal(found[clear], expected[clear])
    assert clear.any() == ((size, grid) != ((50, 101), (5, 7)))


@pytest.mark.parametrize("crop", [512, 288, 64])
def test_stride_16_takes_the_ninth_pixel(crop: int) -> None:
    labels = torch.randint(0, 256, (2, crop, crop // 2), dtype=torch.uint8)
    assert torch.equal(at_grid(labels, crop // 16, crop // 32), labels[:, 8::16, 8::16])


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_without_a_background_the_classes_alone_share_the_target(smoothing: float) -> None:
    """Against loops: one mean over labelled cells, of the cross-entropy over C labels; balance means nothing."""
    logits = torch.randn(2, 3, 2, 4, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([[[1, 2, 3, 255], [1, 1, 1, 3]], [[2, 2, 2, 2], [255, 0, 1, 3]]], dtype=torch.uint8)
    labels[1, 1, 1] = 255
    terms = []
    for n, y, x in ((n, y, x) for n in range(2) for y in range(2) for x in range(4) if labels[n, y, x] != 255):
        own, shares = int(labels[n, y, x]) - 1, logits[n, :, y, x].double().log_softmax(0)
        target = [smoothing / 2] * 3
        target[own] = 1 - smoothing
        terms.append(-sum(t * float(s) for t, s in zip(target, shares, strict=True)))
    for balanced in (False, True):
        found = pixel_loss(logits, labels, smoothing, balanced, first=1)
        assert found.item() == pytest.approx(sum(terms) / len(terms), rel=1e-5)
