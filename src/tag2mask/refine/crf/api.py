"""Dense CRF as a library call: many problems on one image, or on several images at once, share their lattices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import PIL.Image
import torch
from numpy.typing import NDArray
from torch import Tensor

from tag2mask.core.errors import ConfigError, DataError
from tag2mask.data.forms import rgb_of, tensor_of
from tag2mask.refine.crf.kernel import bilateral_kernel, gaussian_kernel
from tag2mask.refine.crf.presets import CRFPreset, find_preset
from tag2mask.refine.crf.unary import check_labels, unary_from_labels, unary_from_scores

Array = Tensor | NDArray[Any]
Image = str | Path | PIL.Image.Image | Array
"""A photo in any form that `tag2mask.load`'s networks take."""
Labels = PIL.Image.Image | Array
_MANY = 16
"""Labels from which on torch's softmax over the last dimension is the faster."""
_CHANNELS = 32
"""Labels times problems that are filtered together; more are taken in turn, which bounds the memory."""


class DenseCRF:
    """Mean-field inference in a fully connected CRF with the image's colours (Krähenbühl and Koltun 2011, 2013).

    Energy and semantics are those of the reference: a Gaussian kernel over positions and a bilateral one over
    positions and colours, symmetrically normalised, with Potts weights; a pixel's message to itself is kept. The
    lattices are built once, here, and serve every problem on the image.

    Args:
        image: the photo in any form that `tag2mask.load`'s networks take: a path, an image of Pillow's, an array
            (H, W, 3), (H, W) or (H, W, 1), uint8 or in [0, 1], a tensor (3, H, W) in [0, 1] or (H, W, 3) uint8. Files
            and Pillow's are taken upright. The work is done on a tensor's device unless ``device`` is given.
        preset: a name in `PRESETS`, or parameters of one's own.
        device: where to work, such as ``cuda``.

    Raises:
        ConfigError: an unknown preset.
        DataError: the image has another shape or type.

    Example:
        >>> import numpy as np
        >>> crf = DenseCRF(np.zeros((4, 5, 3), np.uint8))
        >>> crf.refine_labels(np.eye(4, 5, dtype=int), n_labels=2).unique().tolist()
        [0]
    """

    def __init__(
        self, image: Image, preset: str | CRFPreset = "irn", *, device: torch.device | str | None = None
    ) -> None:
        self._batch = DenseCRFBatch([image], preset, device=device)

    @classmethod
    def batch(
        cls, images: Sequence[Image], preset: str | CRFPreset = "irn", *, device: torch.device | str | None = None
    ) -> DenseCRFBatch:
        """The same for several images of any sizes at once, each as if it were alone; fills a GPU."""
        return DenseCRFBatch(images, preset, device=device)

    @torch.no_grad()
    def refine(self, probabilities: Array, iterations: int | None = None) -> Tensor:
        """Marginals after mean field from probabilities.

        Args:
            probabilities: (..., L, H, W) in [0, 1], array or tensor, background among the L labels. Scores that do
                not sum to 1 are accepted, as in the reference; below 1e-5 they count as 1e-5.
            iterations: of mean field, 0 or more; None for the preset's (10; ``edam`` 3).

        Returns:
            (..., L, H, W) float32 on the CRF's device, summing to 1 over the labels.

        Raises:
            ConfigError: ``iterations`` is negative.
            DataError: another shape, a NaN, or a number outside [0, 1].
        """
        return self._batch.refine([probabilities], iterations)[0]

    @torch.no_grad()
    def refine_labels(
        self, labels: Labels, n_labels: int, gt_prob: float = 0.7, iterations: int | None = None
    ) -> Tensor:
        """Labels after mean field from hard labels.

        Args:
            labels: (..., H, W) whole numbers from 0 to ``n_labels`` - 1, array, tensor or palette image of Pillow's;
                255 where ignored, all labels alike.
            n_labels: L, background included. With 1 there is nothing to decide: all 0.
            gt_prob: probability that a label is right; the others share the rest.
            iterations: as in `refine`.

        Returns:
            (..., H, W) int64 on the CRF's device, the label of largest marginal; the lowest of equal ones.

        Raises:
            ConfigError: ``n_labels``, ``gt_prob`` or ``iterations`` is out of range.
            DataError: another shape or another label.
        """
        return self._batch.refine_labels([labels], [n_labels], gt_prob, iterations)[0]


class DenseCRFBatch:
    """Dense CRFs of several images, computed together; arguments and errors as for `DenseCRF`."""

    def __init__(
        self, images: Sequence[Image], preset: str | CRFPreset = "irn", *, device: torch.device | str | None = None
    ) -> None:
        if not len(images):
            raise DataError("a dense CRF needs at least one image, none was given")
        self.preset = find_preset(preset)
        tensors = [_image(image) for image in images]
        self.device = tensors[0].device if device is None else torch.device(device)
        self.sizes = [(int(t.shape[0]), int(t.shape[1])) for t in tensors]
        tensors = [t.to(self.device) for t in tensors]
        with torch.no_grad():
            # The larger is built first, so that the other fits into memory that it left; the smaller is added first.
            bilateral = bilateral_kernel(tensors, self.preset)
            self._kernels = (gaussian_kernel(tuple(self.sizes), self.preset, self.device), bilateral)

    @torch.no_grad()
    def refine(self, probabilities: Sequence[Array], iterations: int | None = None) -> list[Tensor]:
        """As `DenseCRF.refine`, one (..., L, H, W) for each image; L and the leading sides may differ."""
        steps, inputs = self._steps(iterations), self._inputs(probabilities, "probabilities")
        unaries = [unary_from_scores(p, size) for p, size in zip(inputs, self.sizes, strict=True)]
        found = self._infer(unaries, steps, lambda q: q)
        return [q.reshape(p.shape) for q, p in zip(found, inputs, strict=True)]

    @torch.no_grad()
    def refine_labels(
        self, labels: Sequence[Labels], n_labels: Sequence[int], gt_prob: float = 0.7, iterations: int | None = None
    ) -> list[Tensor]:
        """As `DenseCRF.refine_labels`, one (..., H, W) and one L for each image."""
        steps, inputs = self._steps(iterations), self._inputs(labels, "labels")
        if len(n_labels) != len(inputs):
            raise DataError(f"n_labels holds {len(n_labels)} numbers for {len(inputs)} images: expected one for each")
        unaries = []
        for one, size, n in zip(inputs, self.sizes, n_labels, strict=True):
            if n == 1:
                unaries.append(torch.zeros_like(check_labels(one, size, 1), dtype=torch.float32)[:, None])
            else:
                unaries.append(unary_from_labels(one, size, n, gt_prob))
        found = self._infer(unaries, steps, lambda q: q.argmax(1))
        return [q.reshape(one.shape) for q, one in zip(found, inputs, strict=True)]

    def _steps(self, iterations: int | None) -> int:
        steps = self.preset.iterations if iterations is None else iterations
        if steps < 0:
            raise ConfigError(f"iterations = {steps}: expected 0 or more")
        return steps

    def _inputs(self, values: Sequence[Labels], name: str) -> list[Tensor]:
        if len(values) != len(self.sizes):
            raise DataError(f"{name} of {len(values)} images for {len(self.sizes)} images: expected one for each")
        return [tensor_of(value, name).to(self.device) for value in values]

    def _infer(self, unaries: list[Tensor], steps: int, finish: Callable[[Tensor], Tensor]) -> list[Tensor]:
        """Mean field from energies (P, L, H, W) of each image; ``finish`` is applied to marginals of that shape.

        The list is emptied on the way: energies are not held twice.
        """
        shapes = [u.shape for u in unaries]
        n_problems, n_labels = (max(shape[k] for shape in shapes) for k in (0, 1))
        if n_labels == 1 or not n_problems:
            return [finish(torch.ones_like(u)) for u in unaries]
        together = max(1, _CHANNELS // n_labels)
        parts: list[list[Tensor]] = [[] for _ in unaries]
        for first in range(0, n_problems, together):
            counts = [max(0, min(together, shape[0] - first)) for shape in shapes]
            rows = [_pixels_first(u[first : first + together], max(counts), n_labels) for u in unaries]
            if first + together >= n_problems:
                unaries.clear()
            energy = torch.cat(rows) if len(rows) > 1 else rows.pop()
            found = self._mean_field(energy, n_labels, steps)
            for part, q, count, shape in zip(parts, found, counts, shapes, strict=True):
                part.append(finish(q[:count, : shape[1]]))
        return [torch.cat(part) if len(part) > 1 else part[0] for part in parts]

    def _mean_field(self, energy: Tensor, n_labels: int, steps: int) -> list[Tensor]:
        """Q = softmax(-U), then ``steps`` times Q = softmax(-U + sum of the kernels' messages), all pixels at once.

        From (N, P L) energies U, the pixels of all images one after another, to (P, L, H, W) marginals of each image.
        """
        q = _softmax(-energy, n_labels)
        for _ in range(steps):  # two arrays of this size at any time, beside the tables of the lattices
            tables = [kernel.spread(q) for kernel in self._kernels]
            torch.neg(energy, out=q)
            for kernel, table in zip(self._kernels, tables, strict=True):
                kernel.collect(table, q)
            q = _softmax(q, n_labels)
        parts = torch.split(q, [h * w for h, w in self.sizes])
        return [p.t().reshape(-1, n_labels, *size) for p, size in zip(parts, self.sizes, strict=True)]


def _image(image: Image) -> Tensor:
    if not isinstance(image, Tensor):
        return torch.from_numpy(rgb_of(image, "image"))
    if image.dtype == torch.uint8 and image.ndim == 3 and image.shape[-1] == 3 and image.numel():
        return image
    return torch.from_numpy(rgb_of(image, "image")).to(image.device)


def _pixels_first(unary: Tensor, count: int, n_labels: int) -> Tensor:
    """(P, L, H, W) to (H W, count n_labels): labels that an image lacks cost infinitely much."""
    problems, labels = unary.shape[:2]
    full = unary
    if (problems, labels) != (count, n_labels):
        full = unary.new_zeros(count, n_labels, *unary.shape[2:])
        full[:, labels:] = torch.inf
        full[:problems, :labels] = unary
    return full.permute(2, 3, 0, 1).reshape(-1, count * n_labels).contiguous()


def _softmax(values: Tensor, n_labels: int) -> Tensor:
    """Over each problem's labels, (N, P L), in place where that is faster."""
    rows = values.view(-1, n_labels)
    if n_labels < _MANY and values.device.type == "cpu":  # torch's own takes five times as long for short rows
        rows.sub_(rows.amax(1, keepdim=True)).exp_()
        rows.div_(rows.sum(1, keepdim=True))
        return values
    return rows.softmax(1).view(values.shape)
