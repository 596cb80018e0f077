"""The loss of the second stage against plain numbers and torch's own."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from tag2mask.segmentation.training import output_counts, segmentation_loss
from tag2mask.training.label_images import at_grid


def drawn(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits (3, 4, 8, 6), and labels with padding in the second image, without foreground in the third."""
    torch.manual_seed(seed)
    labels = torch.randint(0, 4, (3, 8, 6)).to(torch.uint8)
    labels[1, 5:] = 255
    labels[2] = 0
    return torch.randn(3, 4, 8, 6), labels


def test_plain_loss_is_torchs_mean_over_pixels_that_are_not_255() -> None:
    logits, labels = drawn()
    expected = F.cross_entropy(logits, labels.long(), ignore_index=255)
    torch.testing.assert_close(segmentation_loss([(1.0, logits)], labels), expected)


def test_balanced_loss_is_the_mean_over_background_plus_the_mean_over_foreground() -> None:
    logits, labels = drawn()
    sides: dict[bool, list[float]] = {True: [], False: []}
    for n, y, x in np.ndindex(3, 8, 6):
        label = int(labels[n, y, x])
        if label != 255:
            scores = logits[n, :, y, x].tolist()
            sides[label == 0].append(math.log(sum(math.exp(s) for s in scores)) - scores[label])
    expected = sum(sum(terms) / len(terms) for terms in sides.values())
    assert segmentation_loss([(1.0, logits)], labels, balanced=True).item() == pytest.approx(expected, rel=1e-5)


def test_outputs_are_weighed_and_compared_with_labels_of_their_size() -> None:
    logits, labels = drawn()
    small = torch.randn(3, 4, 4, 3)
    less = torch.stack(
        [
            torch.from_numpy(np.array(Image.fromarray(one.numpy()).resize((3, 4), Image.Resampling.NEAREST)))
            for one in labels
        ]
    )
    expected = F.cross_entropy(logits, labels.long(), ignore_index=255)
    expected = expected + 0.4 * F.cross_entropy(small, less.long(), ignore_index=255)
    torch.testing.assert_close(segmentation_loss([(1.0, logits), (0.4, small)], labels), expected)


@pytest.mark.parametrize("side", [41, 21, 31])
def test_labels_of_deeplabs_outputs_are_pillows(side: int) -> None:
    labels = torch.randint(0, 21, (321, 321), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    expected = np.array(Image.fromarray(labels.numpy()).resize((side, side), Image.Resampling.NEAREST))
    assert torch.equal(at_grid(labels, side, side), torch.from_numpy(expected))


@pytest.mark.parametrize("balanced", [True, False])
def test_parts_of_a_batch_add_up_to_it(balanced: bool) -> None:
    logits, labels = drawn()
    small = F.avg_pool2d(logits, 2)
    outputs = [(1.0, logits), (0.4, small)]
    whole = segmentation_loss(outputs, labels, balanced)
    counts = output_counts(labels, [(8, 6), (4, 3)])
    assert counts.shape == (2, 2)
    assert counts[0].tolist() == [int((labels == 0).sum()), int(((labels != 0) & (labels != 255)).sum())]
    parts = [
        segmentation_loss([(weight, values[part]) for weight, values in outputs], labels[part], balanced, counts)
        for part in (slice(0, 1), slice(1, 3))
    ]
    torch.testing.assert_close(sum(parts), whole)
    mean = sum(segmentation_loss([(w, v[p]) for w, v in outputs], labels[p]) for p in (slice(0, 1), slice(1, 3))) / 2
    assert abs(float(mean) - float(whole)) > 1e-3, "the case does not tell a mean of means from the mean"


@pytest.mark.parametrize("balanced", [True, False])
def test_nothing_sure_gives_no_loss_and_no_gradient(balanced: bool) -> None:
    logits = torch.randn(1, 4, 4, 4, requires_grad=True)
    loss = segmentation_loss([(1.0, logits)], torch.full((1, 4, 4), 255, dtype=torch.uint8), balanced)
    loss.backward()  # type: ignore[no-untyped-call]  # torch's own
    assert loss.item() == 0
    assert logits.grad is not None
    assert (logits.grad == 0).all()


def test_pixels_of_255_have_no_gradient_and_others_have() -> None:
    logits, labels = drawn()
    logits.requires_grad_()
    segmentation_loss([(1.0, logits)], labels, balanced=True).backward()  # type: ignore[no-untyped-call]  # torch's own
    assert logits.grad is not None
    moved = logits.grad.abs().sum(1) > 0
    assert torch.equal(moved, labels != 255)
