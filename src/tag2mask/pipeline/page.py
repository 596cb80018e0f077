"""The report page of a run: gathers what the stages left and hands it to the report."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tag2mask.evaluation.rows import MetricRow
from tag2mask.pipeline.evaluate import open_split
from tag2mask.pipeline.examples import examples
from tag2mask.pipeline.measured import Measured, measured, network_of
from tag2mask.pipeline.measures import CURVE
from tag2mask.pipeline.plan import Plan
from tag2mask.pipeline.session import Done
from tag2mask.report.page import MethodResult, PageData, Score, StageTime, render_page

if TYPE_CHECKING:
    from tag2mask.pipeline.api import RunResult

_MEANS = ("miou", "fp", "fn", "precision", "recall")


def write_page(plan: Plan, result: RunResult, command: str) -> None:
    """Write ``report.html`` into the run folder; nothing where the run has evaluated neither seeds nor masks.

    Args:
        plan: of the run.
        result: with its metrics and finished stages.
        command: that makes the same run again.
    """
    looked_at = measured(result.stages)
    splits = [plan.split_of(m.measuring.stage) for m in looked_at]
    split = next((s for m, s in zip(looked_at, splits, strict=True) if s is not None and not m.unsure), None)
    if split is None:
        return
    dataset = open_split(plan, split)
    every = [m for m, s in zip(looked_at, splits, strict=True) if s == split]  # for other splits: notes
    shown = [m for m in every if not m.unsure]
    rows = [r for r in result.metrics if r.split == dataset.split or r.metric == "map"]
    n_images = max((r.n_images for r in rows if r.metric == "miou"), default=0)
    n_seen = len(frozenset[str]().union(*(m.measuring.artefact.masks_seen() for m in shown)))
    render_page(
        PageData(
            title=f"{plan.recipe.name}: {plan.recipe.description}" if plan.recipe.description else plan.recipe.name,
            data=f"{plan.data_kind}, {len(dataset.classes)} classes: {', '.join(dataset.classes[:12])}"
            + (" …" if len(dataset.classes) > 12 else ""),
            split=dataset.split,
            n_images=n_images,
            n_without_truth=len(dataset) - n_images - n_seen,
            ledger=tuple(sorted(set().union(*(m.measuring.manifest.ledger for m in shown)))),
            seed=plan.recipe.seeds[0],
            methods=tuple(_method(m, rows) for m in shown),
            examples=tuple(examples(dataset, every)),
            times=tuple(_times(result.stages)),
            command=command,
            notes=(*_notes(rows, n_images, n_seen), *_elsewhere(result.metrics, dataset.split, looked_at)),
        ),
        result.report,
    )


def _method(found: Measured, rows: Sequence[MetricRow]) -> MethodResult:
    mine = [r for r in rows if r.stage == found.name]
    at = dict.fromkeys((r.threshold_kind, r.threshold) for r in mine if r.metric in _MEANS)
    values = {(r.threshold_kind, r.threshold, r.metric): r.value for r in mine}
    scores = [
        Score(kind, threshold, *(_number(values.get((kind, threshold, m))) for m in _MEANS)) for kind, threshold in at
    ]
    unknown = Score(found.threshold.kind_text, found.threshold.value, *([math.nan] * len(_MEANS)))
    return MethodResult(found.name, tuple(scores) or (unknown,), tuple(_curve(found.measuring)))


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _curve(finished: Done) -> list[tuple[float, float]]:
    path = finished.artefact.path / CURVE
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        return [(float(line["threshold"]), float(line["miou"])) for line in csv.DictReader(stream)]


def _times(stages: Sequence[Done]) -> list[StageTime]:
    """Each stage once; stages that shared their forward passes are one line."""
    seen: set[str] = set()
    times = []
    for done in stages:
        if done.stage.name in seen:
            continue
        together = (done.stage.name, *done.manifest.shared_with)
        seen.update(together)
        times.append(StageTime(" + ".join(together), done.manifest.seconds, done.manifest.made))
    return times


def _elsewhere(rows: Sequence[MetricRow], split: str, looked_at: Sequence[Measured]) -> list[str]:
    """What was measured on other splits than the page's, such as predictions on held-out images."""
    networks = {m.name: network_of(m.maker.artefact) for m in looked_at}
    found = [r for r in rows if r.metric == "miou" and r.split != split and r.value is not None]
    about = {r.stage: "; ".join(filter(None, (f"{r.n_images} images", networks.get(r.stage)))) for r in found}
    return [f"{r.stage}: {r.value:.1f} mIoU on {r.split} ({about[r.stage]})." for r in found]


def _notes(rows: Sequence[MetricRow], n_images: int, n_seen: int) -> list[str]:
    known = [r for r in rows if r.metric == "map" and r.value is not None]
    notes = [f"Classifier: mean average precision {r.value:.1f} on {r.split} ({r.n_images} images)." for r in known]
    sure = {(r.stage, r.metric): r.value for r in rows if r.value is not None}
    for stage in dict.fromkeys(stage for stage, metric in sure if metric == "coverage"):
        right = sure.get((stage, "precision_sure"))
        share = f", and {right:.1f} % of these are right" if right is not None else ""
        notes.append(f"Refined seeds {stage}: {sure[stage, 'coverage']:.1f} % of the pixels are sure{share}.")
    if n_seen:
        notes.append(f"{n_seen} images whose masks a threshold was chosen on are left out of every number.")
    if not n_images:
        notes.append("This data has no masks, so nothing was measured: look at the pictures.")
    return notes
