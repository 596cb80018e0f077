"""A rule that erases: how much of an image must go until the classifier no longer finds the class.

Maps alone do not tell a large thing of which a part is active from a tiny one whose activity has spread: their scores
lie alike. Erasing does. What is above a threshold is painted over; where that is less than the thing, the classifier
still finds the rest of it, and where it is more, nothing of it is left. So the classifier's score of the class falls
with the threshold, from the whole image's to its lowest, and the thing ends where nearly all of the fall is done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tag2mask.core.arrays import rounded
from tag2mask.evaluation.threshold_rules.evidence import BINS
from tag2mask.evaluation.threshold_rules.score_rules import ClassChoice, interval

Floats = NDArray[np.float64]

SHARES = (0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.14, 0.2, 0.3, 0.45)
"""Of the cells of a class's images, the highest: what is erased, from little to much."""
LEFT = 0.1
"""Of the fall of the score, what may be left where the thing ends."""
NAME = "erased"
DRAWS = 200
_FEWEST = 2


@dataclass(frozen=True, slots=True, eq=False)
class Erasures:
    """What a classifier says of a class in n of its images.

    Attributes:
        levels: (L,) thresholds, descending: more is erased at each.
        whole: (n,) logit of the class in each whole image.
        erased: (n, L) logit where all above each threshold is painted over.
    """

    levels: Floats
    whole: Floats
    erased: Floats


def levels_of(counts: NDArray[np.int64]) -> Floats:
    """Thresholds above which the `SHARES` of cells lie, descending; fewer where cells score alike.

    Args:
        counts: (1001,) cells of a class's images, by score.
    """
    total = counts.sum()
    above = counts[::-1].cumsum()
    places = [BINS - 1 - int(np.searchsorted(above, share * total)) for share in SHARES] if total else []
    return np.array(sorted({(place - 0.5) / (BINS - 1) for place in places if place > 0}, reverse=True))


def end_of_fall(found: Erasures, left: float = LEFT) -> float | None:
    """The highest threshold at which at most a share ``left`` of the score's fall remains, between two by a line.

    None where the score does not fall: the classifier does not look where the map is high.
    """
    if not len(found.levels) or not len(found.whole):
        return None
    start, curve = float(found.whole.mean()), found.erased.mean(axis=0)
    end = float(curve.min())
    if not end < start:
        return None
    limit = end + left * (start - end)
    place = int(np.argmax(curve <= limit))
    if not place:
        return float(found.levels[0])
    before, here = float(curve[place - 1]), float(curve[place])
    part = (before - limit) / (before - here)
    return float(found.levels[place - 1] + part * (found.levels[place] - found.levels[place - 1]))


def choose_erased(
    found: Sequence[Erasures | None], spare: Callable[[int], ClassChoice], seed: int = 0
) -> list[ClassChoice]:
    """The threshold of each class, with an interval from draws of its images.

    Args:
        found: of each class; None where it has no image.
        spare: of a class by its column, what stands in its place where nothing is said, and how its scores spread.
        seed: of the draws.
    """
    choices = []
    for column, one in enumerate(found):
        other, reason = spare(column), "fewer than two images have it"
        value = None
        if one is not None and len(one.whole) >= _FEWEST:
            value, reason = end_of_fall(one), "the classifier finds the class as well where it is painted over"
        if one is None or value is None:
            choices.append(replace(other, why=f"{NAME} abstains: {reason}; {other.why}"))
            continue
        count = len(one.whole)
        rng = np.random.default_rng((seed, count))
        drawn = [
            end_of_fall(Erasures(one.levels, one.whole[picked], one.erased[picked]))
            for picked in rng.integers(0, count, (DRAWS, count))
        ]
        low, high = interval([value for value in drawn if value is not None])
        ends = one.whole.mean(), one.erased.mean(axis=0).min()
        why = f"painting over what scores above takes the class from a logit of {ends[0]:.1f} nearly to {ends[1]:.1f}"
        choices.append(ClassChoice(rounded(value), low, high, NAME, f"{why} ({count} images)", other.spread))
    return choices
