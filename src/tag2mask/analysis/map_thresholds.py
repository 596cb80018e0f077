"""Pictures of the images whose best threshold is far from the global one (AMN, Figure 1b, c)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tag2mask.core.errors import ConfigError, command
from tag2mask.core.progress import progress
from tag2mask.core.types import Sample
from tag2mask.evaluation.best_thresholds import (
    ImageOptimum,
    OptimumAnalysis,
    OptimumLine,
    analyse_optimum,
    far_above,
    far_below,
)
from tag2mask.evaluation.result_tables import ResultRow, write_results, write_table
from tag2mask.evaluation.robustness import (
    CurveLine,
    ImbalanceAnalysis,
    ImbalanceLine,
    analyse_imbalance,
    curve_lines,
    robustness,
)
from tag2mask.evaluation.seeds import evaluate_seeds
from tag2mask.evaluation.thresholds import cut
from tag2mask.pipeline.evaluate_run import OpenedMaps, maps_stages, open_maps
from tag2mask.pipeline.metric_stages import unseen
from tag2mask.report.figures import Boxes, Curve, Histogram, draw_boxes, draw_curves, draw_examples, draw_histograms
from tag2mask.report.page import Example, Picture
from tag2mask.report.pictures import fit, heat_overlay, label_overlay

_SIDE = 320


def draw_far(maps: OpenedMaps, found: OptimumAnalysis, prefix: Path, where: str) -> list[Path]:
    """Draw the images that lose most by the global threshold: too high for them, and too low.

    Args:
        maps: of one stage.
        found: their analysis.
        prefix: of the files, ``<prefix>-<stage>-below.png`` and ``-above.png``; one without an image is not written.
        where: split, image count and seed in words.

    Raises:
        StageError: a file cannot be written.
    """
    samples = {sample.id: sample for sample in maps.dataset.samples}
    assert found.threshold.value is not None  # of kind oracle
    at, files = found.threshold.value, []
    for side, images in (("below", far_below(found.images)), ("above", far_above(found.images))):
        if images:
            path = prefix.with_name(f"{prefix.name}-{maps.name}-{side}.png")
            title = f"{maps.name}: best threshold far {side} the global {at:.2f} (both oracle), {where}"
            draw_examples([_example(maps, samples[image.id], image, at) for image in images], title, path)
            files.append(path)
    return files


def _example(maps: OpenedMaps, sample: Sample, found: ImageOptimum, at: float) -> Example:
    dataset, image = maps.dataset, maps.dataset.image(sample)
    made = maps.read(sample).resize(image.height, image.width)
    values = made.maps.numpy()
    tags = ", ".join(dataset.classes[c] for c in sample.tags)
    seeds = [
        (f"global {at:.2f}: {found.miou_at_global:.1f} mIoU", cut(values, made.classes, at)),
        (f"best {found.threshold:.2f}: {found.miou:.1f} mIoU", cut(values, made.classes, found.threshold)),
    ]
    truth = dataset.truth(sample)
    if truth is not None:
        seeds.append(("truth", truth))
    pictures = [(f"image: {tags}", image), (f"maps of {maps.name}", heat_overlay(image, values.max(axis=0)))]
    pictures += [(caption, label_overlay(image, labels)) for caption, labels in seeds]
    reason = f"best threshold {found.threshold:.2f}, loses {found.loss:.1f} points at {at:.2f}"
    return Example(
        sample.id, reason, tuple(Picture(caption, caption, fit(shown, _SIDE)) for caption, shown in pictures)
    )


LOG = logging.getLogger("tag2mask")
FOLDER = "analysis"
"""Folder of a run that the files are written to, unless another is named."""

OPTIMUM, CURVE, IMBALANCE = "optimum-threshold", "threshold-curve", "imbalance"

_Numbers = list[tuple[str, tuple[ResultRow, ...]]]


@dataclass(frozen=True, slots=True)
class Analysis:
    """What an analysis has found and written.

    Attributes:
        numbers: name and numbers of each stage.
        files: in the order to look at them.
    """

    numbers: tuple[tuple[str, tuple[ResultRow, ...]], ...]
    files: tuple[Path, ...]


def analyse_thresholds(
    run: Path, *, stages: Sequence[str] = (), split: str | None = None, out: Path | None = None
) -> Analysis:
    """Find the best threshold of each image beside the global one (AMN, Figure 1): CSVs, histograms, examples.

    Args:
        run: the run folder.
        stages: instances that made maps, all measured on the same images; every one of the run where empty.
        split: a split with a truth; the one whose maps were made where None.
        out: folder for the files; ``analysis`` in the run folder where None.

    Raises:
        StageError: no run, maps that are missing or outdated, or files that cannot be written.
        ConfigError: an unknown stage, or one that makes no maps.
        DataError: no image has a truth.
    """
    out = out or run / FOLDER
    numbers: _Numbers = []
    lines: list[OptimumLine] = []
    found: list[tuple[OpenedMaps, OptimumAnalysis]] = []
    for maps, samples, advance in _each(open_maps(run, stages, split)):
        one = analyse_optimum(maps.dataset, maps.read, samples=samples, advance=advance)
        rows = one.results(method=maps.method, seed=maps.stage.seed, command=_command(OPTIMUM, maps, split))
        numbers.append((maps.name, rows))
        lines += one.lines(maps.dataset.classes, stage=maps.name, seed=maps.stage.seed)
        found.append((maps, one))
    where = described(numbers, found[0][1].n_without_truth)
    files = [out / f"{OPTIMUM}.csv", out / f"{OPTIMUM}-images.csv", out / f"{OPTIMUM}.svg"]
    write_results(files[0], [row for _, rows in numbers for row in rows])
    write_table(files[1], OptimumLine, lines)
    draw_histograms([_histogram(m.name, one) for m, one in found], f"Best thresholds (oracle), {where}", files[2])
    pictures = [path for maps, one in found for path in draw_far(maps, one, out / OPTIMUM, where)]
    return Analysis(tuple(numbers), (*files, *pictures))


def analyse_curves(
    runs: Sequence[Path], *, stages: Sequence[str] = (), split: str | None = None, out: Path | None = None
) -> Analysis:
    """Draw mIoU over thresholds for several maps in one figure, and say how robust they are (AMN, Figure 6).

    Args:
        runs: run folders on the same images and classes.
        stages: instances that made maps, each in one of the runs or several; every one of each run where empty.
        split: as in `analyse_thresholds`.
        out: folder for the files; ``analysis`` in the first run's folder where None.

    Raises:
        StageError: as in `analyse_thresholds`.
        ConfigError: an unknown stage, one that makes no maps, or runs on different images or classes.
        DataError: no image has a truth.
    """
    out = out or runs[0] / FOLDER
    numbers: _Numbers = []
    lines: list[CurveLine] = []
    curves: list[Curve] = []
    n_without_truth = 0
    for maps, samples, advance in _each(open_several(runs, stages, split)):
        found = evaluate_seeds(maps.dataset, maps.read, samples=samples, advance=advance)
        name = maps.name if len(runs) == 1 else f"{maps.run}/{maps.name}"
        robust, n_without_truth = robustness(found.curve), found.n_without_truth
        command = _command(CURVE, maps, split)
        rows = robust.results(maps.method, found.split, found.n_images, maps.stage.seed, command)
        numbers.append((name, rows))
        lines += curve_lines(found, name, maps.stage.seed)
        curves.append(Curve(name, tuple((p.threshold, p.miou) for p in found.curve), (robust.low, robust.high)))
    where = described(numbers, n_without_truth)
    files = [out / f"{CURVE}.csv", out / f"{CURVE}-points.csv", out / f"{CURVE}.svg"]
    write_results(files[0], [row for _, rows in numbers for row in rows])
    write_table(files[1], CurveLine, lines)
    draw_curves(curves, f"Seeds at every threshold, {where}", files[2])
    return Analysis(tuple(numbers), tuple(files))


def analyse_activation(
    run: Path, *, stages: Sequence[str] = (), split: str | None = None, out: Path | None = None
) -> Analysis:
    """Measure the two conditions of AMN's section 3 on each image: spread inside the object, gap to the background.

    Arguments and errors as for `analyse_thresholds`.
    """
    out = out or run / FOLDER
    numbers: _Numbers = []
    lines: list[ImbalanceLine] = []
    found: list[tuple[str, ImbalanceAnalysis]] = []
    for maps, samples, advance in _each(open_maps(run, stages, split)):
        one = analyse_imbalance(maps.dataset, maps.read, samples=samples, advance=advance)
        rows = one.results(method=maps.method, seed=maps.stage.seed, command=_command(IMBALANCE, maps, split))
        numbers.append((maps.name, rows))
        lines += one.lines(stage=maps.name, seed=maps.stage.seed)
        found.append((maps.name, one))
    left_out = found[0][1].n_without_truth
    where = described(numbers, left_out)
    files = [out / f"{IMBALANCE}.csv", out / f"{IMBALANCE}-images.csv", out / f"{IMBALANCE}.svg"]
    write_results(files[0], [row for _, rows in numbers for row in rows])
    write_table(files[1], ImbalanceLine, lines)
    draw_boxes(
        [_boxes(found, *panel) for panel in _PANELS], f"Activation inside and outside of objects, {where}", files[2]
    )
    return Analysis(tuple(numbers), tuple(files))


_PANELS = (
    ("spread", "spread inside the object (c1: small)"),
    ("gap", "gap to the background (c2: large)"),
    ("margin", "margin to the background (c2: large)"),
)


def _each(opened: Sequence[OpenedMaps]) -> Iterator[tuple[OpenedMaps, list[Sample], Callable[[], None]]]:
    """Maps, the samples to measure them on (`shared` says which, and its errors), and what counts these."""
    for maps, samples in zip(opened, shared(opened), strict=True):
        with progress(maps.name, len(samples)) as counter:
            yield maps, samples, counter.advance


def shared(opened: Sequence[OpenedMaps]) -> list[list[Sample]]:
    """The samples to measure maps on: the same for all maps, without those behind a threshold of any of them.

    Raises:
        ConfigError: the maps are not of the same images and classes.
        DataError: no sample is left.
    """
    artefacts = [maps.artefact for maps in opened]
    chosen = [unseen(artefacts, maps.dataset, maps.name) for maps in opened]
    first = opened[0]
    for maps, samples in zip(opened, chosen, strict=True):
        if maps.dataset.classes != first.dataset.classes or [s.id for s in samples] != [s.id for s in chosen[0]]:
            raise ConfigError(
                f"{first.run} and {maps.run} cannot be compared: split '{first.dataset.split}' has {len(chosen[0])} "
                f"images of {len(first.dataset.classes)} classes in one, split '{maps.dataset.split}' has "
                f"{len(samples)} of {len(maps.dataset.classes)} in the other, and they are not the same. Name runs on "
                "the same data, or one run alone"
            )
    return chosen


def open_several(runs: Sequence[Path], stages: Sequence[str], split: str | None) -> list[OpenedMaps]:
    """The named maps of each run: a name has to be known to one of the runs, and each run has to have one of them.

    Args:
        runs: run folders.
        stages: names; every stage of maps where empty.
        split: the split to look at; the one whose maps were made where None.

    Raises:
        ConfigError: a name is unknown, or a run has none of them.
        StageError: as `open_maps`.
    """
    known = {run: maps_stages(run) for run in runs}
    somewhere = set().union(*known.values())
    opened: list[OpenedMaps] = []
    for run in runs:
        mine = [name for name in stages if name in known[run] or name not in somewhere]
        if stages and not mine:
            raise ConfigError(
                f"{run} has none of the stages {', '.join(stages)}; it makes the maps {', '.join(known[run])}. Leave "
                "the run out, or name one of these too"
            )
        opened += open_maps(run, mine, split)
    return opened


def _histogram(name: str, found: OptimumAnalysis) -> Histogram:
    at, spread = found.threshold.value, found.spread
    assert at is not None  # of kind oracle
    note = f"mean {spread.mean:.2f} ± {spread.sd:.2f}, distance {spread.distance:.2f}"
    return Histogram(name, tuple(image.threshold for image in found.images), at, note)


def _boxes(found: Sequence[tuple[str, ImbalanceAnalysis]], measure: str, title: str) -> Boxes:
    values = tuple((name, tuple(float(getattr(i, measure)) for i in one.images)) for name, one in found)
    return Boxes(title, "of an image's activation", values)


def command_of(verb: str, maps: OpenedMaps, options: Sequence[str] = ()) -> str:
    """The command that repeats one analysis of one stage."""
    return command("analyse", verb, maps.run, "--stage", maps.name, *options)


def _command(verb: str, maps: OpenedMaps, split: str | None) -> str:
    return command_of(verb, maps, ["--split", split] if split else [])


def described(numbers: _Numbers, n_without_truth: int) -> str:
    """Split, image count and seeds in words, for titles; says on the log what was left out."""
    first = numbers[0][1][0]
    if n_without_truth:
        LOG.warning("%d images of split '%s' without a truth are left out", n_without_truth, first.split)
    seeds = sorted({row.seed for _, rows in numbers for row in rows})
    return f"{first.split}, {first.n_images} images, seed {', '.join(map(str, seeds))}"
