"""What the public class `AMN` trains on: a model up to a layer, and the user's batches, checked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from tag2mask.core.errors import DataError
from tag2mask.core.types import IGNORE
from tag2mask.methods.amn.data import at_grid, check_labels
from tag2mask.methods.amn.network import AmnNet
from tag2mask.methods.cam.api import check_images, check_tags
from tag2mask.methods.cam.hooks import listening, the_map

Batch = tuple[Tensor, Tensor, Tensor]
"""Images (N, 3, H, W), tags (N, C) and refined seeds (N, H, W)."""


class UpTo(nn.Module):
    """The features that a layer of a model gives, with gradients.

    Args:
        model: runs as a whole.
        layer: dotted name.
    """

    def __init__(self, model: nn.Module, layer: str) -> None:
        super().__init__()
        self.model, self.layer = model, layer

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) to features (N, D, h, w)."""
        seen: list[Any] = []
        with listening({self.model.get_submodule(self.layer): lambda _m, _i, output: seen.append(output)}):
            self.model(images)
        features = the_map(seen, self.layer)
        return features.clone() if features.is_inference() else features  # of a model that is never to be trained


class Epochs:
    """Checked batches, with refined seeds on the grid of the logits, once an epoch.

    Args:
        net: whose grid it is.
        batches: the user's.
        first: all of them, for the first epoch, whose first batch has been looked at.
        device: of the images.
    """

    def __init__(self, net: AmnNet, batches: Iterable[Any], first: Iterator[Any], device: torch.device) -> None:
        self.net, self.batches, self.device = net, batches, device
        self._first: Iterator[Any] | None = first
        self._grids: dict[tuple[int, int], tuple[int, int]] = {}

    def __iter__(self) -> Iterator[Batch]:
        """One epoch; raises `DataError` where a batch is wrong, or nothing is sure."""
        source, self._first = self._first or iter(self.batches), None
        count = sure = 0
        for batch in source:
            images, tags, labels = self._checked(triple(batch))
            count += 1
            sure += int((labels != IGNORE).count_nonzero())
            yield images, tags, labels
        if not count:
            raise DataError(
                "the batches ended before the last epoch: a generator can be read once only. Give fit a list or a "
                "loader, or set epochs=1"
            )
        if not sure:
            raise DataError("every pixel of all refined seeds is unsure (255), so there is nothing to learn from")

    def _checked(self, batch: Batch) -> Batch:
        images, tags, seeds = batch
        check_images(images)
        check_tags(tags, len(images), self.net.n_classes)
        size = (images.shape[2], images.shape[3])
        if not isinstance(seeds, Tensor) or tuple(seeds.shape) != (len(images), *size):
            got = tuple(seeds.shape) if isinstance(seeds, Tensor) else type(seeds).__name__
            raise DataError(f"refined_seeds must be a tensor (N, H, W) = {(len(images), *size)}, got {got}")
        names = [f"class column {c}" for c in range(tags.shape[1])]
        for i, (labels, row) in enumerate(zip(seeds, tags, strict=True)):
            check_labels(labels.unique().tolist(), row.nonzero()[:, 0].tolist(), names, f"image {i} of a batch")
        if size not in self._grids:
            self._grids[size] = self.net.grid(*size, channels=images.shape[1])
        # a copy of images made under torch.inference_mode, which training cannot use, and none of their gradients
        images = images.clone() if images.is_inference() else images.detach()
        return images.float(), tags.float(), at_grid(seeds, *self._grids[size]).to(torch.uint8)


def triple(batch: object) -> Batch:
    """The three parts of a batch.

    Raises:
        DataError: it has not three.
    """
    if not (isinstance(batch, tuple | list) and len(batch) == 3):
        raise DataError(f"fit expects triples (images, tags, refined_seeds), got {type(batch).__name__}")
    return batch[0], batch[1], batch[2]
