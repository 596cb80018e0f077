"""MS COCO as distributed (2014, 2017), and own data in its format: tags and ground truth from ``instances_*.json``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from tag2mask.core.errors import DataError
from tag2mask.core.progress import LOG
from tag2mask.core.types import IGNORE, Sample
from tag2mask.data.base import Dataset, DataSettings, Labels
from tag2mask.data.layout import is_file, need_folder, need_root, no_split
from tag2mask.data.mask_files import check_size
from tag2mask.data.readers.coco_json import Annotation, Instances, read_instances
from tag2mask.data.readers.coco_outline import flat_polygons, outline_of
from tag2mask.data.readers.filebased import FileDataset

LAYOUT = "annotations/instances_<split>.json and the images in <split>/ or images/<split>/"
_LIST = re.compile(r"instances_(.+)\.json")


class CocoSettings(DataSettings):
    """Settings of the reader ``coco``; the splits ``train`` and ``val`` stand for the one year that is there."""

    crowd: Literal["exclude", "ignore"] = Field(
        "exclude", description="crowd regions in the ground truth: left out, as the published masks have it, or 255"
    )
    overlap: Literal["later", "smaller"] = Field(
        "later", description="which object owns a shared pixel: the later annotation (published), or the smaller object"
    )


SETTINGS = CocoSettings


def open_split(settings: CocoSettings, split: str) -> Dataset:
    """Open one split, such as ``train2017``, ``val2014``, or ``train`` where one year is there.

    Raises:
        DataError: a file or folder is missing, the JSON is not as the format says, or the year is not clear.
    """
    root = need_root(settings.root, "coco", LAYOUT)
    full = _full_name(need_folder(root, "annotations", LAYOUT), split)
    return CocoDataset(settings, root, full)


class CocoDataset(FileDataset):
    """One split of COCO, such as ``val2017``, its ground truth drawn from the annotations when needed."""

    def __init__(self, settings: CocoSettings, root: Path, split: str) -> None:
        self._path = root / "annotations" / f"instances_{split}.json"
        instances = read_instances(self._path)
        folder = _image_folder(root, split)
        self._crowd, self._overlap = settings.crowd, settings.overlap
        self._instances = instances
        self._named: set[str] = set()  # images whose polygons without area were named
        super().__init__("coco", split, _samples(instances, folder, self._path), instances.classes, settings.classes)
        self.sources = (self._path,)

    @property
    def has_truth(self) -> bool:
        """Whether any annotation has an outline."""
        return self._instances.has_outlines

    def stored_labels(self, sample: Sample) -> Labels | None:
        """Draw the annotations of an image as (H, W) uint8; None where the file has no outlines at all."""
        if not self.has_truth:
            return None
        assert sample.image is not None
        image = self._instances.images[sample.id]
        check_size((image.height, image.width), sample.image, f"the mask of '{sample.id}'")  # before any is drawn
        for text in self.remarks(sample):
            LOG.warning("%s", text)
        drawn = [
            (a, outline_of(a, image.height, image.width, self._path))
            for a in image.annotations if not a.crowd or self._crowd == "ignore"
        ]  # fmt: skip
        labels = np.zeros((image.height, image.width), dtype=np.uint8)
        for annotation, outline in drawn:
            if annotation.crowd:
                labels[outline.mask()] = IGNORE
        objects = [(a, outline) for a, outline in drawn if not a.crowd]
        if self._overlap == "smaller":  # drawn last, so on top; the later one where areas agree
            objects.sort(key=lambda one: -one[1].area)
        for annotation, outline in objects:
            labels[outline.mask()] = annotation.column + 1
        return labels

    def mask_size(self, sample: Sample) -> tuple[int, int] | None:
        """(H, W) that the annotation file claims for an image."""
        image = self._instances.images[sample.id]
        return (image.height, image.width) if self.has_truth else None

    def remarks(self, sample: Sample) -> tuple[str, ...]:
        """Polygons without area, which are left out; each is named once, here or in the log when masks are drawn."""
        if sample.id in self._named:
            return ()
        self._named.add(sample.id)
        return tuple(
            f"{self._path}: annotation {a.id} of image '{sample.id}' has {why}: it is left out of the ground truth"
            for a in self._instances.images[sample.id].annotations
            for why in flat_polygons(a)
        )


def _full_name(folder: Path, split: str) -> str:
    known = sorted(m[1] for p in folder.iterdir() if (m := _LIST.fullmatch(p.name)))
    years = [name for name in known if re.fullmatch(rf"{re.escape(split)}\d{{4}}", name)]
    if split in known:
        return split
    if len(years) > 1:
        raise DataError(
            f"split '{split}' could be {' or '.join(years)} (in {folder}): name one, such as data.{split}={years[-1]}"
        )
    if not years:
        raise no_split(split, known, folder)
    return years[0]


def _image_folder(root: Path, split: str) -> Path:
    inner = root / "images" / split
    return inner if inner.is_dir() else need_folder(root, split, LAYOUT)


def _samples(instances: Instances, folder: Path, source: Path) -> list[Sample]:
    samples = [Sample(i, _tags(image.annotations), folder / image.file) for i, image in instances.images.items()]
    absent = [s.image for s in samples if s.image is not None and not is_file(s.image)]
    if absent:
        raise DataError(f"{source} names {len(absent)} of {len(samples)} images that do not exist, first {absent[0]}")
    return samples


def _tags(annotations: tuple[Annotation, ...]) -> tuple[int, ...]:
    return tuple(sorted({a.column for a in annotations if not a.crowd}))
