"""Pictures of images chosen by rule: the maps and masks of an experiment's rows beside the truth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from tag2mask.analysis.absent_classes import analyse_tags
from tag2mask.analysis.map_thresholds import Analysis, analyse_thresholds
from tag2mask.core.types import IGNORE, Sample
from tag2mask.data.base import Dataset
from tag2mask.evaluation.best_thresholds import ImageOptimum, OptimumAnalysis, analyse_optimum
from tag2mask.evaluation.result_tables import ResultRow
from tag2mask.evaluation.thresholds import cut
from tag2mask.methods.stage_kinds import Makes
from tag2mask.papers.definition import Found, Ran
from tag2mask.pipeline.evaluate_run import OpenedMaps, open_maps, open_split
from tag2mask.pipeline.metric_stages import unseen
from tag2mask.pipeline.plan import make_plan
from tag2mask.pipeline.run_result import Measured, measured
from tag2mask.report.choice import Candidate, Choice, choose
from tag2mask.report.figures import draw_examples
from tag2mask.report.page import Example, Picture
from tag2mask.report.pictures import fit, heat_overlay, label_overlay
from tag2mask.run_report.example_images import image_scores

_SIDE = 320
_LOOKED_AT = 20


def panels(ran: Ran) -> Found:
    """Draw the best, the middle and the worst images of the last row (of its first seed), and those asked for.

    Raises:
        DataError: an image cannot be read.
        StageError: the figure cannot be written.
    """
    assert ran.recipe is not None
    shown = shown_rows(ran)
    if not shown:
        return Found()
    dataset = open_split(make_plan(ran.recipe), ran.recipe.data["infer"])
    last_name, last = shown[-1]
    scores = image_scores(last)
    examples = []
    for sample, why in pick(dataset, scores, ran.images):
        known = not math.isnan(scores.get(sample.id, math.nan))  # undefined where its truth shows no class
        told = f"{why} ({last_name}): {scores[sample.id]:.1f} mIoU" if known else why
        examples.append(_example(dataset, sample, told, shown))
    path = ran.out / "panels.png"
    draw_examples(examples, f"{ran.experiment.id}: {ran.experiment.title}, {dataset.split}", path)
    return Found(files=(path,))


def shown_rows(ran: Ran) -> list[tuple[str, Measured]]:
    """Name of each row with what is measured there, of the first seed."""
    found: dict[str, Measured] = {}
    for one in measured(ran.done):
        name = ran.row_of(one.name)
        if name in ran.stages:
            found.setdefault(name, one)
    return [(name, found[name]) for name in ran.stages if name in found]


def pick(dataset: Dataset, scores: Mapping[str, float], images: Sequence[str]) -> list[tuple[Sample, str]]:
    """Choose images by rule, not by eye: those asked for, two best, two from the middle, two worst.

    Args:
        dataset: the split.
        scores: of each measured image by its id; NaN where its truth is void everywhere.
        images: ids that are asked for.

    Returns:
        (sample, why) pairs, no image twice, none that is mostly void but those asked for.
    """
    by_id = {s.id: s for s in dataset.samples}
    ranked = sorted((i for i, v in scores.items() if not math.isnan(v)), key=lambda i: (-scores[i], i))
    middle = len(ranked) // 2
    near = {*ranked[:_LOOKED_AT], *ranked[max(0, middle - _LOOKED_AT) : middle + _LOOKED_AT], *ranked[-_LOOKED_AT:]}
    void = {i: _void(dataset, by_id[i]) for i in near}  # of the others nothing will be shown
    scored = [Candidate(i, value, void.get(i, 0.0)) for i, value in scores.items()]
    chosen = choose(scored, [s.id for s in dataset.samples], Choice(tuple(images), random=0))
    return [(by_id[i], why) for i, why in chosen]


def _void(dataset: Dataset, sample: Sample) -> float:
    truth = dataset.truth(sample)
    return 0.0 if truth is None else float((truth == IGNORE).mean())


def picture(caption: str, image: Image.Image) -> Picture:
    """A picture of the size of figures, with its caption."""
    return Picture(caption, caption, fit(image, _SIDE))


def truth_picture(dataset: Dataset, sample: Sample, image: Image.Image) -> Picture:
    """The mask drawn by people over the image, or the image alone where there is none."""
    truth = dataset.truth(sample)
    return picture("no mask", image) if truth is None else picture("truth", label_overlay(image, truth))


def _example(dataset: Dataset, sample: Sample, why: str, shown: Sequence[tuple[str, Measured]]) -> Example:
    image = dataset.image(sample)
    tags = ", ".join(dataset.classes[c] for c in sample.tags) or "no tags"
    pictures = [picture(f"image: {tags}", image)]
    for name, found in shown:
        pictures += _pictures(dataset, sample, image, name, found)
    return Example(sample.id, why, (*pictures, truth_picture(dataset, sample, image)))


def _pictures(dataset: Dataset, sample: Sample, image: Image.Image, name: str, found: Measured) -> list[Picture]:
    """Maps and the seeds cut from them, or labels."""
    if found.maker.stage.kind.makes is Makes.MASKS:
        return [picture(name, label_overlay(image, found.maker.artefact.labels(dataset, sample)))]
    maps = found.maker.artefact.maps(dataset, sample).resize(image.height, image.width)
    values = maps.maps.numpy()
    heat = values.max(axis=0) if len(values) else np.zeros((image.height, image.width), np.float32)
    at = found.threshold
    seeds = label_overlay(image, cut(values, maps.classes, at.of(sample.id, maps.classes)))
    return [picture(name, heat_overlay(image, heat)), picture(f"{name} at {at.text}", seeds)]


def optimum(ran: Ran) -> Found:
    """Best threshold of each image beside the global one (Figure 1a): histogram and numbers.

    Raises:
        DataError: no image has a truth.
    """
    found = analyse_thresholds(ran.out, stages=_instances(ran), out=ran.out)
    rows = list(_renamed(ran, found))
    rows += [replace(r, metric="global_threshold", value=r.threshold) for r in rows if r.metric == "miou"]
    return Found(tuple(r for r in rows if r.metric != "miou"), found.files)


def threshold_examples(ran: Ran) -> Found:
    """Images cut at the global and at their own best threshold (Figure 1b, c): by rule, and those asked for.

    Best, middle and worst are by mIoU at the global threshold; those that lose most by it stand in the analysis's own
    pictures.

    Raises:
        DataError: no image has a truth, or one cannot be read.
    """
    found = analyse_thresholds(ran.out, stages=_instances(ran)[:1], out=ran.out)
    maps = open_maps(ran.out, _instances(ran)[:1])[0]
    one = analyse_optimum(maps.dataset, maps.read, samples=unseen([maps.artefact], maps.dataset, maps.name))
    known = {image.id: image for image in one.images}
    chosen = pick(maps.dataset, {i.id: i.miou_at_global for i in one.images}, ran.images)
    examples = [
        _threshold_example(maps, sample, known[sample.id], one, why) for sample, why in chosen if sample.id in known
    ]
    path = ran.out / "threshold-examples.png"
    draw_examples(examples, f"{ran.experiment.id}: global and best threshold (both oracle), {one.split}", path)
    return Found(files=(path, *(p for p in found.files if p.suffix == ".png")))


def label_conditioning(ran: Ran) -> Found:
    """Activation of right and wrong classes, with and without label conditioning (Figure 4).

    Raises:
        DataError: no image has some of the classes and lacks others.
    """
    by_seed: dict[int, list[str]] = {}
    for stage in ran.stages.values():
        for done in ran.made(stage):
            by_seed.setdefault(done.stage.seed, []).append(done.stage.name)
    several = len(by_seed) > 1  # a picture has columns for each stage: one picture a seed
    found = [
        analyse_tags(ran.out, stages=names, out=ran.out / f"seed-{seed}" if several else ran.out)
        for seed, names in by_seed.items()
    ]
    rows = tuple(row for one in found for row in _renamed(ran, one))
    named = ", ".join(f"{stage} is {row}" for row, stage in ran.stages.items())
    return Found(rows, tuple(path for one in found for path in one.files), (f"in the pictures {named}",))


def _instances(ran: Ran) -> list[str]:
    """The stages of all rows, once for each seed, in the order of the rows."""
    return [done.stage.name for stage in ran.stages.values() for done in ran.made(stage)]


def _renamed(ran: Ran, found: Analysis) -> Sequence[ResultRow]:
    """The numbers of an analysis under the names of the rows."""
    return [replace(row, method=ran.row_of(name), command=ran.command) for name, rows in found.numbers for row in rows]


def _threshold_example(
    maps: OpenedMaps, sample: Sample, found: ImageOptimum, analysis: OptimumAnalysis, why: str
) -> Example:
    dataset, image = maps.dataset, maps.dataset.image(sample)
    made = maps.read(sample).resize(image.height, image.width)
    values, at = made.maps.numpy(), analysis.threshold.value
    assert at is not None  # of kind oracle
    tags = ", ".join(dataset.classes[c] for c in sample.tags)
    pictures = [
        picture(f"image: {tags}", image),
        picture(f"maps of {maps.name}", heat_overlay(image, values.max(axis=0))),
    ]
    for name, threshold, miou in (("global", at, found.miou_at_global), ("best", found.threshold, found.miou)):
        seeds = label_overlay(image, cut(values, made.classes, threshold))
        pictures.append(picture(f"{name} {threshold:.2f}: {miou:.1f} mIoU", seeds))
    return Example(sample.id, why, (*pictures, truth_picture(dataset, sample, image)))
