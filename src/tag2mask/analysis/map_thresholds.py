"""Measures how much the threshold matters to maps: the best one of each image, the curve, spread and gap (AMN)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tag2mask.analysis.base import Analysis, Findings, Run, open_maps, open_several
from tag2mask.core.types import Sample
from tag2mask.evaluation import best_thresholds
from tag2mask.evaluation import robustness as measures
from tag2mask.evaluation.best_thresholds import ImageOptimum, OptimumAnalysis, analyse_optimum
from tag2mask.evaluation.robustness import ImbalanceAnalysis, analyse_imbalance, curve_lines, robustness
from tag2mask.evaluation.seeds import evaluate_seeds
from tag2mask.evaluation.thresholds import cut
from tag2mask.pipeline.opened_run import OpenedMaps
from tag2mask.report.examples import Example, draw_examples
from tag2mask.report.figures import Boxes, Curve, Histogram, draw_boxes, draw_curves, draw_histograms

_PANELS = (
    ("spread", "spread inside the object (c1: small)"),
    ("gap", "gap to the background (c2: large)"),
    ("margin", "margin to the background (c2: large)"),
)


def analyse_thresholds(
    run: Run, *, stages: Sequence[str] = (), split: str | None = None, out: Path | None = None
) -> Analysis:
    """Find the best threshold of each image beside the global one (AMN, Figure 1): CSVs, histograms, examples.

    Args:
        run: the run, or its folder.
        stages: instances that made maps, all measured on the same images; none means every one of the run.
        split: a split with ground truth; None means the one whose maps were made.
        out: folder for the files; None means ``analysis`` in the run folder.

    Raises:
        StageError: no run, maps that are missing or outdated, or files that cannot be written.
        ConfigError: an unknown stage, or one that makes no maps.
        DataError: no image has ground truth, or the data are not there.
    """
    findings = Findings("optimum-threshold", open_maps(run, stages, split), out, split)
    found: list[tuple[OpenedMaps, OptimumAnalysis]] = []
    for maps, samples, advance in findings.each():
        one = analyse_optimum(maps.dataset, maps.read, samples=samples, advance=advance)
        lines = one.lines(maps.dataset.classes, stage=maps.name, seed=maps.stage.seed)
        findings.add(maps, one.results(findings.origin(maps)), lines)
        found.append((maps, one))
    findings.n_without_truth = found[0][1].n_without_truth
    panels, where = [_histogram(maps.name, one) for maps, one in found], findings.where
    analysis = findings.write(
        lambda path: draw_histograms(panels, f"Best thresholds (oracle), {where}", path),
        metrics=(
            "miou",
            "miou_foreground",
            "f1_foreground",
            "miou_own",
            "optimum_mean",
            "optimum_sd",
            "optimum_distance",
            "optimum_near",
        ),
        columns=best_thresholds.COLUMNS,
    )
    pictures = [path for maps, one in found for path in draw_far_from_global(maps, one, findings.file(""), where)]
    return Analysis(analysis.numbers, (*analysis.files, *pictures), analysis.metrics)


def analyse_curves(
    runs: Sequence[Run], *, stages: Sequence[str] = (), split: str | None = None, out: Path | None = None
) -> Analysis:
    """Draw mIoU over thresholds for several maps in one figure, and say how robust they are (AMN, Figure 6).

    Arguments and errors as for `analyse_thresholds`; the runs are on the same images and classes, each stage is in one
    of them or several, and the files lie with the first.
    """
    findings = Findings("threshold-curve", open_several(runs, stages, split), out, split)
    curves: list[Curve] = []
    for maps, samples, advance in findings.each():
        found = evaluate_seeds(maps.dataset, maps.read, samples=samples, advance=advance)
        name, robust = findings.name(maps), robustness(found.curve)
        findings.n_without_truth = found.n_without_truth
        origin, best = findings.origin(maps), found.scores[-1].scores  # of the oracle
        beside = [("miou_foreground", best.mean("iou")), ("f1_foreground", best.f1_foreground)]
        rows = robust.results(origin, found.split, found.n_images)
        rows += origin.rows(beside, robust.threshold, found.split, found.n_images)
        findings.add(maps, rows, curve_lines(found, name, maps.stage.seed))
        curves.append(Curve(name, tuple((p.threshold, p.miou) for p in found.curve), (robust.low, robust.high)))
    return findings.write(
        lambda path: draw_curves(curves, f"Seeds at every threshold, {findings.where}", path),
        metrics=(
            "miou",
            "miou_foreground",
            "f1_foreground",
            "plateau_width",
            "plateau_low",
            "plateau_high",
            measures.MEAN,
        ),
        columns=measures.CURVE_COLUMNS,
        suffix="-points",
    )


def analyse_activation(
    run: Run, *, stages: Sequence[str] = (), split: str | None = None, out: Path | None = None
) -> Analysis:
    """Measure the two conditions of AMN's section 3 on each image: spread inside the object, gap to the background.

    Arguments and errors as for `analyse_thresholds`.
    """
    findings = Findings("imbalance", open_maps(run, stages, split), out, split)
    found: list[tuple[str, ImbalanceAnalysis]] = []
    for maps, samples, advance in findings.each():
        one = analyse_imbalance(maps.dataset, maps.read, samples=samples, advance=advance)
        findings.add(maps, one.results(findings.origin(maps)), one.lines(stage=maps.name, seed=maps.stage.seed))
        found.append((maps.name, one))
    findings.n_without_truth = found[0][1].n_without_truth
    panels = [_boxes(found, *panel) for panel in _PANELS]
    return findings.write(
        lambda path: draw_boxes(panels, f"Activation inside and outside of objects, {findings.where}", path),
        metrics=measures.MEASURES,
        columns=measures.COLUMNS,
    )


def draw_far_from_global(maps: OpenedMaps, found: OptimumAnalysis, prefix: Path, where: str) -> list[Path]:
    """Draw the images that lose most by the global threshold: too high for them, and too low."""
    samples = {sample.id: sample for sample in maps.dataset.samples}
    assert found.threshold.value is not None  # of kind oracle
    at, files = found.threshold.value, []
    for side, sign in (("below", -1), ("above", 1)):
        if images := best_thresholds.far(found.images, sign):
            path = prefix.with_name(f"{prefix.name}-{maps.name}-{side}.png")
            title = f"{maps.name}: best threshold far {side} the global {at:.2f} (both oracle), {where}"
            reasons = [f"best threshold {i.threshold:.2f}, loses {i.loss:.1f} points at {at:.2f}" for i in images]
            pairs = zip(images, reasons, strict=True)
            draw_examples([threshold_example(maps, samples[i.id], i, at, why) for i, why in pairs], title, path)
            files.append(path)
    return files


def threshold_example(maps: OpenedMaps, sample: Sample, found: ImageOptimum, at: float, reason: str) -> Example:
    """One image cut at the global and at its own best threshold, for a figure."""
    dataset, image = maps.dataset, maps.dataset.image(sample)
    made = maps.read(sample).resize(image.height, image.width)
    values = made.maps.numpy()
    layers = [
        (f"maps of {maps.name}", values.max(axis=0)),
        (f"global {at:.2f}: {found.miou_at_global:.1f} mIoU", cut(values, made.classes, at)),
        (f"best {found.threshold:.2f}: {found.miou:.1f} mIoU", cut(values, made.classes, found.threshold)),
    ]
    return Example.over(dataset, sample, image, reason, layers)


def _histogram(name: str, found: OptimumAnalysis) -> Histogram:
    at, spread = found.threshold.value, found.spread
    assert at is not None  # of kind oracle
    note = f"mean {spread.mean:.2f} ± {spread.sd:.2f}, distance {spread.distance:.2f}"
    return Histogram(name, tuple(image.threshold for image in found.images), at, note)


def _boxes(found: Sequence[tuple[str, ImbalanceAnalysis]], measure: str, title: str) -> Boxes:
    values = tuple((name, tuple(float(getattr(i, measure)) for i in one.images)) for name, one in found)
    return Boxes(title, "of an image's activation", values)
