"""Compares measured stages of finished runs for ``tag2mask compare``: tables, pictures of the largest differences."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from tag2mask.compare.image_counts import Counted, common_kinds, common_samples, count_side
from tag2mask.compare.stages import Side, open_groups
from tag2mask.compare.tables import CompareLine, ImageLine, LabelLine, PairLines, pair_lines
from tag2mask.core.errors import ConfigError, command
from tag2mask.core.types import Sample
from tag2mask.evaluation.bootstrap import RESAMPLES
from tag2mask.evaluation.confusion import LabelImage
from tag2mask.evaluation.result_tables import write_table
from tag2mask.methods.stage_kinds import Makes
from tag2mask.pipeline.opened_run import OpenedRun, as_run
from tag2mask.report.examples import Example, draw_examples

FOLDER, TABLE = "comparison", "compare"
IMAGES = 3
"""How many of the largest gains, and of the losses, are drawn."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Result of `compare_runs`."""

    pairs: tuple[PairLines, ...]  # two sides at one kind of threshold each
    files: tuple[Path, ...]  # in the order to look at them


def compare_runs(
    runs: Sequence[OpenedRun | str | Path],
    *,
    stages: Sequence[str] = (),
    out: Path | None = None,
    images: int = IMAGES,
    resamples: int = RESAMPLES,
) -> Comparison:
    """Compare measured stages (see `open_groups`) of finished runs on the same images: the first with each other one.

    Of the largest gains, and of the losses, ``images`` are drawn; files go to ``comparison`` in the first run's folder
    where ``out`` is None.
    """
    if images < 0 or resamples < 1:
        raise ConfigError(f"images = {images}, resamples = {resamples}; expected images of 0 or more, resamples of 1")
    options = {"--out": out, "--images": images, "--resamples": resamples}
    usual = {"--out": None, "--images": IMAGES, "--resamples": RESAMPLES}
    words = [word for name in stages for word in ("--stage", name)]
    words += [word for name, value in options.items() if value != usual[name] for word in (name, str(value))]
    opened = [as_run(run) for run in runs]
    root = [] if opened[0].root is None else ["--root", str(opened[0].root)]
    same = command("compare", *(run.path for run in opened), *root, *words)
    out = out or opened[0].path / FOLDER
    pairs: list[PairLines] = []
    pictures: list[Path] = []
    for group in open_groups(opened, stages):
        found, drawn = _compare(group, same, out, images, resamples)
        pairs += found
        pictures += drawn
    files = [out / f"{TABLE}.csv", out / f"{TABLE}-classes.csv", out / f"{TABLE}-images.csv"]
    write_table(files[0], CompareLine, [pair.line for pair in pairs])
    write_table(files[1], LabelLine, [line for pair in pairs for line in pair.classes])
    write_table(files[2], ImageLine, [line for pair in pairs for line in pair.images])
    return Comparison(tuple(pairs), (*files, *pictures))


def _compare(
    sides: Sequence[Side], command: str, out: Path, images: int, resamples: int
) -> tuple[list[PairLines], list[Path]]:
    """Compare the first side with each other one at every kind of threshold; draw them at the first kind."""
    samples, kinds = common_samples(sides), common_kinds(sides)
    counted = [count_side(side, kinds, samples) for side in sides]
    pairs: list[PairLines] = []
    pictures: list[Path] = []
    for other in counted[1:]:
        mine = [pair_lines(counted[0][kind], other[kind], kind, command, resamples) for kind in kinds]
        pairs += mine
        path = out / f"{TABLE}-{_plain(mine[0].line.first)}-{_plain(mine[0].line.second)}.png"
        if draw_difference(counted[0][kinds[0]], other[kinds[0]], mine[0], images, path):
            pictures.append(path)
    return pairs, pictures


def draw_difference(first: Counted, second: Counted, pair: PairLines, count: int, out: Path) -> bool:
    """Draw the images with the ``count`` largest gains and losses of the second side, both sides by their first seeds.

    False, and no file, if no image differs.
    """
    gains = [line for line in pair.images if line.difference > 0][:count]
    losses = [line for line in reversed(pair.images) if line.difference < 0][:count]
    if not gains and not losses:
        return False
    dataset = first.side.dataset
    samples = {sample.id: sample for sample in dataset.samples}
    examples = []
    for gain in (*gains, *losses):
        sample = samples[gain.image]
        image = dataset.image(sample)
        layers = [
            (f"{gain.first}: {gain.first_miou:.1f}", _labels(first, sample, image)),
            (f"{gain.second}: {gain.second_miou:.1f}", _labels(second, sample, image)),
        ]
        examples.append(Example.over(dataset, sample, image, f"{gain.difference:+.1f} points", layers))
    line = pair.line
    title = f"{line.second} against {line.first}: largest gains, then losses ({line.threshold_kind}, {line.split})"
    draw_examples(examples, title, out)
    return True


def _labels(counted: Counted, sample: Sample, image: Image.Image) -> LabelImage:
    """The labels of a side for an image, by its first seed."""
    side, threshold = counted.side, counted.thresholds[0]
    measured = side.seeds[0].measured
    if side.makes is Makes.MASKS:
        return measured.labels(side.dataset, sample)
    maps = measured.maps(side.dataset, sample, threshold.scores).resize(image.height, image.width)
    return threshold.seeds(side.dataset, sample, maps.maps.numpy(), maps.classes)


def _plain(name: str) -> str:
    """A name as a part of a file's name."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", name).strip("-")
