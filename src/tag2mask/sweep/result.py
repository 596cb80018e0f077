"""Result of a sweep: its points, and series of comparable numbers over them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tag2mask.evaluation.result_tables import MetricRow


@dataclass(frozen=True, slots=True)
class SweepPoint:
    """One point of a grid, run or failed.

    Attributes:
        values: text of each swept setting, in the order of `SweepResult.keys`.
        path: its run folder.
        command: runs this point alone.
        metrics: every measured number; empty if it failed.
        error: why it failed; None if it did not.
    """

    values: tuple[str, ...]
    path: Path
    command: str
    metrics: tuple[MetricRow, ...] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True)
class SweepResult:
    """Result of `tag2mask.sweep.run.sweep`.

    Attributes:
        path: its folder, with ``sweep.csv`` and a run folder for each point.
        keys: the swept settings.
        metric: plotted and ranked, such as ``miou``.
        points: of the whole grid, the last key varying fastest.
        files: the table, then the figure.
    """

    path: Path
    keys: tuple[str, ...]
    metric: str
    points: tuple[SweepPoint, ...]
    files: tuple[Path, ...]

    @property
    def failed(self) -> tuple[SweepPoint, ...]:
        """The points that failed."""
        return tuple(point for point in self.points if point.error is not None)


@dataclass(frozen=True, slots=True)
class Cell:
    """One point of one series.

    Attributes:
        mean: over the seeds, in the unit of the metric.
        sd: sample standard deviation over the seeds; None for one seed.
        n_seeds: number of seeds.
        n_images: images that were counted.
        threshold: that all seeds share; None for several or none.
    """

    mean: float
    sd: float | None
    n_seeds: int
    n_images: int
    threshold: float | None


@dataclass(frozen=True, slots=True)
class Series:
    """The numbers of one method at one kind of threshold over a grid.

    Attributes:
        method: as in `MetricRow`; a second threshold of one kind has ``(2)`` behind it.
        split: the evaluated split.
        kind: of the threshold, as `Threshold.kind_text`; without a number for ``few-masks``.
        cells: one for each point; None if it failed or lacks the number.
        small: whether the smallest number is the best.
    """

    method: str
    split: str
    kind: str
    cells: tuple[Cell | None, ...]
    small: bool = False

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
