"""Drops or flips tags of a split by a seeded draw, so that the damage of wrong tags can be measured.

For each tag of each image one number u in [0, 1) is drawn from (seed, image id, name of the class) alone. Where u is
below ``drop`` the tag is taken away; where it is below ``drop + flip`` it is replaced by a class that the image does
not have: the one whose own draw, from (seed, image id, the right class, the wrong class), is lowest among those not
given to the image already, the tag of the lowest u choosing first. So a tag that is dropped at 5 % is dropped at 10 %
too, the same image has the same noise in every split, and an image that has every class keeps the tag that would be
flipped. An image may lose its last tag: it counts as a verified negative then, which is what a forgotten tag does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from pydantic import Field, model_validator

from tag2mask.config.settings import Settings
from tag2mask.core.errors import DataError
from tag2mask.core.types import Sample


class TagNoise(Settings):
    """Which share of the tags is wrong; for measuring what wrong tags do, never for a run that should be good."""

    drop: float = Field(default=0.0, ge=0, lt=1, description="share of the tags that is taken away")
    flip: float = Field(default=0.0, ge=0, lt=1, description="share of the tags that is replaced by a wrong class")
    seed: int = Field(default=0, ge=0, description="of the draw")

    @model_validator(mode="after")
    def _room(self) -> Self:
        if self.drop + self.flip > 1:
            raise ValueError(f"drop {self.drop:g} and flip {self.flip:g} are more than all tags; lower one of them")
        return self


@dataclass(frozen=True, slots=True)
class NoiseCount:
    """What noise has done to a split, in images and tags.

    ``removed`` are right tags that are gone, flipped ones included, ``added`` wrong ones; ``changed`` images have
    either, ``emptied`` ones had a tag and have none now.
    """

    images: int
    tags: int
    removed: int
    added: int
    changed: int
    emptied: int


def noisy(samples: Sequence[Sample], classes: Sequence[str], noise: TagNoise, split: str = "") -> tuple[Sample, ...]:
    """The samples with wrong tags by the noise of that split; images and masks are as they were."""
    made = tuple(replace(s, tags=_tags(s, classes, noise)) for s in samples)
    if any(s.tags for s in samples) and not any(s.tags for s in made):
        raise DataError(
            f"data.tag_noise.drop = {noise.drop:g} takes every tag of the {len(made)} images of split '{split}'; "
            "lower it"
        )
    return made


def count_noise(right: Sequence[Sample], wrong: Sequence[Sample]) -> NoiseCount:
    """Compare the samples of a split before and after noise, in the same order."""
    pairs = [(set(a.tags), set(b.tags)) for a, b in zip(right, wrong, strict=True)]
    return NoiseCount(
        images=len(pairs),
        tags=sum(len(a) for a, _ in pairs),
        removed=sum(len(a - b) for a, b in pairs),
        added=sum(len(b - a) for a, b in pairs),
        changed=sum(a != b for a, b in pairs),
        emptied=sum(bool(a) and not b for a, b in pairs),
    )


def _tags(sample: Sample, classes: Sequence[str], noise: TagNoise) -> tuple[int, ...]:
    absent = [c for c in range(len(classes)) if c not in sample.tags]
    kept: set[int] = set()
    draws = sorted((_draw(noise.seed, sample.id, classes[tag]), tag) for tag in sample.tags)
    for draw, tag in draws:  # the lowest first: a higher level adds to a lower one, whatever the order of the columns
        if draw < noise.drop:
            continue
        if draw < noise.drop + noise.flip and absent:
            tag = _wrong(sample.id, classes, tag, absent, noise.seed)
            absent.remove(tag)
        kept.add(tag)
    return tuple(sorted(kept))


def _wrong(sample_id: str, classes: Sequence[str], tag: int, absent: Sequence[int], seed: int) -> int:
    """The absent class that stands where a tag is flipped."""
    return min(absent, key=lambda c: _draw(seed, sample_id, classes[tag], classes[c]))


def _draw(seed: int, *words: str) -> float:
    """A number in [0, 1) that depends on these words alone."""
    text = "\0".join([str(seed), *words])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2.0**64
