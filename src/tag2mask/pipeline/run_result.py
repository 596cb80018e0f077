"""Collects what the stages of a run measured, in the order of the recipe, for ``tag2mask.run`` and the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tag2mask.evaluation.result_tables import METRICS, TRIVIAL, MetricRow, distinct, read_metrics
from tag2mask.evaluation.thresholds import Threshold
from tag2mask.methods.stage_kinds import Makes, Measures, MetricStage
from tag2mask.pipeline.plan import PlannedStage, measured_by
from tag2mask.pipeline.session import Done
from tag2mask.thresholds.threshold_of import threshold_of


@dataclass(frozen=True, slots=True)
class Measured:
    """Seeds or masks, and the stage that measures them.

    Attributes:
        maker: the stage that made the maps or masks.
        measuring: the stage that measures them.
        threshold: first one that they are measured at.
    """

    maker: Done
    measuring: Done
    threshold: Threshold

    @property
    def name(self) -> str:
        """Name of what is measured."""
        return self.maker.stage.name

    @property
    def refined(self) -> bool:
        """Whether these are refined seeds, which have no mIoU."""
        return measures(self.measuring.stage) is Measures.COVERAGE


def measures(stage: PlannedStage) -> Measures:
    """What a stage measures; `Measures.OTHER` where it measures nothing."""
    return stage.kind.measures_of(stage.settings) if isinstance(stage.kind, MetricStage) else Measures.OTHER


def measured(stages: Sequence[Done]) -> list[Measured]:
    """What is measured as seeds or masks, by mIoU or coverage."""
    by_name = {d.stage.name: d for d in stages}
    found = []
    for done in stages:
        if measures(done.stage) is not Measures.OTHER:
            maker = by_name[measured_by(done.stage)]
            cutting = done if maker.stage.kind.makes is Makes.MAPS else maker
            found.append(Measured(maker, done, threshold_of(cutting.artefact)))
    return found


REPORT = "report.html"


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run has made.

    Attributes:
        path: the run folder.
        metrics: every number measured.
        stages: the finished stages in order.
        reported: whether the page was written: there is none where neither seeds nor masks were measured.
    """

    path: Path
    metrics: tuple[MetricRow, ...]
    stages: tuple[Done, ...]
    reported: bool = False

    @property
    def report(self) -> Path:
        """The page to open, where it was written."""
        return self.path / REPORT


def collect_metrics(done: Sequence[Done]) -> list[MetricRow]:
    """The rows of every measuring stage, under the names and seeds of this run; networks with their first weights.

    The trivial answers on the same images come last, once for each split and set of images.
    """
    by_name = {d.stage.name: d.artefact for d in done}
    rows: list[MetricRow] = []
    trivial: list[MetricRow] = []
    for finished in done:
        if not isinstance(finished.stage.kind, MetricStage):
            continue
        measured = measured_by(finished.stage)
        source = by_name[measured]
        network = source.described()
        method = source.base_name + (f" ({network})" if network else "")
        seed = finished.stage.seed
        found = read_metrics(finished.artefact.path / METRICS)
        rows.extend(replace(row, stage=measured, method=method, seed=seed) for row in found)
        if (beside := finished.artefact.path / TRIVIAL).is_file():
            trivial += read_metrics(beside)
    return [*rows, *distinct(trivial)]
