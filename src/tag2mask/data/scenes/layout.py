"""What stands where in a drawn scene: numbers only, no pixels.

A scene holds one to three pull-along toys. Every toy has the same body on the same wheels; only its head shows the
class. Some classes have a context (`CONTEXTS`) that comes with them and is background in the masks. The rule of the
three difficulties (`RULES`): each step halves the head's share of the toy, doubles noise and distractors, and brings
the context closer to always. It was fixed before any method was run on it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tag2mask.data.scenes.model import Box, Prop, Scene, Toy
from tag2mask.data.scenes.toys import ATTACH, fill

Difficulty = Literal["easy", "medium", "hard"]
CLASSES = ("train", "boat", "cat", "bird", "frog", "robot")
CONTEXTS = {0: "rails", 1: "water"}
"""Class column -> the context that comes with it."""

_RATIOS = (1.0, 5 / 4, 4 / 3, 3 / 2)
_AREAS = ((0.16, 0.30), (0.10, 0.18), (0.07, 0.12))
"""Range of one toy's area as a share of the image, for one, two and three toys."""
_BODY_SHARE = 0.8
"""Of the area that is not head; the wheels have the rest."""
_BODY_ASPECT = 1.7
_DISC = 0.785
"""The share of its square that a disc covers."""
_TRIES = 20


@dataclass(frozen=True, slots=True)
class DifficultyRule:
    """What a difficulty means."""

    head_share: float  # area of the head as a share of the whole toy's, in (0, 1)
    # Probability that a class with a context has it in its scene; it is (1 - context_rate) / 2 without the class.
    context_rate: float
    noise: float  # standard deviation of the pixel noise, in grey levels of 255
    distractors: int  # largest number of bushes, stones, flowers and clouds


RULES: dict[Difficulty, DifficultyRule] = {
    "easy": DifficultyRule(1 / 2, 0.5, 4, 2),
    "medium": DifficultyRule(1 / 4, 0.8, 8, 4),
    "hard": DifficultyRule(1 / 8, 0.95, 16, 8),
}


def lay_out(rng: np.random.Generator, rule: DifficultyRule, size: int | tuple[int, int], first: int) -> Scene:
    """Draw where everything stands; ``first`` is the class column of one toy, the others' are random.

    ``size`` is the long side, with a random aspect ratio, or (height, width).
    """
    height, width = sides(rng, size)
    horizon = round(height * between(rng, 0.3, 0.5))
    count = 1 + int(rng.integers(6) > 2) + int(rng.integers(3) > 1)
    kinds = [first, *(int(rng.integers(len(CLASSES))) for _ in range(count - 1))]
    toys: list[Toy] = []
    for kind in kinds:
        for _ in range(_TRIES):
            toy = _toy(rng, rule, kind, count, (height, width, horizon))
            if all(_visible(*sorted((toy, other), key=lambda t: t.base)) for other in toys):
                toys.append(toy)
                break
    toys.sort(key=lambda t: t.base)
    props = (*_distractors(rng, rule, height, width, horizon), *_contexts(rng, rule, height, width, horizon, toys))
    return Scene(height, width, horizon, rule.noise, props, tuple(toys))


def between(rng: np.random.Generator, low: float, high: float) -> float:
    """A random number from ``low`` to ``high``."""
    return low + (high - low) * float(rng.random())


def sides(rng: np.random.Generator, size: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width: those of a pair, or a random aspect ratio of a long side."""
    ratio, portrait = _RATIOS[int(rng.integers(len(_RATIOS)))], int(rng.integers(3)) == 0
    if not isinstance(size, int):
        return size
    short = round(size / ratio)
    return (size, short) if portrait else (short, size)


def _toy(rng: np.random.Generator, rule: DifficultyRule, kind: int, count: int, place: tuple[int, int, int]) -> Toy:
    """A toy of a random size at a random place, wholly inside the picture and on the ground."""
    height, width, horizon = place
    area = between(rng, *_AREAS[count - 1]) * height * width
    while True:
        head = max(3, round(math.sqrt(rule.head_share * area / fill(kind))))
        rest = (1 - rule.head_share) * area
        body_h = max(3, round(math.sqrt(_BODY_SHARE * rest / _BODY_ASPECT)))
        body_w = round(body_h * _BODY_ASPECT)
        wheel = max(2, round(math.sqrt((1 - _BODY_SHARE) * rest / 2 / _DISC)))
        tall, wide = head + body_h + wheel, max(head, body_w)
        if tall <= 0.92 * height and wide <= 0.92 * width:
            break
        area *= 0.9
    lowest = min(max(tall, horizon + height // 8), height - 1)
    base = lowest + int(rng.integers(height - lowest))
    left = int(rng.integers(width - wide + 1))
    mirrored, livery = bool(rng.integers(2)), int(rng.integers(256))
    along = 1 - ATTACH[kind] if mirrored else ATTACH[kind]
    body = Box(base - wheel - body_h, left + (wide - body_w) // 2, body_h, body_w)
    head_left = min(max(round(body.left + along * body_w - head / 2), left), left + wide - head)
    wheels = tuple(Box(base - wheel, body.left + round(body_w * at) - wheel // 2, wheel, wheel) for at in (0.24, 0.76))
    return Toy(kind, Box(body.top - head, head_left, head, head), body, (wheels[0], wheels[1]), livery, mirrored)


def _visible(back: Toy, front: Toy) -> bool:
    """Whether ``front`` hides at most a quarter of the other's head and half of the whole."""
    return front.box.shared(back.head) <= back.head.area / 4 and front.box.shared(back.box) <= back.box.area / 2


def _distractors(rng: np.random.Generator, rule: DifficultyRule, height: int, width: int, horizon: int) -> list[Prop]:
    props = []
    for _ in range(int(rng.integers(rule.distractors + 1))):
        name = ("bush", "stone", "flower", "cloud")[int(rng.integers(4))]
        tall = max(3, round(height * between(rng, 0.06, 0.16)))
        wide = round(tall * (1.0 if name == "flower" else 1.5))
        low, high = (0, max(horizon - tall, 1)) if name == "cloud" else (horizon - tall // 2, height - tall // 2)
        top, left = low + int(rng.integers(high - low)), int(rng.integers(width)) - wide // 2
        props.append(Prop(name, Box(top, left, tall, wide)))
    return sorted(props, key=lambda p: p.box.top + p.box.height)


def _contexts(
    rng: np.random.Generator, rule: DifficultyRule, height: int, width: int, horizon: int, toys: Sequence[Toy]
) -> list[Prop]:
    props = []
    for kind, name in CONTEXTS.items():
        standing = [toy for toy in toys if toy.kind == kind]
        chance, base = float(rng.random()), horizon + height // 8 + int(rng.integers(height // 3))
        if chance >= (rule.context_rate if standing else (1 - rule.context_rate) / 2):
            continue
        if standing:
            base = standing[-1].base
        thick = max(4, round(height * (0.09 if name == "rails" else 0.2)))
        props.append(Prop(name, Box(base - thick // 2, 0, thick, width)))
    return sorted(props, key=lambda p: p.box.top)
