"""What the stages of a run measure, in the order of the recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tag2mask.evaluation.result_tables import MetricRow, read_metrics
from tag2mask.evaluation.thresholds import Threshold
from tag2mask.methods.artefact import Artefact
from tag2mask.pipeline.metric_stages import METRICS, MasksSettings, SeedsSettings
from tag2mask.pipeline.plan import measured_by
from tag2mask.pipeline.session import Done
from tag2mask.segmentation.settings import SegmenterSettings
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
    def unsure(self) -> bool:
        """Whether these are refined seeds, which have no mIoU."""
        settings = self.measuring.stage.settings
        return isinstance(settings, MasksSettings) and settings.unsure


def network_of(artefact: Artefact) -> str:
    """The network behind predictions and its first weights, in words; empty for what no such network made."""
    source = artefact.reads.get("segmenter")
    if source is None or not isinstance(source.settings, SegmenterSettings):
        return ""
    network = source.settings.network
    taught = ", trained on the truth" if source.settings.truth else ""
    return f"{network.kind} on {network.encoder}, first weights {network.initial}{taught}"


def measured(stages: Sequence[Done]) -> list[Measured]:
    """What the stages of kind ``seeds`` and ``masks`` measure."""
    by_name = {d.stage.name: d for d in stages}
    found = []
    for done in stages:
        if isinstance(done.stage.settings, SeedsSettings | MasksSettings):
            maker = by_name[measured_by(done.stage)]
            seeds = isinstance(done.stage.settings, SeedsSettings)
            found.append(Measured(maker, done, threshold_of(done.artefact if seeds else maker.artefact)))
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
