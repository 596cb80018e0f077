"""What a run has made: its folder, its numbers, its finished stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tag2mask.evaluation.result_tables import MetricRow, read_metrics
from tag2mask.pipeline.measured import network_of
from tag2mask.pipeline.measures import METRICS
from tag2mask.pipeline.plan import measured_by
from tag2mask.pipeline.session import Done

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
    """The rows of every measuring stage, under the names and seeds of this run; networks with their first weights."""
    by_name = {d.stage.name: d.artefact for d in done}
    rows: list[MetricRow] = []
    for finished in done:
        if finished.stage.kind.makes != "metrics":
            continue
        measured = measured_by(finished.stage)
        network = network_of(by_name[measured])
        method = measured.partition("@")[0] + (f" ({network})" if network else "")
        seed = finished.stage.seed
        found = read_metrics(finished.artefact.path / METRICS)
        rows.extend(replace(row, stage=measured, method=method, seed=seed) for row in found)
    return rows
