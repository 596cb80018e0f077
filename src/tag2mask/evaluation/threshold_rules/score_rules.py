"""Rules that choose a class's threshold from raw scores of images with it and without it: `ClassScores`.

Each says a threshold, or abstains and says why. Which one is right depends on what the images without the class show.
Where they show what stands beside it (its background, the classes it occurs with), the class is where scores rise above
theirs: the middle between both. Where they do not, as where every image holds one thing of another kind, they say only
how kinds differ; a classifier then finds the parts that tell kinds apart, the thing is larger than these, and all that
scores above nearly every cell of other images belongs to it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tag2mask.core.arrays import rounded
from tag2mask.core.errors import ConfigError, unknown
from tag2mask.evaluation.threshold_rules.evidence import BINS
from tag2mask.evaluation.threshold_rules.histogram import OTSU
from tag2mask.evaluation.threshold_rules.score_evidence import ABSENT_VALUES, ClassScores, spread

INTERVAL = 0.9
"""Share of the draws whose thresholds lie between the low and the high end of an interval."""
_FEWEST = 3
"""Images without a class below which they say nothing."""
_HIGHEST, _LEVELS, _SMOOTH = 0.98, 40, 2
"""Flanks are looked for below this share of the cells, on so many levels, each with so many beside it."""


@dataclass(frozen=True, slots=True)
class ScoreOptions:
    """What rules are given beside the scores.

    Attributes:
        quantile: of the cells of images without a class, for ``negatives`` and ``compared``.
        comparable: from which `ClassScores.comparable` on ``compared`` takes the midpoint.
    """

    quantile: float = 0.99
    comparable: float = 0.5


@dataclass(frozen=True, slots=True)
class Said:
    """What a rule says of a class: a threshold in 0..1, or None; and why, in words."""

    value: float | None
    why: str


Rule = Callable[[ClassScores, ScoreOptions], Said]


def otsu(scores: ClassScores, options: ScoreOptions) -> Said:
    """The largest variance between two parts of the cells of images with the class."""
    value = OTSU(scores.present)
    if value is None:
        return Said(None, "all cells of its images score alike" if scores.present.any() else "no image has it")
    return Said(value, "its images' cells part there into two with the largest variance between them")


def otsu_twice(scores: ClassScores, options: ScoreOptions) -> Said:
    """Otsu's threshold of the cells above Otsu's threshold: for things much smaller than where they are active."""
    first = otsu(scores, options)
    if first.value is None:
        return first
    upper = np.where(np.arange(BINS) > first.value * (BINS - 1), scores.present, 0)
    value = OTSU(upper)
    if value is None:
        return Said(None, "the cells above Otsu's threshold score alike")
    return Said(value, f"the cells above Otsu's threshold, {first.value:.3f}, part there once more")


def probability(scores: ClassScores, options: ScoreOptions) -> Said:
    """The classifier's probability one half."""
    if not scores.probabilities:
        return Said(None, "the scores are not those of a classifier, so none of them is probability one half")
    return Said(0.5, "the classifier's probability is one half there")


def midpoint(scores: ClassScores, options: ScoreOptions) -> Said:
    """The middle between the mean image score of images with the class and of images without it."""
    if abstains := _without(scores):
        return abstains
    if not scores.top_with > scores.top_without:
        return Said(
            None,
            f"images with it score {scores.top_with:.3f}, no higher than images without it ({scores.top_without:.3f}): "
            "the classifier has not learned it",
        )
    return Said(
        (scores.top_with + scores.top_without) / 2,
        f"images with it score {scores.top_with:.3f}, images without it {scores.top_without:.3f}",
    )


def negatives(scores: ClassScores, options: ScoreOptions) -> Said:
    """A score that few cells of images without the class reach."""
    if abstains := _without(scores):
        return abstains
    below = scores.absent.cumsum()
    place = int(np.searchsorted(below, options.quantile * below[-1]))
    value = float(ABSENT_VALUES[min(place, len(ABSENT_VALUES) - 1)])
    if not scores.present[int(value * (BINS - 1)) + 1 :].any():
        return Said(None, f"no cell of its images scores above {value:.3f}, as cells of images without it do")
    return Said(value, f"{100 * options.quantile:g} % of the cells of images without it score below")


def foot(scores: ClassScores, options: ScoreOptions) -> Said:
    """Where the scores of images with the class become half as steep as they get: at the foot of the flank."""
    total = scores.present.sum()
    below = scores.present.cumsum() / max(total, 1)
    first, last = (int(np.searchsorted(below, share)) for share in (0.5, _HIGHEST))
    if last - first < 2:
        alike = "half of its images' cells score alike, and the others hardly higher"
        return Said(None, alike if total else "no image has it")
    edges = np.unique(np.linspace(first, last, min(_LEVELS, last - first) + 1).round().astype(int))
    cells, steep = (np.add.reduceat(counts, edges)[:-1] for counts in (scores.present, scores.steepness))
    levels = np.flatnonzero(cells)
    heights = np.interp(np.arange(len(cells)), levels, steep[levels] / cells[levels])
    heights = np.convolve(np.pad(heights, _SMOOTH, "edge"), np.full(2 * _SMOOTH + 1, 1 / (2 * _SMOOTH + 1)), "valid")
    heights -= heights[0]
    if not heights.max() > 0:
        return Said(None, "the scores of its images rise nowhere: they are steepest on the ground")
    place = int(np.argmax(heights >= 0.5 * heights.max()))
    value = float(edges[place] + edges[place + 1] - 1) / 2 / (BINS - 1)
    return Said(value, "below it the scores of its images are less than half as steep as they get")


def compared(scores: ClassScores, options: ScoreOptions) -> Said:
    """The midpoint where images without the class show what stands beside it, else the quantile of their cells."""
    shown = f"{round(100 * scores.comparable)} % of what stands beside it is shown by images without it"
    first, second = (midpoint, negatives) if scores.comparable >= options.comparable else (negatives, midpoint)
    said = first(scores, options)
    if said.value is None and scores.n_without >= _FEWEST:
        said = second(scores, options)
    return Said(said.value, f"{shown}; {said.why}")


def _without(scores: ClassScores) -> Said | None:
    if not scores.n_with or math.isnan(scores.top_with):
        return Said(None, "no image has it")
    if scores.n_without < _FEWEST or not scores.absent.any() or math.isnan(scores.top_without):
        few = "every image has it" if not scores.n_without else f"{scores.n_without} images are without it"
        return Said(None, f"{few}, so there is nothing to compare with (add images without it)")
    return None


SCORE_RULES: Mapping[str, Rule] = {
    "compared": compared,
    "midpoint": midpoint,
    "negatives": negatives,
    "otsu": otsu,
    "otsu-twice": otsu_twice,
    "probability": probability,
    "foot": foot,
}
"""Every rule of raw scores by name."""
COMPARING = frozenset({"compared", "midpoint", "negatives"})
"""Those that need images without the class."""


@dataclass(frozen=True, slots=True)
class ClassChoice:
    """The threshold of one class.

    Attributes:
        value: 0..1; None where neither the rule nor the one in its place says anything.
        low: the low end of the interval over the draws of images; None where a draw says nothing.
        high: the high end.
        rule: that said it.
        why: in words; where the rule that comes first abstained, why it did too.
        spread: standard deviation of the scores of its images' cells; None where no image has it.
    """

    value: float | None
    low: float | None
    high: float | None
    rule: str
    why: str
    spread: float | None = None


def find_score_rule(name: str) -> Rule:
    """The rule of that name.

    Raises:
        ConfigError: there is none.
    """
    if name not in SCORE_RULES:
        raise ConfigError(unknown("rule of raw scores", name, SCORE_RULES))
    return SCORE_RULES[name]


def choose_classes(
    draws: Iterable[Sequence[ClassScores]], rule: str, fallback: str, options: ScoreOptions
) -> list[ClassChoice]:
    """Let a rule choose a threshold for each class, and another where it abstains.

    Args:
        draws: what rules see of every class: of all images first, then of each draw; see `gather`.
        rule: name of the rule.
        fallback: name of the rule for classes of which it abstains.
        options: of both.
    """
    both = (rule,) if rule == fallback else (rule, fallback)
    said: list[list[tuple[str, Said]]] = []
    spreads: list[float | None] = []
    for classes in draws:
        spreads = spreads or [spread(scores.present) for scores in classes]
        said.append([_first(scores, both, options) for scores in classes])
    found = []
    for column, (name, own) in enumerate(said[0]):
        others = [one[column][1].value for one in said[1:]]
        low, high = interval([value for value in others if value is not None])
        value = None if own.value is None else rounded(own.value)
        found.append(ClassChoice(value, low, high, name, own.why, spreads[column]))
    return found


def _first(scores: ClassScores, rules: Sequence[str], options: ScoreOptions) -> tuple[str, Said]:
    """What the first rule that does not abstain says, after why those before it did."""
    reasons: list[str] = []
    for name in rules:
        said = find_score_rule(name)(scores, options)
        if said.value is not None:
            return name, Said(said.value, "; ".join([*reasons, said.why]))
        reasons.append(f"{name} abstains: {said.why}")
    return rules[-1], Said(None, "; ".join(reasons))


def interval(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Between which `INTERVAL` of the thresholds of draws lie; None where there is no draw."""
    if not values:
        return None, None
    tail = 100 * (1 - INTERVAL) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    return rounded(low), rounded(high)
