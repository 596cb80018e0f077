"""Result of a sweep: its points, and series of comparable numbers over them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tag2mask.evaluation.result_tables import MetricRow


@dataclass(frozen=True, slots=True)
class SweepPoint:
    """One point of a grid, run or failed."""

    values: tuple[str, ...]  # text of each swept setting, in the order of `SweepResult.keys`
    path: Path  # its run folder
    command: str  # runs this point alone
    metrics: tuple[MetricRow, ...] = ()
    error: str | None = None  # why it failed; None if it did not


@dataclass(frozen=True, slots=True)
class SweepResult:
    """Result of `tag2mask.sweep.run.sweep`."""

    path: Path  # with sweep.csv and a run folder for each point
    keys: tuple[str, ...]  # the swept settings
    metric: str  # plotted and ranked, such as miou
    points: tuple[SweepPoint, ...]  # of the whole grid, the last key varying fastest
    files: tuple[Path, ...]  # the table, then the figure

    @property
    def failed(self) -> tuple[SweepPoint, ...]:
        """The points that failed."""
        return tuple(point for point in self.points if point.error is not None)


@dataclass(frozen=True, slots=True)
class Cell:
    """One point of one series."""

    mean: float  # over the seeds, in the unit of the metric
    sd: float | None  # sample standard deviation over the seeds; None for one seed
    n_seeds: int
    n_images: int  # that were counted
    threshold: float | None  # that all seeds share; None for several or none


@dataclass(frozen=True, slots=True)
class Series:
    """The numbers of one method at one kind of threshold over a grid."""

    method: str  # as in `MetricRow`; a second threshold of one kind has (2) behind it
    split: str  # the evaluated split
    kind: str  # as `Threshold.kind_text`; without a number for few-masks
    cells: tuple[Cell | None, ...]  # one for each point; None if it failed or lacks the number
    small: bool = False  # whether the smallest number is the best

    @property
    def comparable(self) -> bool:
        """Whether all numbers are of the same count of images."""
        return len({cell.n_images for cell in self.cells if cell}) <= 1

    @property
    def best(self) -> int | None:
        """Index of the first point with the best mean; None if fewer than two comparable points have a number."""
        means = {i: cell.mean for i, cell in enumerate(self.cells) if cell}
        if not self.comparable or len(means) < 2:
            return None
        return (min if self.small else max)(means, key=means.__getitem__)

    @property
    def spread(self) -> float | None:
        """Largest minus smallest mean; None as for `best`."""
        means = [cell.mean for cell in self.cells if cell]
        return max(means) - min(means) if self.comparable and len(means) > 1 else None
