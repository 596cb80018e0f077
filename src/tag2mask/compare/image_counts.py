"""Counts pixels of each image for both sides of a comparison, from stored maps and masks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from tag2mask.compare.stages import OneSeed, Side
from tag2mask.core.errors import ConfigError, DataError
from tag2mask.core.progress import progress
from tag2mask.core.types import Sample
from tag2mask.evaluation.bootstrap import Counts, ImageCounts, label_counts
from tag2mask.evaluation.confusion import LabelImage, confusion_matrix
from tag2mask.evaluation.label_images import compared
from tag2mask.evaluation.result_tables import read_columns
from tag2mask.evaluation.seeds import evaluate_seeds, pairs
from tag2mask.evaluation.thresholds import Threshold
from tag2mask.methods.stage_kinds import Makes
from tag2mask.pipeline.metric_stages import IMAGES, unseen


@dataclass(frozen=True, slots=True)
class Counted:
    """One side at one kind of threshold."""

    side: Side
    thresholds: tuple[Threshold, ...]  # of each seed
    counts: tuple[ImageCounts, ...]  # of each seed; the images in the order of ``ids``
    ids: tuple[str, ...]  # counted images, those with ground truth


def common_samples(sides: Sequence[Side]) -> list[Sample]:
    """The images that all sides are compared on: without those behind a chosen threshold of any side."""
    first = sides[0]
    measuring = [one.measuring for side in sides for one in side.seeds]
    samples = unseen(measuring, first.dataset, first.name)
    ids = [s.id for s in samples]
    for other in sides[1:]:
        if other.dataset.classes != first.dataset.classes:
            _refuse(first, other, "classes", first.dataset.classes, other.dataset.classes)
        if other.dataset.split != first.dataset.split:
            _refuse(first, other, "split", (first.dataset.split,), (other.dataset.split,))
        others = [s.id for s in unseen(measuring, other.dataset, other.name)]
        if others != ids:
            _refuse(first, other, "images", ids, others)
    return samples


def _refuse(first: Side, other: Side, what: str, one: Sequence[str], two: Sequence[str]) -> None:
    alone = [*sorted(set(one) - set(two))[:1], *sorted(set(two) - set(one))[:1]]
    hint = f"'{alone[0]}' is in one of them alone" if alone else "the order differs"
    raise ConfigError(
        f"{first.name} and {other.name} cannot be compared: {what} differ ({len(one)} and {len(two)}; {hint}). Name "
        "stages that were measured on the same split of the same data"
    )


def common_kinds(sides: Sequence[Side]) -> list[str]:
    """The kinds of threshold that all seeds of all sides were measured at, in the order of the first."""
    every = [one.thresholds for side in sides for one in side.seeds]
    kinds = [kind for kind in every[0] if all(kind in other for other in every)]
    if not kinds:
        each = "; ".join(f"{side.name}: {', '.join(side.seeds[0].thresholds)}" for side in sides)
        raise ConfigError(f"there is no kind of threshold in common ({each}): kinds do not compare")
    return kinds


def count_side(side: Side, kinds: Sequence[str], samples: Sequence[Sample]) -> dict[str, Counted]:
    """Count a side at each kind of threshold, on the samples with ground truth.

    An oracle is the best threshold of these very images: if fewer are left than were measured, it is recomputed.
    """
    thresholds: list[list[Threshold]] = []
    counts: list[list[ImageCounts]] = []
    ids: tuple[str, ...] = ()
    for one in side.seeds:
        thresholds.append([_threshold(side, one, kind, samples) for kind in kinds])
        with progress(one.measured.name, len(samples)) as counter:
            images = list(_counted(side, one, thresholds[-1], samples, counter.advance))
        if not images:
            raise DataError(f"no image of split '{side.dataset.split}' has ground truth: {side.name} is not compared")
        counts.append([ImageCounts.of([image[i] for _, image in images]) for i in range(len(kinds))])
        ids = tuple(name for name, _ in images)
    by_kind = zip(kinds, zip(*thresholds, strict=True), zip(*counts, strict=True), strict=True)
    return {kind: Counted(side, at, of_seeds, ids) for kind, at, of_seeds in by_kind}


def _threshold(side: Side, one: OneSeed, kind: str, samples: Sequence[Sample]) -> Threshold:
    threshold = one.thresholds[kind]
    if threshold.kind != "oracle" or _measured(one) <= {s.id for s in samples}:
        return threshold
    read = partial(one.measured.maps, side.dataset)
    found = evaluate_seeds(side.dataset, read, background=threshold.background, samples=samples)
    found.check()
    (best,) = found.scores
    return best.threshold


def _measured(one: OneSeed) -> set[str]:
    """Ids of the images that the stage has measured."""
    return {name for (name,) in read_columns(one.measuring.path / IMAGES, ("image",), numbers=())}


def _counted(
    side: Side, one: OneSeed, thresholds: Sequence[Threshold], samples: Sequence[Sample], advance: Callable[[], None]
) -> Iterator[tuple[str, list[Counts]]]:
    """Id of each image with ground truth, and its counts at each threshold; masks have the same at all of them."""
    n_labels = len(side.dataset.classes) + 1

    def counted(labels: LabelImage, truth: LabelImage, sample_id: str) -> Counts:
        return label_counts(confusion_matrix(labels, truth, n_labels, sample_id=sample_id))

    if side.makes is Makes.MAPS:
        read, rule = partial(one.measured.maps, side.dataset), thresholds[0].background
        for pair in pairs(side.dataset, read, samples, background=rule, advance=advance):
            name = pair.sample.id
            cuts = (threshold.cut(pair.maps, pair.classes, name, pair.sides) for threshold in thresholds)
            yield name, [counted(labels, pair.truth, name) for labels in cuts]
        return
    labels = partial(one.measured.labels, side.dataset)
    for image in compared(side.dataset, labels, samples, advance=advance):
        yield image[-1], [counted(*image)] * len(thresholds)
