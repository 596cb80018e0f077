"""Pictures of a few images for the report page: maps, seeds and masks beside the truth."""

from __future__ import annotations

import csv
from collections.abc import Sequence

from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset
from tag2mask.evaluation.thresholds import cut
from tag2mask.pipeline.measured import Measured
from tag2mask.pipeline.measures import IMAGES
from tag2mask.report.page import Example, Picture, pick_examples

_SHOWN = 4


def examples(dataset: Dataset, every: Sequence[Measured]) -> list[Example]:
    """Images chosen by rule, from the scores of what is measured last; evenly spaced where there are none.

    Args:
        dataset: the split of the page.
        every: what the run measures, refined seeds included.
    """
    last = [m for m in every if not m.unsure][-1]
    by_id = {s.id: s for s in dataset.samples}
    scores = _scores(last)
    if scores:
        worth = dict(scores)
        at = (
            f", {last.threshold.kind_text} threshold {last.threshold.value:g}"
            if last.threshold.value is not None
            else ""
        )
        chosen = [(i, f"{why} ({last.name}{at}): {worth[i]:.1f} mIoU") for i, why in pick_examples(scores)]
    else:
        tagged = [s.id for s in dataset.samples if s.tags]
        chosen = [(i, "evenly spaced in the list") for i in tagged[:: max(1, len(tagged) // _SHOWN)][:_SHOWN]]
    return [_example(dataset, by_id[i], why, every) for i, why in chosen]


def _scores(measured: Measured) -> list[tuple[str, float]]:
    path = measured.measuring.artefact.path / IMAGES
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        return [(line["image"], float(line["miou"])) for line in csv.DictReader(stream)]


def _example(dataset: Dataset, sample: Sample, reason: str, every: Sequence[Measured]) -> Example:
    from tag2mask.report.pictures import heat_overlay, label_overlay

    image = dataset.image(sample)
    tags = ", ".join(dataset.classes[c] for c in sample.tags) or "no tags"
    pictures = [Picture(f"image: {tags}", f"photo with the tags {tags}", image)]
    labels: list[Picture] = []
    for found in every:
        name, artefact = found.name, found.maker.artefact
        if found.maker.stage.kind.makes == "masks":
            shown = label_overlay(image, artefact.labels(dataset, sample))
            labels.append(Picture(name, f"labels of {name} over the image", shown))
            continue
        maps = artefact.maps(dataset, sample).resize(image.height, image.width)
        values = maps.maps.numpy()
        if len(values):
            caption = f"activation of {name} over the image"
            pictures.append(Picture(name, caption, heat_overlay(image, values.max(0))))
        assert found.threshold.value is not None  # seeds are cut at one
        caption = f"seeds of {name} at {found.threshold.value:g}"
        seeds = cut(values, maps.classes, found.threshold.value)
        labels.append(Picture(caption, caption, label_overlay(image, seeds)))
    truth = dataset.truth(sample)
    if truth is not None:
        labels.append(Picture("truth", "mask drawn by hand", label_overlay(image, truth)))
    return Example(sample.id, reason, (*pictures, *labels))
