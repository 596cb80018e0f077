"""Learns a class's pixels from where its maps are active, without a drawn pixel: multiple-instance learning.

A map shows a thing some cells wide, however thin it is. So of the pixels of an active region only some are the thing,
but in each neighbourhood as wide as the region some are: the few that the model finds likeliest there. These are taken
as the thing, all other pixels as not the thing, the model learns again, and what stands out moves from the region to
the thing in it within a few rounds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from tag2mask.refine.pixels.features import COUNT, pixel_features
from tag2mask.refine.pixels.regions import Mask, Scores, standing_out

Half = NDArray[np.float16]
_WIDTH = 16
_STEPS, _BATCH, _RATE, _DECAY = 250, 2048, 1e-2, 1e-3
_PIXELS = 60_000
"""Pixels that a round learns from at most, half of them on either side."""
_OUTSIDE = 1000
"""Pixels outside its region that are kept of an image."""
_LEAST_BLUR, _BLURS = 1.5, 16
"""Standard deviation, pixels, of the blur before pixels stand out: at least, and as a part of the window."""


class PixelNet(nn.Sequential):
    """Features (N, `COUNT`) of pixels to one logit each, (N, 1): how likely a pixel of a region is the thing.

    Thing and all else weigh alike in its training, so 0 is where both are as likely as among equally many of either.
    """

    def __init__(self) -> None:
        super().__init__(
            nn.Linear(COUNT, _WIDTH), nn.ReLU(), nn.Linear(_WIDTH, _WIDTH), nn.ReLU(), nn.Linear(_WIDTH, 1)
        )

    @torch.no_grad()
    def scores(self, features: NDArray[np.floating]) -> Scores:
        """Logits (N,) of pixels (N, `COUNT`)."""
        found: Scores = self(torch.from_numpy(features).float())[:, 0].numpy()
        return found


@dataclass(frozen=True, slots=True, eq=False)
class RegionPixels:
    """An image with the class, as the learning sees it.

    Attributes:
        region: (H, W), where the class's map is active.
        inside: (n, `COUNT`) float16, features of the region's pixels, in raster order.
        outside: (m, `COUNT`) float16, of a sample of the others; of an image without the class all are outside.
    """

    region: Mask
    inside: Half
    outside: Half

    @classmethod
    def of(cls, image: NDArray[np.uint8], region: Mask, rng: np.random.Generator) -> RegionPixels:
        """Features of an image (H, W, 3) uint8 with its active region (H, W), which may be empty."""
        features = pixel_features(image).astype(np.float16)
        others = np.flatnonzero(~region.ravel())
        others = rng.choice(others, min(_OUTSIDE, len(others)), replace=False)
        return cls(region, features[region.ravel()], features[others])


@dataclass(frozen=True, slots=True)
class Learning:
    """How a class's pixels are learned.

    Attributes:
        share: of each neighbourhood's pixels that are taken as the thing.
        rounds: of learning from what stands out, after the first from whole regions; 0 ends with that.
        window: side of a neighbourhood, pixels.
        seed: of weights and samples.
    """

    share: float
    rounds: int
    window: int
    seed: int

    def model(self, images: Sequence[RegionPixels], without: Sequence[RegionPixels]) -> PixelNet:
        """A model of a class's pixels.

        Args:
            images: those with the class; at least one region holds a pixel.
            without: images without it, whose pixels are all of something else.
        """
        rng = np.random.default_rng(self.seed)
        chosen = [np.ones(len(image.inside), dtype=bool) for image in images]
        net = _round(images, chosen, [], rng, self.seed)
        for _ in range(self.rounds):
            chosen = [self.standing_out(image, net) for image in images]
            net = _round(images, chosen, without, rng, self.seed)
        if not self.rounds:
            return net
        # Once more from all that is found when no more are taken than stood out: things may be wider than that.
        level = _level(chosen)
        chosen = [net.scores(image.inside) > level for image in images]
        return _round(images, chosen, without, rng, self.seed)

    def standing_out(self, image: RegionPixels, net: PixelNet) -> Mask:
        """(n,) of the pixels of an image's region: those that the next round takes as the thing."""
        blur = max(_LEAST_BLUR, self.window / _BLURS)
        return standing_out(net.scores(image.inside), image.region, self.share, self.window, blur)


def _round(
    images: Sequence[RegionPixels], chosen: Sequence[Mask], without: Sequence[RegionPixels],
    rng: np.random.Generator, seed: int,
) -> PixelNet:  # fmt: skip
    """A model learned from the chosen pixels of each image against all other pixels, of all images alike."""
    quota = max(1, _PIXELS // 2 // len(images))
    things, others = [], []
    for image, mine in zip(images, chosen, strict=True):
        things.append(_some(image.inside[mine], quota, rng))
        rest = len(image.inside) - int(mine.sum())
        area, inside = image.region.size, _some(image.inside[~mine], quota, rng)
        # As many of the region's other pixels and of those outside it as there are in the image.
        share = rest / max(1, rest + area - image.region.sum())
        others += [_some(inside, round(quota * share), rng), _some(image.outside, round(quota * (1 - share)), rng)]
    others += [_some(image.outside, quota, rng) for image in without]
    return _fit(np.concatenate(things), np.concatenate(others), seed)


def _level(chosen: Sequence[Mask]) -> float:
    """The logit at which a pixel is as likely the thing as not, where the thing is as rare in regions as the chosen."""
    taken, of = (sum(f(mine) for mine in chosen) for f in (np.count_nonzero, len))
    return -math.log(max(1, taken) / max(1, of - taken))


def _some(rows: Half, n: int, rng: np.random.Generator) -> Half:
    return rows if len(rows) <= n else rows[rng.choice(len(rows), n, replace=False)]


def _fit(things: Half, others: Half, seed: int) -> PixelNet:
    """Both sides weigh alike, however many pixels they have."""
    rows = torch.from_numpy(np.concatenate([things, others]))
    target = torch.cat([torch.ones(len(things)), torch.zeros(len(others))])
    weight = torch.cat([torch.full((len(one),), len(rows) / 2 / max(1, len(one))) for one in (things, others)])
    draws = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = PixelNet()
    optimiser = torch.optim.AdamW(net.parameters(), lr=_RATE, weight_decay=_DECAY)
    for step in range(_STEPS):
        for group in optimiser.param_groups:
            group["lr"] = _RATE * (1 - step / _STEPS)
        picked = torch.randint(len(rows), (_BATCH,), generator=draws)
        logits: Tensor = net(rows[picked].float())[:, 0]
        terms = F.binary_cross_entropy_with_logits(logits, target[picked], reduction="none")
        optimiser.zero_grad()
        loss: Tensor = (terms * weight[picked]).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return net.eval()
