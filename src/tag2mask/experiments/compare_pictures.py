"""Pictures of the images that two sides differ on most: image, truth, and what either side made of it."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from tag2mask.core.types import Sample
from tag2mask.evaluation.confusion import LabelImage
from tag2mask.evaluation.thresholds import cut
from tag2mask.experiments.compare_lines import ImageLine, PairLines
from tag2mask.experiments.image_counts import Counted
from tag2mask.report.figures import draw_examples
from tag2mask.report.page import Example, Picture
from tag2mask.report.pictures import fit, label_overlay

_SIDE = 320


def draw_difference(first: Counted, second: Counted, pair: PairLines, count: int, out: Path) -> bool:
    """Draw the images with the largest gains and losses of the second side.

    Args:
        first: one side, shown with its first seed.
        second: the other side, likewise.
        pair: their numbers.
        count: how many of each to draw.
        out: a PNG; not written where no image differs.

    Returns:
        Whether there was something to draw.

    Raises:
        StageError: the file cannot be written.
    """
    gains = [line for line in pair.images if line.difference > 0][:count]
    losses = [line for line in reversed(pair.images) if line.difference < 0][:count]
    if not gains and not losses:
        return False
    samples = {sample.id: sample for sample in first.side.dataset.samples}
    examples = [_example(first, second, samples[line.image], line) for line in (*gains, *losses)]
    line = pair.line
    title = f"{line.second} against {line.first}: largest gains, then losses ({line.threshold_kind}, {line.split})"
    draw_examples(examples, title, out)
    return True


def _example(first: Counted, second: Counted, sample: Sample, line: ImageLine) -> Example:
    dataset = first.side.dataset
    image, truth = dataset.image(sample), dataset.truth(sample)
    tags = ", ".join(dataset.classes[c] for c in sample.tags) or "no tags"
    assert truth is not None  # it was counted
    labelled = [
        ("truth", truth),
        (f"{line.first}: {line.first_miou:.1f}", _labels(first, sample, image)),
        (f"{line.second}: {line.second_miou:.1f}", _labels(second, sample, image)),
    ]
    pictures = [(f"image: {tags}", image), *((name, label_overlay(image, labels)) for name, labels in labelled)]
    shown = tuple(Picture(name, name, fit(picture, _SIDE)) for name, picture in pictures)
    return Example(sample.id, f"{line.difference:+.1f} points", shown)


def _labels(counted: Counted, sample: Sample, image: Image.Image) -> LabelImage:
    """What a side made of an image, by its first seed, at its threshold."""
    side, threshold = counted.side, counted.thresholds[0]
    measured = side.seeds[0].measured
    if side.makes == "masks":
        return measured.labels(side.dataset, sample)
    maps = measured.maps(side.dataset, sample).resize(image.height, image.width)
    return cut(maps.maps.numpy(), maps.classes, threshold.of(sample.id, maps.classes))
