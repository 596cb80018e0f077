"""Measured stages side by side on the same images: differences, their intervals, classes, seeds and images."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tag2mask.core.errors import ConfigError, command
from tag2mask.evaluation.bootstrap import RESAMPLES
from tag2mask.evaluation.result_tables import write_table
from tag2mask.experiments.compare_lines import ClassLine, CompareLine, ImageLine, PairLines, pair_lines
from tag2mask.experiments.compare_pictures import draw_difference
from tag2mask.experiments.image_counts import common_kinds, common_samples, count_side
from tag2mask.experiments.sides import Side, open_groups

FOLDER, TABLE = "comparison", "compare"
IMAGES = 3
"""Largest gains and losses that are drawn, of each."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What `compare_runs` found.

    Attributes:
        pairs: two sides at one kind of threshold each.
        files: in the order to look at them.
    """

    pairs: tuple[PairLines, ...]
    files: tuple[Path, ...]


def compare_runs(
    runs: Sequence[Path],
    *,
    stages: Sequence[str] = (),
    out: Path | None = None,
    images: int = IMAGES,
    resamples: int = RESAMPLES,
) -> Comparison:
    """Compare measured stages of finished runs on the same images; the first against each other one.

    Args:
        runs: run folders, one or more.
        stages: as in `tag2mask.experiments.sides.open_groups`.
        out: folder for the files; ``comparison`` in the first run's folder where None.
        images: how many of the largest gains and losses are drawn, 0 or more of each.
        resamples: of the bootstrap.

    Raises:
        ConfigError: stages that are not there, or sides that cannot be compared.
        StageError: no run, a stage that is not finished, or files that cannot be written.
        DataError: no image has a truth, or the sides were measured on other masks.
    """
    if images < 0 or resamples < 1:
        raise ConfigError(f"images = {images}, resamples = {resamples}; expected images of 0 or more, resamples of 1")
    options = {"--out": out, "--images": images, "--resamples": resamples}
    usual = {"--out": None, "--images": IMAGES, "--resamples": RESAMPLES}
    words = [word for name in stages for word in ("--stage", name)]
    words += [word for name, value in options.items() if value != usual[name] for word in (name, str(value))]
    same = command("compare", *runs, *words)
    out = out or runs[0] / FOLDER
    pairs: list[PairLines] = []
    pictures: list[Path] = []
    for group in open_groups(runs, stages):
        found, drawn = _compare(group, same, out, images, resamples)
        pairs += found
        pictures += drawn
    files = [out / f"{TABLE}.csv", out / f"{TABLE}-classes.csv", out / f"{TABLE}-images.csv"]
    write_table(files[0], CompareLine, [pair.line for pair in pairs])
    write_table(files[1], ClassLine, [line for pair in pairs for line in pair.classes])
    write_table(files[2], ImageLine, [line for pair in pairs for line in pair.images])
    return Comparison(tuple(pairs), (*files, *pictures))


def _compare(
    sides: Sequence[Side], command: str, out: Path, images: int, resamples: int
) -> tuple[list[PairLines], list[Path]]:
    """The first side against each other one at every kind of threshold, and pictures at the first kind."""
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


def _plain(name: str) -> str:
    """A name as a part of a file's name."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", name).strip("-")
