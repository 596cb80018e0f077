"""How much the choice of a threshold matters: two numbers from a curve of mIoU over thresholds (AMN, Figure 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass

from tag2mask.evaluation.rows import ResultRow
from tag2mask.evaluation.seeds import SeedEvaluation
from tag2mask.evaluation.sweep import CurvePoint, best
from tag2mask.evaluation.thresholds import Threshold

WITHIN = 2.0
"""Points of mIoU below the best that still belong to the plateau."""

LOW, HIGH = 0.05, 0.60
"""First and last threshold of `Robustness.mean`: those that people choose from."""

MEAN = f"mean_miou_{LOW:.2f}-{HIGH:.2f}"
"""Name of `Robustness.mean` in CSV."""

_DIGITS = 4


@dataclass(frozen=True, slots=True)
class Robustness:
    """What a curve says about robustness.

    Attributes:
        threshold: of the best mIoU; it was found on the truth, so its kind is ``oracle``.
        miou: the best, percent.
        low: first threshold of the plateau: the unbroken range around the best where mIoU is at most `WITHIN` less.
        high: last threshold of the plateau.
        mean: mean mIoU over the curve's thresholds from `LOW` to `HIGH`, percent.
    """

    threshold: Threshold
    miou: float
    low: float
    high: float
    mean: float

    @property
    def width(self) -> float:
        """Width of the plateau, 0..1."""
        return round(self.high - self.low, _DIGITS)

    def results(self, method: str, split: str, n_images: int, seed: int, command: str) -> tuple[ResultRow, ...]:
        """The numbers as lines of ``results/``: all but the mean hang on the oracle threshold."""
        at = {"miou": self.miou, "plateau_width": self.width, "plateau_low": self.low, "plateau_high": self.high}
        oracle, none = self.threshold, Threshold(None, "none")
        numbers = [(oracle, metric, value) for metric, value in at.items()]
        return tuple(
            ResultRow(method, split, n_images, t.kind_text, t.value, metric, round(value, _DIGITS), seed, command)
            for t, metric, value in (*numbers, (none, MEAN, self.mean))
        )


@dataclass(frozen=True, slots=True)
class CurveLine:
    """One point of a curve as a line of CSV; the columns are as in `CurvePoint` and `ResultRow`."""

    stage: str
    split: str
    n_images: int
    seed: int
    threshold: float
    miou: float
    fp: float
    fn: float
    precision: float
    recall: float


def curve_lines(found: SeedEvaluation, stage: str, seed: int) -> tuple[CurveLine, ...]:
    """The whole curve of an evaluation as lines of CSV."""
    return tuple(
        CurveLine(stage, found.split, found.n_images, seed, p.threshold, *(round(v, _DIGITS) for v in astuple(p)[1:]))
        for p in found.curve
    )


def robustness(curve: Sequence[CurvePoint]) -> Robustness:
    """The robustness of a whole curve.

    Args:
        curve: ascending thresholds, some of them from `LOW` to `HIGH`; mIoU defined.

    Raises:
        ConfigError: the curve is empty.
    """
    top = best(curve)
    low = high = next(i for i, point in enumerate(curve) if point is top)
    while low > 0 and curve[low - 1].miou >= top.miou - WITHIN:
        low -= 1
    while high < len(curve) - 1 and curve[high + 1].miou >= top.miou - WITHIN:
        high += 1
    usual = [point.miou for point in curve if LOW <= point.threshold <= HIGH]
    mean = sum(usual) / len(usual)
    return Robustness(Threshold(top.threshold, "oracle"), top.miou, curve[low].threshold, curve[high].threshold, mean)
