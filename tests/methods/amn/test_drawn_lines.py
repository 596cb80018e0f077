"""AMN on thin things: what it says of a class when the code says that the class is there, and it is not.

The network's cells are wider than a crack, so it can tell little apart; told the tags, it then says foreground nearly
everywhere unless it has also seen images under the code of a class that they lack.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn

from tag2mask import AMN
from tag2mask.data.readers.parts import PartsSettings, open_split

SIDE = 64
FIXED: dict[str, Any] = {"absent": 0.5, "class_weight": 0.5, "smoothing_classes": 20}


class Coarse(nn.Module):
    """Four convolutions down to stride 16."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        layers: list[nn.Module] = []
        for before, after in ((3, 16), (16, 24), (24, 32), (32, 32)):
            layers += [nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.fc = nn.Linear(32, 1)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.body(images).mean((2, 3)))
        return logits


@pytest.fixture(scope="module")
def cracks() -> tuple[Tensor, Tensor, Tensor]:
    """24 images, their tags, and refined seeds: cracks two pixels too wide, background away from them, else 255."""
    values: dict[str, Any] = {"scenes": "lines", "images": 24, "size": (SIDE, SIDE), "difficulty": "hard"}
    dataset = open_split(PartsSettings(**values), "train")
    images = np.stack([np.asarray(dataset.image(s), np.float32) for s in dataset.samples]) / 255
    seeds = np.stack([_refined(dataset.truth(s) == 1) for s in dataset.samples])
    tags = torch.tensor([[float(bool(s.tags))] for s in dataset.samples])
    return (torch.from_numpy(images.transpose(0, 3, 1, 2)) - 0.5) / 0.25, tags, torch.from_numpy(seeds)


def _refined(crack: NDArray[np.bool_]) -> NDArray[np.int64]:
    seeds = np.where(ndimage.binary_dilation(crack, iterations=9), 255, 0) if crack.any() else np.zeros(crack.shape)
    seeds[ndimage.binary_dilation(crack, iterations=2)] = 1
    return seeds.astype(np.int64)


def found(cracks: tuple[Tensor, Tensor, Tensor], **values: Any) -> tuple[float, float, float]:
    """Shares of pixels that AMN calls crack under its code, in images with and without one, and that of the seeds."""
    images, tags, seeds = cracks
    batches = [(images[i::3], tags[i::3], seeds[i::3]) for i in range(3)]
    amn = AMN(Coarse(), "body", normalise="learned", epochs=15, lr=2e-3, head_lr=1e-2, **values).fit(batches)
    maps = torch.stack([m.resize(SIDE, SIDE).maps[0] for m in amn(images, torch.ones_like(tags))])
    on, there = (maps > 0.5).float().mean((1, 2)), tags[:, 0] > 0
    return float(on[there].mean()), float(on[~there].mean()), float((seeds[there] == 1).float().mean())


def test_told_the_tags_alone_amn_calls_far_too_much_a_crack_even_where_there_is_none(
    cracks: tuple[Tensor, Tensor, Tensor],
) -> None:
    """What the next test is about; if this fails, the data has become too easy for it to say anything."""
    with_crack, without, seeds = found(cracks)
    assert with_crack > 3 * seeds
    assert without > 0.15


def test_shown_absent_classes_amn_finds_no_more_than_its_seeds_and_nothing_without_a_crack(
    cracks: tuple[Tensor, Tensor, Tensor],
) -> None:
    with_crack, without, seeds = found(cracks, **FIXED)
    assert without < 0.02
    assert with_crack < 2 * seeds
    assert with_crack > 0.2 * seeds, "it has not become blind either"
