"""Checks a data set before hours are spent on it: every problem at once, none of them fatal here.

``tag2mask doctor`` examines it all; a run begins with what `first_look` has time for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from tag2mask.core.errors import DataError
from tag2mask.core.types import IGNORE, Sample
from tag2mask.data.base import Dataset, DataSettings, Finding
from tag2mask.data.doctor.files import Pixels, broken, each, image_files, pixel_findings, plain, siblings, twin_stems
from tag2mask.data.doctor.tables import ClassCount, SplitCount, count_classes, large, tag_findings, together
from tag2mask.data.images import levels_range
from tag2mask.data.registry import open_split
from tag2mask.data.sidecars import sidecar_findings

Key = tuple[str, Path | None]
"""Id and file of an image."""


@dataclass(frozen=True, slots=True)
class Report:
    """What the doctor found.

    Attributes:
        kind: the reader's name.
        splits: one row for each split that could be opened.
        classes: one row for each class, in the order of the columns.
        together: (C, C) images that carry both tags; the diagonal counts the images of each class.
        findings: errors first, then warnings, then notes.
    """

    kind: str
    splits: tuple[SplitCount, ...]
    classes: tuple[ClassCount, ...]
    together: tuple[tuple[int, ...], ...]
    findings: tuple[Finding, ...]

    def count(self, severity: Literal["error", "warning", "note"]) -> int:
        """Findings of that severity."""
        return sum(f.severity == severity for f in self.findings)

    def exit_code(self, strict: bool = False) -> int:
        """0 where a run may start; 1 after errors, and with ``strict`` after warnings too."""
        return int(bool(self.count("error") or (strict and self.count("warning"))))


@dataclass(frozen=True, slots=True)
class Inspection:
    """One image looked at: its (W, H) if it can be read, what pixels and mask hold, and what is wrong with it."""

    sample: Sample
    size: tuple[int, int] | None
    pixels: Pixels
    findings: tuple[Finding, ...]

    @property
    def shown(self) -> frozenset[int] | None:
        """The class columns in its ground truth."""
        return self.pixels.shown


def examine(
    kind: str, settings: DataSettings, splits: Sequence[str] | None = None, *, workers: int = 4, quiet: bool = False
) -> Report:
    """Examine a data set: opens each split, reads every image and mask, and compares the tags.

    Args:
        kind: a registered reader's name.
        settings: the reader's settings.
        splits: the splits to look at; None takes those of ``settings``.
        workers: threads that read files.
        quiet: show no progress.
    """
    names = tuple(dict.fromkeys(splits or [s for s in (settings.train, settings.val, settings.infer) if s]))
    by_name, findings = open_splits(names, lambda name: open_split(kind, settings, name))
    opened = list(by_name.values())
    inspected = _inspect_all(opened, workers, quiet)
    root = settings.root.expanduser() if settings.root else None
    if len(opened) < len(names) and root is not None and root.is_dir():
        rest = sorted(set(image_files(root)) - {one.sample.image for one in inspected.values()})
        findings += [f for f in each(broken, rest, "doctor: other files", workers, quiet) if f]
        findings += twin_stems(rest)
    return Report(
        kind,
        tuple(_split_count(d, inspected) for d in opened),
        count_classes(opened),
        together(opened),
        tuple(in_order([*findings, *findings_of(by_name, inspected, settings)])),
    )


def findings_of(
    by_name: Mapping[str, Dataset], inspected: Mapping[Key, Inspection], settings: DataSettings
) -> list[Finding]:
    """What the images that were looked at, their tags and their names say; the same for the doctor and for a run."""
    return [
        *(f for one in inspected.values() for f in one.findings),
        *twin_stems(siblings(one.sample.image for one in inspected.values())),
        *_disagreements(list(by_name.values()), inspected),
        *tag_findings(by_name, settings),
        *pixel_findings([one.pixels for one in inspected.values()], settings),
        *large(one.size for one in inspected.values() if one.size is not None),
    ]


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Each finding once, errors first, then warnings, then notes."""
    return sorted(dict.fromkeys(findings), key=lambda f: ("error", "warning", "note").index(f.severity))


def open_splits(names: Iterable[str], opening: Callable[[str], Dataset]) -> tuple[dict[str, Dataset], list[Finding]]:
    """The splits that open and agree on the classes, by the name given, and an error for each that does not."""
    opened: dict[str, Dataset] = {}
    findings: list[Finding] = []
    failed: dict[str, list[str]] = {}
    for name in names:
        try:
            dataset = opening(name)
        except (DataError, OSError) as error:
            for line in str(error).splitlines():
                failed.setdefault(line, []).append(name)
            continue
        first = next(iter(opened.values()), dataset)
        if dataset.classes != first.classes:
            text = f"split '{name}' has classes {list(dataset.classes)}, '{first.split}' {list(first.classes)}"
            findings.append(Finding("class", "error", (name,), text, "Set data.classes so that all splits agree"))
            continue
        opened[name] = dataset
    remedy = "Fix this first; what lies behind it cannot be seen before"
    return opened, [Finding("open", "error", tuple(n), text, remedy) for text, n in failed.items()] + findings


def each_once(opened: Iterable[Dataset]) -> dict[Key, tuple[Dataset, Sample]]:
    """Every image once, even where it is in several splits."""
    return {(s.id, s.image): (d, s) for d in opened for s in d.samples}


def _inspect_all(opened: Sequence[Dataset], workers: int, quiet: bool) -> dict[Key, Inspection]:
    wanted = each_once(opened)
    inspected = each(lambda pair: inspect_image(*pair), list(wanted.values()), "doctor", workers, quiet)
    return dict(zip(wanted, inspected, strict=True))


def inspect_image(dataset: Dataset, sample: Sample) -> Inspection:
    """Read one image and its ground truth; whatever goes wrong is a finding."""
    findings, size, pixels = [], None, Pixels(sample.id)
    try:
        size = dataset.image(sample).size
        pixels = replace(pixels, grey=None if sample.image is None else levels_range(sample.image))
    except Exception as error:  # the doctor lives through anything a file can do to a reader
        findings.append(Finding("image", "error", (sample.id,), plain(error), "Replace or remove the file"))
    findings += [] if size is None else sidecar_findings(dataset, sample)
    remedy = "Correct it or take it out; a run leaves it out"
    findings += [Finding("mask", "warning", (sample.id,), text, remedy) for text in dataset.remarks(sample)]
    try:
        labels = dataset.truth(sample)
    except Exception as error:
        if plain(error) not in {f.text for f in findings}:
            findings.append(Finding("mask", "error", (sample.id,), plain(error), "Replace or remove the mask"))
    else:
        if labels is not None:
            every = {int(v) for v in np.unique(labels)}
            values = every - {0, IGNORE}
            pixels = replace(pixels, shown=frozenset(v - 1 for v in values), ignored=IGNORE in every)
            findings += _mask_findings(sample, labels.shape, size, values, len(dataset.classes))
    return Inspection(sample, size, pixels, tuple(findings))


def _mask_findings(
    sample: Sample, shape: tuple[int, ...], size: tuple[int, int] | None, values: set[int], n_classes: int
) -> list[Finding]:
    """What a reader may have let through: a mask of another size, an index without a class."""
    findings = []
    if size is not None and shape != size[::-1]:
        text = f"the mask of '{sample.id}' is {shape[1]} x {shape[0]} pixels, its image {size[0]} x {size[1]}"
        findings.append(Finding("mask", "error", (sample.id,), text, "A mask must have the size of its image"))
    strange = sorted(v for v in values if v > n_classes)
    if strange:
        text = f"the mask of '{sample.id}' holds {', '.join(map(str, strange))}: expected 0..{n_classes} or 255"
        findings.append(Finding("mask", "error", (sample.id,), text, "Check the order of the classes and the masks"))
    return findings


def _disagreements(opened: Sequence[Dataset], inspected: Mapping[Key, Inspection]) -> list[Finding]:
    """Per class: images that show it without the tag, and images with the tag that do not show it."""
    findings = []
    seen = [(one.sample, one.shown) for one in inspected.values() if one.shown is not None]
    for column, name in enumerate(opened[0].classes if opened else ()):
        untagged = [s.id for s, shown in seen if column in shown and column not in s.tags]
        unseen = [s.id for s, shown in seen if column in s.tags and column not in shown]
        for ids, text in (
            (untagged, f"show '{name}' in the mask but lack the tag"),
            (unseen, f"are tagged '{name}' but their masks show none"),
        ):
            if ids:
                text = f"{len(ids)} of {len(seen)} images with masks {text}"
                remedy = "Tags decide what is trained, masks what is measured: correct the one that is wrong"
                findings.append(Finding("tags", "warning", tuple(sorted(ids)), text, remedy))
    return findings


def _split_count(dataset: Dataset, inspected: Mapping[Key, Inspection]) -> SplitCount:
    own = [inspected[s.id, s.image] for s in dataset.samples]
    return SplitCount(
        dataset.split,
        len(own),
        sum(one.size is None for one in own),
        sum(one.shown is not None for one in own),
        sum(not one.sample.tags for one in own),
    )
