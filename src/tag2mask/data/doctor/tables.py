"""Checks tags and splits for the doctor: counts, splits that overlap, classes that always come together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from tag2mask.data.base import Dataset, DataSettings, Finding
from tag2mask.data.cooccurrence import Cooccurrence, count_tags
from tag2mask.data.split_views import MARK
from tag2mask.data.tag_names import name_findings
from tag2mask.data.tag_remarks import inseparable

LARGE = 1500
"""Longest side in pixels above which an image is noted."""


@dataclass(frozen=True, slots=True)
class SplitCount:
    """Images of one split: all, those that cannot be read, those with readable ground truth, those without any tag."""

    split: str
    images: int
    unreadable: int
    with_truth: int
    untagged: int


@dataclass(frozen=True, slots=True)
class ClassCount:
    """Images of one class in each split, in the order of the report's splits."""

    name: str
    images: tuple[int, ...]


def count_classes(opened: Sequence[Dataset]) -> tuple[ClassCount, ...]:
    """One row for each class."""
    names = opened[0].classes if opened else ()
    return tuple(
        ClassCount(name, tuple(sum(column in s.tags for s in d.samples) for d in opened))
        for column, name in enumerate(names)
    )


def together(opened: Sequence[Dataset]) -> tuple[tuple[int, ...], ...]:
    """(C, C) images with both tags; an image in several splits counts once."""
    return tuple(tuple(row) for row in _tags_of(opened).counts.tolist()) if opened else ()


def tag_findings(by_name: Mapping[str, Dataset], settings: DataSettings) -> list[Finding]:
    """Everything that splits, by the name they were given (``train`` may open as ``train2017``), and their tags say."""
    if not by_name:
        return []
    opened = list(by_name.values())
    return [
        *(f for dataset in opened for f in dataset.findings),
        *name_findings(opened[0].tag_names or opened[0].classes, settings),
        *_overlaps(by_name, settings),
        *(f for name, dataset in by_name.items() for f in _empty_classes(dataset, trains=name == settings.train)),
        *_inseparable(opened),
        *_without_background(by_name, settings),
        *_missing_truth(opened),
    ]


def _without_background(by_name: Mapping[str, Dataset], settings: DataSettings) -> list[Finding]:
    """What cannot be where every pixel is of a class: images without a tag, and a single class."""
    if settings.background != "none":
        return []
    classes = next(iter(by_name.values())).classes
    other = "set data.background=present"
    if len(classes) == 1:
        text = f"data.background = none, but the data has one class, '{classes[0]}', so that every pixel would be of it"
        return [Finding("background", "error", classes, text, f"Tag the other classes too, or {other}")]
    findings = []
    for name in dict.fromkeys(n for n in (settings.train, settings.infer) if n in by_name):
        untagged = tuple(s.id for s in by_name[name].samples if not s.tags)
        if untagged:
            text = (
                f"data.background = none says that every pixel is of a class, but {len(untagged)} of "
                f"{len(by_name[name])} images of split '{name}' have no tag, first '{untagged[0]}'"
            )
            findings.append(Finding("background", "error", untagged, text, f"Tag them, take them out, or {other}"))
    return findings


def _tags_of(opened: Sequence[Dataset]) -> Cooccurrence:
    """The tags of all splits together; an image in several of them counts once."""
    samples = {(s.id, s.image): s for d in opened for s in d.samples}
    return count_tags((s.tags for s in samples.values()), opened[0].classes)


def _overlaps(by_name: Mapping[str, Dataset], settings: DataSettings) -> list[Finding]:
    """Ids in two splits; the split that gets masks may hold the others."""
    findings = []
    for first, second in combinations(by_name, 2):
        if first.partition(MARK)[0] == second.partition(MARK)[0]:  # a part of the other, on purpose
            continue
        shared = sorted({s.id for s in by_name[first].samples} & {s.id for s in by_name[second].samples})
        if shared and (settings.infer not in (first, second) or {first, second} == {settings.train, settings.val}):
            text = f"{len(shared)} ids are in '{by_name[first].split}' and in '{by_name[second].split}'"
            remedy = "What is measured on images that were trained on says little: take them out of one split"
            findings.append(Finding("split", "warning", tuple(shared), text, remedy))
    return findings


def _empty_classes(dataset: Dataset, trains: bool) -> list[Finding]:
    present = {tag for s in dataset.samples for tag in s.tags}
    missing = tuple(name for column, name in enumerate(dataset.classes) if column not in present)
    if not missing:
        return []
    text = f"{len(missing)} of {len(dataset.classes)} classes have no image in '{dataset.split}'"
    if trains:
        remedy = "They cannot be learnt: add images, or list the others in data.classes"
        return [Finding("class", "warning", missing, text, remedy)]
    return [Finding("class", "note", missing, text, "They get no average precision, maps and masks in this split")]


def _inseparable(opened: Sequence[Dataset]) -> list[Finding]:
    """Classes in every image, and pairs where one comes with nearly all images of the other."""
    kinds = {"everywhere": "class", "together": "together"}
    return [Finding(kinds[r.kind], "warning", r.classes, r.text, r.remedy) for r in inseparable(_tags_of(opened))]


def _missing_truth(opened: Sequence[Dataset]) -> list[Finding]:
    findings = []
    for dataset in opened:
        if not dataset.has_truth:
            text, remedy = f"split '{dataset.split}' has no masks", "A run works without; nothing can be evaluated"
            findings.append(Finding("truth", "note", (dataset.split,), text, remedy))
            continue
        bare = tuple(s.id for s in dataset.samples if s.image is not None and s.truth is None)
        if bare and len(bare) < len(dataset):
            text = f"{len(bare)} of {len(dataset)} images in '{dataset.split}' have no mask, the others have"
            findings.append(Finding("truth", "warning", bare, text, "Check the names of the mask files"))
    return findings


def large(sizes: Iterable[tuple[int, int]]) -> list[Finding]:
    """A note where images of these (W, H), as they will be used, have more than `LARGE` pixels a side."""
    every = list(sizes)
    found = [size for size in every if max(size) > LARGE]
    if not found:
        return []
    width, height = max(found, key=max)
    text = f"{len(found)} of {len(every)} images have more than {LARGE} pixels a side, the largest {width} x {height}"
    remedy = (
        "The recipes own-data… shrink them (data.max_side=640); with others, maps of them take long and much memory"
    )
    return [Finding("size", "note", (), text, remedy)]
