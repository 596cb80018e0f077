"""Are the masks usable? Each image of a finished run judged without its truth, the worst listed and drawn."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tag2mask.analysis.map_thresholds import FOLDER
from tag2mask.analysis.mask_quality_inputs import JudgedMasks, find_judged
from tag2mask.core.errors import ConfigError, command
from tag2mask.core.files import write_text
from tag2mask.core.prefetch import prefetch
from tag2mask.core.progress import progress
from tag2mask.core.types import Sample
from tag2mask.evaluation.quality_ranking import SCORE, Assessed, ImageQuality, QualityAnalysis, assess
from tag2mask.evaluation.result_tables import ResultRow, csv_text, write_results
from tag2mask.pipeline.metric_stages import unseen
from tag2mask.report.figures import draw_examples
from tag2mask.report.page import Example, Picture
from tag2mask.report.pictures import fit, heat_overlay, label_overlay

QUALITY = "quality"
WORST = 12
_SIDE, _DIGITS = 320, 4


@dataclass(frozen=True, slots=True)
class QualityReport:
    """What `analyse_quality` found and wrote.

    Attributes:
        stage: whose masks were judged.
        found: every image's signals.
        worst: those of the lowest scores, lowest first.
        numbers: against the truth; empty without one.
        files: in the order to look at them.
    """

    stage: str
    found: QualityAnalysis
    worst: tuple[ImageQuality, ...]
    numbers: tuple[ResultRow, ...]
    files: tuple[Path, ...]


def analyse_quality(
    run: Path,
    *,
    stage: str | None = None,
    worst: int = WORST,
    images: int | None = None,
    classifier: bool = False,
    out: Path | None = None,
) -> QualityReport:
    """Judge the masks of a finished run image by image, from what the run has stored; nothing is trained.

    Writes ``quality-images.csv`` (every image, worst first), ``quality-worst.png`` and, where there is a truth,
    ``quality.csv`` with the rank correlation of each signal with the true mIoU of the images. The truth is used for
    that alone. Images on whose truth a threshold was chosen are left out.

    Args:
        run: the run folder.
        stage: of masks without unsure pixels, or of maps that another stage cuts; the last finished one of masks, else
            of maps, where None.
        worst: how many images to list and draw.
        images: how many to judge, evenly spaced over the split; all where None.
        classifier: also ask the classifier, and make the maps of single scales: forward passes for each image.
        out: folder for the files; ``analysis`` in the run folder where None.

    Raises:
        StageError: no run, stages that are not finished, missing or outdated files, or files that cannot be written.
        ConfigError: an unknown stage, or one that has no masks to judge.
        DataError: an image cannot be read, or no image is left.
    """
    if worst < 1 or (images is not None and images < 2):
        raise ConfigError(f"worst = {worst}, images = {images}: expected at least 1 and 2, for there must be an order")
    judged = find_judged(run, stage, classifier=classifier)
    samples = unseen(judged.artefacts, judged.dataset, judged.name)
    if images is not None and images < len(samples):
        samples = [samples[i * (len(samples) - 1) // (images - 1)] for i in range(images)]
    with progress(judged.name, len(samples)) as counter:
        every = _assessed(judged, samples, counter.advance)
        found = assess(every, judged.dataset.classes, judged.dataset.split)
    out, lowest = out or run / FOLDER, found.worst(worst)
    rows = found.results(
        judged.threshold, worst=worst, method=judged.name.partition("@")[0], seed=judged.seed,
        command=_command(run, judged.name, worst, images, classifier=classifier),
    )  # fmt: skip
    table, picture = out / f"{QUALITY}-images.csv", out / f"{QUALITY}-worst.png"
    write_text(table, _table(judged.name, found))
    _draw(judged, lowest, len(found.images), picture)
    numbers = [out / f"{QUALITY}.csv"] if rows else []
    for path in numbers:
        write_results(path, rows)
    return QualityReport(judged.name, found, lowest, rows, (table, picture, *numbers))


def _assessed(judged: JudgedMasks, samples: Sequence[Sample], advance: Callable[[], None]) -> Iterator[Assessed]:
    """Every sample as it is judged; files are read ahead, networks are asked here."""

    def read(sample: Sample) -> tuple[Sample, Assessed]:
        return sample, Assessed(sample.id, judged.look(sample), judged.dataset.truth(sample))

    for sample, one in prefetch(read, samples):
        yield replace(one, evidence=judged.asked(sample, one.evidence))
        advance()


def _command(run: Path, stage: str, worst: int, images: int | None, *, classifier: bool) -> str:
    words = ["analyse", QUALITY, str(run), "--stage", stage, "--worst", str(worst)]
    words += ["--images", str(images)] if images is not None else []
    return command(*words, *(["--classifier"] if classifier else []))


def _table(stage: str, found: QualityAnalysis) -> str:
    """Every image as CSV, worst first; an empty cell is a signal that says nothing of it."""
    lines: list[list[object]] = [["stage", "split", "rank", "image", SCORE, *found.names, "miou"]]
    for number, image in enumerate(found.worst(len(found.images)), start=1):
        cells = ("" if math.isnan(v) else round(v, _DIGITS) for v in (image.score, *image.signals, image.miou))
        lines.append([stage, found.split, number, image.id, *cells])
    return csv_text(lines)


def _draw(judged: JudgedMasks, lowest: Sequence[ImageQuality], count: int, path: Path) -> None:
    """The worst images: photo, maps, refined seeds where there are some, mask; no truth, for a user has none."""
    samples = {sample.id: sample for sample in judged.dataset.samples}
    examples = [_example(judged, samples[i.id], f"score {i.score:.2f}") for i in lowest]
    draw_examples(examples, f"Doubtful masks of {judged.name}: lowest {len(examples)} of {count} scores", path)


def _example(judged: JudgedMasks, sample: Sample, reason: str) -> Example:
    image, evidence = judged.dataset.image(sample), judged.look(sample)
    names = ", ".join(judged.dataset.classes[c] for c in sample.tags) or "no tags"
    pictures = [Picture(names, f"photo with the tags {names}", image)]
    if judged.maps is not None and evidence.maps is not None:
        values = evidence.maps.max(axis=0) if len(evidence.maps) else np.zeros(evidence.mask.shape, np.float32)
        caption = f"maps of {judged.maps.artefact.name}"
        pictures.append(Picture(caption, caption, heat_overlay(image, values)))
    if judged.refined is not None and evidence.refined is not None:
        pictures.append(Picture(judged.refined.name, "refined seeds", label_overlay(image, evidence.refined)))
    pictures.append(Picture(f"mask of {judged.name}", "the mask that is judged", label_overlay(image, evidence.mask)))
    return Example(sample.id, reason, tuple(replace(p, image=fit(p.image, _SIDE)) for p in pictures))
