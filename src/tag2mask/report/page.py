"""The page of a run: who won, at which kind of threshold, the numbers, the curves, pictures, times and the command."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from tag2mask.core.errors import DataError
from tag2mask.report.curves import chart
from tag2mask.report.html import percent, render


@dataclass(frozen=True, slots=True)
class Score:
    """One method's means at one threshold, in percent.

    Attributes:
        threshold_kind: such as ``fixed``, ``oracle`` or ``few-masks(10)``.
        threshold: 0..1, or None of kind ``none``.
        miou: over all labels, background included.
        fp: over the foreground classes, as the next three.
        fn: missed share of the union.
        precision: NaN where undefined.
        recall: NaN where undefined.
    """

    threshold_kind: str
    threshold: float | None
    miou: float
    fp: float
    fn: float
    precision: float
    recall: float


@dataclass(frozen=True, slots=True)
class MethodResult:
    """What one method reached on the page's split.

    Attributes:
        name: as shown, such as ``LPCAM-F``.
        scores: one for each kind of threshold.
        curve: (threshold, mIoU in percent) points, empty where there is no sweep.
    """

    name: str
    scores: tuple[Score, ...]
    curve: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of an example.

    Attributes:
        caption: what it is, such as ``LPCAM``.
        alt: what it shows, for those who do not see it.
        image: any size; shrunk for the page.
    """

    caption: str
    alt: str
    image: Image.Image


@dataclass(frozen=True, slots=True)
class Example:
    """One image with all its pictures in order: image, each method, truth.

    Attributes:
        id: the sample's.
        reason: why this image is shown, such as ``best of 48 (LPCAM, fixed threshold): 81.2 mIoU``.
        pictures: at least one.
    """

    id: str
    reason: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True, slots=True)
class StageTime:
    """What one stage cost.

    Attributes:
        name: of the stage.
        seconds: in all; 0 where it was taken from the store.
        n_images: images it went over, 0 where it has no images to count.
    """

    name: str
    seconds: float
    n_images: int = 0


@dataclass(frozen=True, slots=True)
class PageData:
    """Everything a page shows.

    Attributes:
        title: of the page.
        data: the data set in words, such as ``parts (generated), 6 classes``.
        split: evaluated split.
        n_images: images with a truth that were counted.
        n_without_truth: images left out.
        ledger: supervision that the result has seen.
        seed: of the run.
        methods: at least one.
        examples: a handful of images.
        times: of the stages, in order.
        command: that makes the same again.
        notes: further sentences, such as classes in no mean.
    """

    title: str
    data: str
    split: str
    n_images: int
    n_without_truth: int
    ledger: tuple[str, ...]
    seed: int
    methods: tuple[MethodResult, ...]
    examples: tuple[Example, ...]
    times: tuple[StageTime, ...]
    command: str
    notes: tuple[str, ...] = ()


def kinds(methods: Sequence[MethodResult]) -> tuple[str, ...]:
    """The kinds of threshold of all methods, in order of first appearance."""
    return tuple(dict.fromkeys(score.threshold_kind for method in methods for score in method.scores))


def by_kind(methods: Sequence[MethodResult], kind: str) -> tuple[tuple[str, Score], ...]:
    """Name and score of every method that has this kind of threshold: numbers that may be compared."""
    return tuple((method.name, score) for method in methods for score in method.scores if score.threshold_kind == kind)


def headline(methods: Sequence[MethodResult]) -> tuple[str, ...]:
    """Who won, one sentence for each kind of threshold; equal to one decimal is a draw.

    Raises:
        DataError: no method has a score.
    """
    if not kinds(methods):
        raise DataError("a page needs at least one method with a score; evaluate a stage first (tag2mask eval RUN)")
    return tuple(_verdict(kind, by_kind(methods, kind)) for kind in kinds(methods))


def _verdict(kind: str, scores: Sequence[tuple[str, Score]]) -> str:
    at = "without a threshold" if kind == "none" else f"at {kind} thresholds"
    known = sorted((s for s in scores if not math.isnan(s[1].miou)), key=lambda s: -s[1].miou)
    if not known:
        return f"Nothing to compare {at}."
    name, first = known[0]
    if len(known) == 1:
        return f"{name} reaches {percent(first.miou)} mIoU {at}."
    level = [n for n, s in known if percent(s.miou) == percent(first.miou)]
    rest = ", ".join(f"{n} {percent(s.miou)}" for n, s in known[1:])
    if len(level) > 1:
        return f"{' and '.join(level)} are level {at} with {percent(first.miou)} mIoU."
    lead = percent(round(first.miou, 1) - round(known[1][1].miou, 1))  # of the numbers as they are shown
    return f"{name} wins {at} with {percent(first.miou)} mIoU, {lead} points ahead ({rest})."


def pick_examples(scores: Sequence[tuple[str, float]], n_median: int = 2) -> tuple[tuple[str, str], ...]:
    """Choose images by rule, not by eye: the best, the ``n_median`` around the median, the worst.

    Args:
        scores: id and score of each image; NaN is left out.
        n_median: how many to take from the middle.

    Returns:
        (id, which) pairs, no id twice; ``which`` is ``best``, ``median`` or ``worst`` with the image count.
    """
    ranked = [i for i, _ in sorted((s for s in scores if not math.isnan(s[1])), key=lambda s: (-s[1], s[0]))]
    if not ranked:
        return ()
    start = max(0, (len(ranked) - n_median) // 2)
    middle = [(i, "median") for i in ranked[start : start + n_median]]
    chosen: dict[str, str] = {}
    for sample_id, which in [(ranked[0], "best"), *middle, (ranked[-1], "worst")]:
        chosen.setdefault(sample_id, f"{which} of {len(ranked)}")
    return tuple(chosen.items())


def render_page(data: PageData, out: Path) -> None:
    """Write the page as one HTML file that needs no other file and no network.

    Raises:
        DataError: no method has a score.
        StageError: the file cannot be written.
    """
    tables = [(kind, by_kind(data.methods, kind)) for kind in kinds(data.methods)]
    curves = chart([(m.name, m.curve) for m in data.methods])
    render("page.html", out, page=data, headline=headline(data.methods), tables=tables, chart=curves)
