"""Every loss that is a ratio, on two processes by torchrun: writes gradients that a test compares with one process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from tag2mask.core.processes.ranks import join, rank, world_size
from tag2mask.methods.irn.affinity import boundary_loss
from tag2mask.segmentation.training import segmentation_loss
from tag2mask.training.losses import multilabel_soft_margin, pixel_loss, weighted_pixel_loss

Part = Callable[[Tensor, slice], Tensor]
SHARES = (slice(0, 2), slice(2, 7))
"""Unequal on purpose: a mean of each process's mean would be wrong."""


def _soft_margin(outputs: Tensor, part: slice) -> Tensor:
    tags = (torch.arange(28).reshape(7, 4) % 3 == 0).float()
    mask = torch.tensor([True, True, False, True])
    return multilabel_soft_margin(outputs[part], tags[part], mask)


def _boundary(outputs: Tensor, part: slice) -> Tensor:
    """Edges of 4 x 5 cells, four rows of five, from the four outputs of each image."""
    edge = torch.sigmoid(outputs * torch.linspace(-1, 1, 28).reshape(7, 4))[part, :, None] * torch.linspace(0.2, 1, 5)
    labels = torch.tensor([0, 0, 1, 255, 2, 2, 0]).repeat(20).reshape(7, 4, 5).to(torch.uint8)
    return boundary_loss(edge, labels[part], 2)


def _pixel(outputs: Tensor, part: slice) -> Tensor:
    """Two rows of two cells, four labels each; the first process has no foreground."""
    logits = outputs[part, :, None, None] * torch.tensor([[1.0, -0.5], [0.3, 2.0]])
    labels = torch.tensor([0, 0, 1, 255, 3, 2, 0])[:, None].repeat(1, 4).reshape(7, 2, 2).to(torch.uint8)
    labels[3, 0, 0] = 2
    return pixel_loss(logits, labels[part])


def _weighted(outputs: Tensor, part: slice) -> Tensor:
    """The same cells: the weights of a class are those of all processes together, though the first has none of it."""
    logits = outputs[part, :, None, None] * torch.tensor([[1.0, -0.5], [0.3, 2.0]])
    labels = torch.tensor([0, 0, 1, 255, 3, 2, 0])[:, None].repeat(1, 4).reshape(7, 2, 2).to(torch.uint8)
    labels[3, 0, 0] = 2
    labels[4:, 1] = 0
    tags = (torch.arange(21).reshape(7, 3) % 2 == 0).float()
    return weighted_pixel_loss(logits, labels[part], tags[part], 0.2, 0.5)


def _segmentation(outputs: Tensor, part: slice) -> Tensor:
    """Two outputs, of the labels' size and of half of it; the first process has no foreground in the smaller one."""
    logits = outputs[part, :, None, None] * torch.tensor([[1.0, -0.5], [0.3, 2.0]])
    labels = torch.tensor([0, 0, 1, 255, 3, 2, 0])[:, None].repeat(1, 4).reshape(7, 2, 2).to(torch.uint8)
    labels[1, 0, 0] = 3
    labels[3, 1, 1] = 2
    small = logits.mean((2, 3), keepdim=True)
    return segmentation_loss([(1.0, logits), (0.4, small)], labels[part], balanced=True)


CASES: dict[str, Part] = {
    "multilabel_soft_margin": _soft_margin,
    "boundary_loss": _boundary,
    "pixel_loss": _pixel,
    "weighted_pixel_loss": _weighted,
    "segmentation_loss": _segmentation,
}
"""For each loss: from outputs (7, 4) of all images and a process's part to its share."""


def outputs() -> Tensor:
    """Seven rows of four logits that carry a gradient."""
    return torch.linspace(-2, 3, 28).reshape(7, 4).requires_grad_()


def main(out: Path) -> None:
    """Average the gradients of both processes, as training does."""
    join()
    gradients = {}
    for name, share in CASES.items():
        values = outputs()
        share(values, SHARES[rank()]).backward()  # type: ignore[no-untyped-call]  # torch's own
        assert values.grad is not None
        torch.distributed.all_reduce(values.grad)
        gradients[name] = values.grad / world_size()
    if rank() == 0:
        save_file(gradients, out)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
