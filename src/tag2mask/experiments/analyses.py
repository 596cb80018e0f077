"""Experiments that are analyses of finished maps: AMN's Figures 1 and 4, by the functions of ``tag2mask analyse``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tag2mask.analysis.absent_classes import analyse_tags
from tag2mask.analysis.map_thresholds import Analysis, analyse_thresholds
from tag2mask.core.types import Sample
from tag2mask.evaluation.best_thresholds import ImageOptimum, OptimumAnalysis, analyse_optimum
from tag2mask.evaluation.result_tables import ResultRow
from tag2mask.evaluation.thresholds import cut
from tag2mask.experiments.experiment import Found, Ran
from tag2mask.experiments.panels import pick, picture, truth_picture
from tag2mask.pipeline.evaluate_run import OpenedMaps, open_maps
from tag2mask.pipeline.metric_stages import unseen
from tag2mask.report.figures import draw_examples
from tag2mask.report.page import Example
from tag2mask.report.pictures import heat_overlay, label_overlay


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
    examples = [_example(maps, sample, known[sample.id], one, why) for sample, why in chosen if sample.id in known]
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


def _example(maps: OpenedMaps, sample: Sample, found: ImageOptimum, analysis: OptimumAnalysis, why: str) -> Example:
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
