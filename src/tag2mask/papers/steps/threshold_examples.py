"""Pictures of images chosen by rule for L7, A2, A7 and A13, and the analyses of single images behind A1, A2 and A6."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tag2mask.analysis.absent_classes import analyse_tags
from tag2mask.analysis.base import Analysis
from tag2mask.analysis.map_thresholds import analyse_thresholds, threshold_example
from tag2mask.core.types import IGNORE, Sample
from tag2mask.data.base import Dataset
from tag2mask.evaluation.best_thresholds import analyse_optimum
from tag2mask.evaluation.result_tables import ResultRow
from tag2mask.methods.stage_kinds import Makes
from tag2mask.papers.catalogue import FinishedExperiment, StepResult
from tag2mask.pipeline.metric_stages import unseen
from tag2mask.pipeline.opened_run import OpenedRun
from tag2mask.pipeline.run_result import Measured, measured
from tag2mask.report.choice import Candidate, ImageChoice, choose_images
from tag2mask.report.examples import Example, draw_examples
from tag2mask.run_report.example_images import image_scores

_LOOKED_AT = 20


def panels(run: FinishedExperiment) -> StepResult:
    """Draw the best, middle and worst images of the last row (of its first seed), and those named by the user."""
    shown = shown_rows(run)
    if not shown:
        return StepResult()
    opened = OpenedRun(run.out)
    dataset = opened.split(opened.plan.data.infer)
    last_name, last = shown[-1]
    scores = image_scores(last)
    examples = []
    for sample, why in pick(dataset, scores, run.images):
        score = scores.get(sample.id, math.nan)  # undefined if its ground truth shows no class
        reason = why if math.isnan(score) else f"{why} ({last_name}): {score:.1f} mIoU"
        image = dataset.image(sample)
        layers = [layer for name, found in shown for layer in _layers(dataset, sample, image, name, found)]
        examples.append(Example.over(dataset, sample, image, reason, layers))
    path = run.out / "panels.png"
    draw_examples(examples, f"{run.experiment.id}: {run.experiment.title}, {dataset.split}", path)
    return StepResult(files=(path,))


def shown_rows(run: FinishedExperiment) -> list[tuple[str, Measured]]:
    """Name of each row with what is measured there, of the first seed."""
    found: dict[str, Measured] = {}
    for one in measured(run.done):
        name = run.row_of(one.name)
        if name in run.stages:
            found.setdefault(name, one)
    return [(name, found[name]) for name in run.stages if name in found]


def pick(dataset: Dataset, scores: Mapping[str, float], images: Sequence[str]) -> list[tuple[Sample, str]]:
    """Choose images by rule, not by eye: those named by the user, two best, two from the middle, two worst; and why.

    ``scores`` are by id, NaN if the ground truth is all ignored. No image comes twice, and none that is mostly ignored
    but those named.
    """
    by_id = {s.id: s for s in dataset.samples}
    ranked = sorted((i for i, v in scores.items() if not math.isnan(v)), key=lambda i: (-scores[i], i))
    middle = len(ranked) // 2
    near = {*ranked[:_LOOKED_AT], *ranked[max(0, middle - _LOOKED_AT) : middle + _LOOKED_AT], *ranked[-_LOOKED_AT:]}
    ignored = {i: _ignored(dataset, by_id[i]) for i in near}  # the others are not shown
    scored = [Candidate(i, value, ignored.get(i, 0.0)) for i, value in scores.items()]
    chosen = choose_images(scored, [s.id for s in dataset.samples], ImageChoice(tuple(images), random=0))
    return [(by_id[i], why) for i, why in chosen]


def _ignored(dataset: Dataset, sample: Sample) -> float:
    truth = dataset.truth(sample)
    return 0.0 if truth is None else float((truth == IGNORE).mean())


def _layers(
    dataset: Dataset, sample: Sample, image: Image.Image, name: str, found: Measured
) -> list[tuple[str, NDArray[Any]]]:
    """Maps and the seeds cut from them, or labels."""
    if found.maker.stage.kind.makes is Makes.MASKS:
        return [(name, found.maker.artefact.labels(dataset, sample))]
    maps = found.maker.artefact.maps(dataset, sample).resize(image.height, image.width)
    values, at = maps.maps.numpy(), found.threshold
    heat = values.max(axis=0) if len(values) else np.zeros((image.height, image.width), np.float32)
    return [(name, heat), (f"{name} at {at.text}", at.seeds(dataset, sample, values, maps.classes))]


def optimum(run: FinishedExperiment) -> StepResult:
    """Best threshold of each image beside the global one (Figure 1a): histogram and numbers."""
    found = analyse_thresholds(run.out, stages=_instances(run), out=run.out)
    rows = _renamed(run, found)
    rows += [replace(r, metric="global_threshold", value=r.threshold) for r in rows if r.metric == "miou"]
    return StepResult(tuple(r for r in rows if r.metric != "miou"), found.files)


def threshold_examples(run: FinishedExperiment) -> StepResult:
    """Images cut at the global and at their own best threshold (Figure 1b, c): by rule, and those named by the user.

    Best, middle and worst are by mIoU at the global threshold; the analysis draws those that lose most by it.
    """
    opened, stage = OpenedRun(run.out), _instances(run)[0]
    found = analyse_thresholds(opened, stages=[stage], out=run.out)
    maps = opened.maps(stage)
    one = analyse_optimum(maps.dataset, maps.read, samples=unseen([maps.artefact], maps.dataset, maps.name))
    known, at = {image.id: image for image in one.images}, one.threshold.value
    assert at is not None  # of kind oracle
    chosen = pick(maps.dataset, {i.id: i.miou_at_global for i in one.images}, run.images)
    examples = [threshold_example(maps, s, known[s.id], at, why) for s, why in chosen if s.id in known]
    path = run.out / "threshold-examples.png"
    draw_examples(examples, f"{run.experiment.id}: global and best threshold (both oracle), {one.split}", path)
    return StepResult(files=(path, *(p for p in found.files if p.suffix == ".png")))


def label_conditioning(run: FinishedExperiment) -> StepResult:
    """Activation of right and wrong classes, with and without label conditioning (Figure 4)."""
    by_seed: dict[int, list[str]] = {}
    for stage in run.stages.values():
        for done in run.made(stage):
            by_seed.setdefault(done.stage.seed, []).append(done.stage.name)
    several = len(by_seed) > 1  # a picture has columns for each stage: one picture a seed
    found = [
        analyse_tags(run.out, stages=names, out=run.out / f"seed-{seed}" if several else run.out)
        for seed, names in by_seed.items()
    ]
    rows = [row for one in found for row in _renamed(run, one)]
    named = ", ".join(f"{stage} is {row}" for row, stage in run.stages.items())
    return StepResult(tuple(rows), tuple(p for one in found for p in one.files), (f"in the pictures {named}",))


def _instances(run: FinishedExperiment) -> list[str]:
    """The stages of all rows, once for each seed, in the order of the rows."""
    return [done.stage.name for stage in run.stages.values() for done in run.made(stage)]


def _renamed(run: FinishedExperiment, found: Analysis) -> list[ResultRow]:
    """The numbers of an analysis under the names of the rows."""
    return [replace(row, method=run.row_of(name), command=run.command) for name, rows in found.numbers for row in rows]
