"""Pictures of the images whose best threshold is far from the global one (AMN, Figure 1b, c)."""

from __future__ import annotations

from pathlib import Path

from tag2mask.core.types import Sample
from tag2mask.evaluation.best_thresholds import ImageOptimum, OptimumAnalysis, far_above, far_below
from tag2mask.evaluation.thresholds import cut
from tag2mask.pipeline.evaluate import OpenedMaps
from tag2mask.report.figures import draw_examples
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
