"""Bodies that give tokens: vision transformers, whose patches make up a map and whose class tokens stand beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """What a transformer makes of some images.

    Attributes:
        patches: (N, h w, D), in raster order.
        grid: (h, w), rows and columns of patches.
        prefix: (N, P, D), the tokens that belong to no patch, in the network's order: class tokens, registers.
    """

    patches: Tensor
    grid: tuple[int, int]
    prefix: Tensor

    def as_map(self) -> Tensor:
        """The patches as features (N, D, h, w)."""
        n, _, channels = self.patches.shape
        return self.patches.transpose(1, 2).reshape(n, channels, *self.grid)


class TokenBody(nn.Module):
    """A timm vision transformer without head, for images of any size; `forward` gives the map of its patches.

    Images are filled up to whole patches with 0, the mean colour, on the right and below.

    Args:
        net: made with ``dynamic_img_size=True``, which resizes its table of positions to the image.

    Attributes:
        net: the same; whoever needs class tokens of its own, or attention, goes through ``net.blocks``.
        patch: (height, width) of a patch in pixels.
    """

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net
        self.patch: tuple[int, int] = tuple(net.patch_embed.patch_size)
        self._n_prefix = int(net.num_prefix_tokens)

    def tokens(self, images: Tensor) -> Tokens:
        """Normalised images (N, 3, H, W) to their tokens after the last norm, ceil(H / patch) rows of them."""
        height, width = (-(-side // patch) for side, patch in zip(images.shape[-2:], self.patch, strict=True))
        rest = (width * self.patch[1] - images.shape[-1], height * self.patch[0] - images.shape[-2])
        found = self.net.forward_features(F.pad(images, (0, rest[0], 0, rest[1])))
        return Tokens(found[:, self._n_prefix :], (height, width), found[:, : self._n_prefix])

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (N, 3, H, W) to the features of their patches, (N, D, h, w)."""
        return self.tokens(images).as_map()
