"""The report page of a run: gathers what the stages left and hands it to the report."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset
from tag2mask.evaluation.rows import MetricRow
from tag2mask.evaluation.thresholds import cut
from tag2mask.pipeline.evaluate import open_split
from tag2mask.pipeline.measures import CURVE, IMAGES, SeedsSettings
from tag2mask.pipeline.plan import Plan
from tag2mask.pipeline.session import Done
from tag2mask.report.page import Example, MethodResult, PageData, Picture, Score, StageTime, pick_examples, render_page

if TYPE_CHECKING:
    from tag2mask.pipeline.api import RunResult

_SHOWN = 4
_MEANS = ("miou", "fp", "fn", "precision", "recall")


def write_page(plan: Plan, result: RunResult, command: str) -> None:
    """Write ``report.html`` into the run folder; nothing where the run has not evaluated any seeds.

    Args:
        plan: of the run.
        result: with its metrics and finished stages.
        command: that makes the same run again.
    """
    seeds = [d for d in result.stages if d.stage.kind.name == "seeds"]
    if not seeds:
        return
    settings = seeds[-1].stage.settings
    assert isinstance(settings, SeedsSettings)
    dataset = open_split(plan, settings.split or plan.data.infer)
    rows = [r for r in result.metrics if r.split == dataset.split or r.metric == "map"]
    n_images = max((r.n_images for r in rows if r.metric == "miou"), default=0)
    methods = tuple(_method(d, rows) for d in seeds)
    render_page(
        PageData(
            title=f"{plan.recipe.name}: {plan.recipe.description}" if plan.recipe.description else plan.recipe.name,
            data=f"{plan.data_kind}, {len(dataset.classes)} classes: {', '.join(dataset.classes[:12])}"
            + (" …" if len(dataset.classes) > 12 else ""),
            split=dataset.split,
            n_images=n_images,
            n_without_truth=len(dataset) - n_images,
            ledger=tuple(sorted(set().union(*(d.manifest.ledger for d in seeds)))),
            seed=plan.recipe.seeds[0],
            methods=methods,
            examples=tuple(_examples(dataset, seeds, result.stages)),
            times=tuple(_times(result.stages)),
            command=command,
            notes=tuple(_notes(rows, n_images)),
        ),
        result.report,
    )


def _source(finished: Done) -> str:
    return finished.stage.reads["maps"]


def _method(finished: Done, rows: Sequence[MetricRow]) -> MethodResult:
    name = _source(finished)
    mine = [r for r in rows if r.stage == name]
    at = dict.fromkeys((r.threshold_kind, r.threshold) for r in mine if r.metric in _MEANS)
    values = {(r.threshold_kind, r.threshold, r.metric): r.value for r in mine}
    scores = [
        Score(kind, threshold, *(_number(values.get((kind, threshold, m))) for m in _MEANS)) for kind, threshold in at
    ]
    settings = finished.stage.settings
    assert isinstance(settings, SeedsSettings)
    unknown = Score(settings.threshold_kind, settings.threshold, *([math.nan] * len(_MEANS)))
    return MethodResult(name, tuple(scores) or (unknown,), tuple(_curve(finished)))


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _curve(finished: Done) -> list[tuple[float, float]]:
    path = finished.artefact.path / CURVE
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        return [(float(line["threshold"]), float(line["miou"])) for line in csv.DictReader(stream)]


def _examples(dataset: Dataset, seeds: Sequence[Done], stages: Sequence[Done]) -> list[Example]:
    last = seeds[-1]
    settings = last.stage.settings
    assert isinstance(settings, SeedsSettings)
    path = last.artefact.path / IMAGES
    by_id = {s.id: s for s in dataset.samples}
    if path.is_file():
        with path.open(encoding="utf-8", newline="") as stream:
            scores = [(line["image"], float(line["miou"])) for line in csv.DictReader(stream)]
        worth = dict(scores)
        which = f"({_source(last)}, {settings.threshold_kind} threshold {settings.threshold:g})"
        chosen = [(i, f"{why} {which}: {worth[i]:.1f} mIoU") for i, why in pick_examples(scores)]
    else:
        tagged = [s.id for s in dataset.samples if s.tags]
        chosen = [(i, "evenly spaced in the list") for i in tagged[:: max(1, len(tagged) // _SHOWN)][:_SHOWN]]
    makers = [next(d for d in stages if d.stage.name == _source(s)) for s in seeds]
    return [_example(dataset, by_id[i], why, makers, settings.threshold) for i, why in chosen]


def _example(dataset: Dataset, sample: Sample, reason: str, makers: Sequence[Done], threshold: float) -> Example:
    from tag2mask.report.pictures import heat_overlay, label_overlay

    image = dataset.image(sample)
    tags = ", ".join(dataset.classes[c] for c in sample.tags) or "no tags"
    pictures = [Picture(f"image: {tags}", f"photo with the tags {tags}", image)]
    seeds = None
    for maker in makers:
        maps = maker.artefact.maps(dataset, sample).resize(image.height, image.width)
        values = maps.maps.numpy()
        if len(values):
            shown = heat_overlay(image, values.max(0))
            pictures.append(Picture(maker.stage.name, f"activation of {maker.stage.name} over the image", shown))
        seeds = cut(values, maps.classes, threshold)
    if seeds is not None:
        caption = f"seeds of {makers[-1].stage.name} at {threshold:g}"
        pictures.append(Picture(caption, caption, label_overlay(image, seeds)))
    truth = dataset.truth(sample)
    if truth is not None:
        pictures.append(Picture("truth", "mask drawn by hand", label_overlay(image, truth)))
    return Example(sample.id, reason, tuple(pictures))


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


def _notes(rows: Sequence[MetricRow], n_images: int) -> list[str]:
    measured = [r for r in rows if r.metric == "map" and r.value is not None]
    notes = [f"Classifier: mean average precision {r.value:.1f} on {r.split} ({r.n_images} images)." for r in measured]
    if not n_images:
        notes.append("This data has no masks, so nothing was measured: look at the pictures.")
    return notes
