"""Chooses the images that a page shows: by rule, not by eye, and none most of which is ignored."""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass

MOST_IGNORED = 0.25
"""Largest ignored share of the pixels of an image that may be the best, a median or the worst one: where much is
ignored, little can be wrong."""


@dataclass(frozen=True, slots=True)
class ImageChoice:
    """What a page shows: these ids, so many best, median and worst images, so many more at random, by a seed."""

    images: tuple[str, ...] = ()
    each: int = 2
    random: int = 2
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Candidate:
    """An image with a score, larger is better; NaN where the ground truth is ignored everywhere.

    ``ignored`` is the share of its pixels that are ignored, 0..1.
    """

    id: str
    score: float
    ignored: float = 0.0


def choose_images(
    scored: Sequence[Candidate], every: Sequence[str], choice: ImageChoice
) -> tuple[tuple[str, str], ...]:
    """Choose images: the listed ones, the best, the middle, the worst, and some at random, each once with the reason.

    Candidates above `MOST_IGNORED` are only listed or random ones; ``every`` holds the ids of all images, in order.
    """
    known = [c for c in scored if c.ignored <= MOST_IGNORED and not math.isnan(c.score)]
    ranked = [c.id for c in sorted(known, key=lambda c: (-c.score, c.id))]
    start, of = max(0, (len(ranked) - choice.each) // 2), f"of {len(ranked)}"
    worst = ranked[::-1][: choice.each]
    groups = [
        ("chosen", [i for i in choice.images if i in set(every)]),
        (f"best {of}", ranked[: choice.each]),
        (f"median {of}", ranked[start : start + choice.each]),
        (f"worst {of}", worst),
    ]
    chosen: dict[str, str] = {}
    for why, ids in groups:
        for sample_id in ids:
            chosen.setdefault(sample_id, why)
    for sample_id in draw([i for i in every if i not in chosen], choice.random, choice.seed):
        chosen[sample_id] = f"random, seed {choice.seed}"
    return tuple(chosen.items())


def draw(ids: Collection[str], count: int, seed: int) -> tuple[str, ...]:
    """At most ``count`` ids drawn by ``seed``, in the order of the list."""
    ordered = list(ids)
    drawn = set(random.Random(seed).sample(ordered, min(count, len(ordered))))
    return tuple(i for i in ordered if i in drawn)
