"""What a sweep has made: its points, and the series of numbers over them that may be compared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tag2mask.evaluation.result_tables import MetricRow


@dataclass(frozen=True, slots=True)
class SweepPoint:
    """One point of a grid.

    Attributes:
        values: text of each swept setting, in the order of `SweepResult.keys`.
        path: its run folder.
        command: runs this point alone.
        metrics: every number measured; empty where it failed.
        error: why it failed, None where it did not.
    """

    values: tuple[str, ...]
    path: Path
    command: str
    metrics: tuple[MetricRow, ...] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True)
class SweepResult:
    """What a sweep has made.

    Attributes:
        path: its folder, with ``sweep.csv`` and a run folder for each point.
        keys: the swept settings.
        metric: that is plotted and ranked, such as ``miou``.
        points: all of the grid, the last key varying fastest.
        files: written files, the table first.
    """

    path: Path
    keys: tuple[str, ...]
    metric: str
    points: tuple[SweepPoint, ...]
    files: tuple[Path, ...]

    @property
    def failed(self) -> tuple[SweepPoint, ...]:
        """The points that were not finished."""
        return tuple(point for point in self.points if point.error is not None)


@dataclass(frozen=True, slots=True)
class Cell:
    """One point of one series.

    Attributes:
        mean: of the seeds, in the unit of the metric.
        sd: sample standard deviation over the seeds; None for one seed.
        n_seeds: how many there are.
        n_images: images that were counted.
        threshold: where all seeds have one threshold, that; None for several, and where there is none.
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
        cells: for each point; None where it failed, or has no such number.
        small: whether the smallest number is the best.
    """

    method: str
    split: str
    kind: str
    cells: tuple[Cell | None, ...]
    small: bool = False

    @property
    def comparable(self) -> bool:
        """Whether all numbers are of as many images."""
        return len({cell.n_images for cell in self.cells if cell}) <= 1

    @property
    def best(self) -> int | None:
        """The first point of best mean; None where points are not to be compared, or fewer than two have a number."""
        means = {i: cell.mean for i, cell in enumerate(self.cells) if cell}
        if not self.comparable or len(means) < 2:
            return None
        return (min if self.small else max)(means, key=means.__getitem__)

    @property
    def spread(self) -> float | None:
        """Largest minus smallest mean; None as for `best`."""
        means = [cell.mean for cell in self.cells if cell]
        return max(means) - min(means) if self.comparable and len(means) > 1 else None
