"""Quality of the masks of a finished run: image by image without ground truth; at the boundaries, against it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tag2mask.analysis.base import FOLDER, Analysis, Run
from tag2mask.analysis.mask_quality_inputs import MaskInputs, find_masks, stages_with_masks
from tag2mask.core.arrays import rounded
from tag2mask.core.errors import ConfigError, command
from tag2mask.core.prefetch import prefetch
from tag2mask.core.progress import progress
from tag2mask.core.types import Sample
from tag2mask.evaluation.boundary import SHARE
from tag2mask.evaluation.metrics import SegmentationMetrics
from tag2mask.evaluation.quality_ranking import SCORE, Assessed, ImageQuality, QualityAnalysis, assess
from tag2mask.evaluation.result_tables import Origin, ResultRow, now, score_rows, write_cells, write_results
from tag2mask.pipeline.metric_stages import boundary_of, unseen
from tag2mask.pipeline.opened_run import OpenedRun, as_run
from tag2mask.report.examples import Example, draw_examples
from tag2mask.report.pictures import heat_overlay, label_overlay

QUALITY, BOUNDARY = "quality", "boundary"
WORST = 12


@dataclass(frozen=True, slots=True)
class QualityReport:
    """What `analyse_quality` found and wrote.

    Attributes:
        stage: whose masks were masks.
        found: every image's signals.
        worst: those of the lowest scores, lowest first.
        numbers: against ground truth; empty without it.
        files: in the order to look at them.
    """

    stage: str
    found: QualityAnalysis
    worst: tuple[ImageQuality, ...]
    numbers: tuple[ResultRow, ...]
    files: tuple[Path, ...]


def analyse_quality(
    run: Run,
    *,
    stage: str | None = None,
    worst: int = WORST,
    images: int | None = None,
    classifier: bool = False,
    out: Path | None = None,
) -> QualityReport:
    """Assess the masks of a finished run image by image, from what the run has stored; nothing is trained.

    Writes ``quality-images.csv`` (every image, worst first), ``quality-worst.png`` and, where there is ground truth,
    ``quality.csv`` with the rank correlation of each signal with the true mIoU of the images. Ground truth is used
    for that alone. Images on whose ground truth a threshold was chosen are left out.

    Args:
        run: the run, or its folder.
        stage: of masks without ignored pixels, or of maps that another stage cuts; None means the last finished one of
            masks, else of maps.
        worst: how many images to list and draw.
        images: how many to assess, evenly spaced over the split; None means all.
        classifier: also run the classifier, and make the maps of single scales: forward passes for each image.
        out: folder for the files; None means ``analysis`` in the run folder.

    Raises:
        StageError: no run, stages that are not finished, missing or outdated files, or files that cannot be written.
        ConfigError: an unknown stage, or one that has no masks to assess.
        DataError: an image cannot be read, or no image is left.
    """
    if worst < 1 or (images is not None and images < 2):
        raise ConfigError(f"worst = {worst}, images = {images}: expected at least 1 and 2, for there must be an order")
    run = as_run(run)
    masks = find_masks(run, stage, classifier=classifier)
    samples = unseen(masks.artefacts, masks.dataset, masks.name)
    if images is not None and images < len(samples):
        samples = [samples[i * (len(samples) - 1) // (images - 1)] for i in range(images)]
    with progress(masks.name, len(samples)) as counter:
        every = _assessed(masks, samples, counter.advance)
        found = assess(every, masks.dataset.classes, masks.dataset.split)
    out, lowest = out or run.path / FOLDER, found.worst(worst)
    same = _command(run, masks.name, worst, images, classifier=classifier)
    rows = found.results(masks.threshold, Origin(masks.method, masks.seed, same), worst=worst)
    table, picture = out / f"{QUALITY}-images.csv", out / f"{QUALITY}-worst.png"
    lines = [
        (masks.name, found.split, rank, i.id, *map(rounded, (i.score, *i.signals, i.miou)))
        for rank, i in enumerate(found.worst(len(found.images)), start=1)
    ]
    write_cells(table, ["stage", "split", "rank", "image", SCORE, *found.names, "miou"], lines)
    _draw(masks, lowest, len(found.images), picture)
    numbers = [out / f"{QUALITY}.csv"] if rows else []
    for path in numbers:
        write_results(path, rows)
    return QualityReport(masks.name, found, lowest, rows, (table, picture, *numbers))


def _assessed(masks: MaskInputs, samples: Sequence[Sample], advance: Callable[[], None]) -> Iterator[Assessed]:
    """Every sample as it is assessed; files are prefetched, networks run here."""

    def read(sample: Sample) -> tuple[Sample, Assessed]:
        return sample, Assessed(sample.id, masks.evidence(sample), masks.dataset.truth(sample))

    for sample, one in prefetch(read, samples):
        yield replace(one, evidence=masks.with_networks(sample, one.evidence))
        advance()


def _command(run: OpenedRun, stage: str, worst: int, images: int | None, *, classifier: bool) -> str:
    words = ["analyse", QUALITY, *run.words, "--stage", stage, "--worst", str(worst)]
    words += ["--images", str(images)] if images is not None else []
    return command(*words, *(["--classifier"] if classifier else []))


def _draw(masks: MaskInputs, lowest: Sequence[ImageQuality], count: int, path: Path) -> None:
    """The worst images: photo, maps, refined seeds where there are some, mask; no ground truth, for a user has none."""
    samples = {sample.id: sample for sample in masks.dataset.samples}
    examples = [_example(masks, samples[i.id], f"score {i.score:.2f}") for i in lowest]
    draw_examples(examples, f"Doubtful masks of {masks.name}: lowest {len(examples)} of {count} scores", path)


def _example(masks: MaskInputs, sample: Sample, reason: str) -> Example:
    image, evidence = masks.dataset.image(sample), masks.evidence(sample)
    pictures = [(", ".join(masks.dataset.classes[c] for c in sample.tags) or "no tags", image)]
    if masks.maps is not None and evidence.maps is not None:
        values = evidence.maps.max(axis=0) if len(evidence.maps) else np.zeros(evidence.mask.shape, np.float32)
        pictures.append((f"maps of {masks.maps.artefact.name}", heat_overlay(image, values)))
    if masks.refined is not None and evidence.refined is not None:
        pictures.append((masks.refined.name, label_overlay(image, evidence.refined)))
    pictures.append((f"mask of {masks.name}", label_overlay(image, evidence.mask)))
    return Example.of(sample.id, reason, pictures)


def analyse_boundaries(
    run: Run, *, stages: Sequence[str] = (), share: float = SHARE, out: Path | None = None
) -> Analysis:
    """Measure mIoU, Boundary IoU and trimaps of the masks of a run; writes ``boundary.csv``.

    Arguments and errors as for `tag2mask.analysis.map_thresholds.analyse_thresholds`, but that the stages are of masks
    without ignored pixels, of predictions, or of maps that another stage cuts; ``share`` is the width of Boundary IoU's
    band as a share of the image's diagonal.
    """
    run = as_run(run)
    names = tuple(stages) or stages_with_masks(run)
    if not names:
        run.check_links()
        raise ConfigError(
            f"{run.path} has no finished stage of masks, nor of maps that another stage cuts. Resume it: {run.command}"
        )
    numbers = tuple((name, _boundaries(run, find_masks(run, name), share)) for name in names)
    table = (out or run.path / FOLDER) / f"{BOUNDARY}.csv"
    write_results(table, [row for _, rows in numbers for row in rows])
    shown = ("miou", "miou_foreground", "f1_foreground")
    return Analysis(numbers, (table,), (*shown, "boundary_iou", "trimap_miou/3", "trimap_miou/10", "trimap_miou/40"))


def _boundaries(run: OpenedRun, masks: MaskInputs, share: float) -> tuple[ResultRow, ...]:
    """Every number of one stage's masks, mIoU first, all of the same images."""
    dataset = masks.dataset
    samples, whole = unseen([masks.own], dataset, masks.name), SegmentationMetrics(dataset.classes)
    with progress(masks.name, len(samples)) as counter:
        found = boundary_of(dataset, masks.mask, samples, share, counter.advance, whole)
    words = ["--share", f"{share:g}"] if share != SHARE else []
    same = command("analyse", BOUNDARY, *run.words, "--stage", masks.name, *words)
    rows = [
        score_rows(
            scores, masks.threshold, stage=masks.name, method=masks.method, split=dataset.split,
            n_images=found.n_images, seed=masks.seed, time=now(),
        )
        for scores in (whole.compute(), found.compute())
    ]  # fmt: skip
    return tuple(row.result(same) for part in rows for row in part)
