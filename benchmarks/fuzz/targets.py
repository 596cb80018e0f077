"""What is fuzzed: for each reader good files, how they are broken, and how the program reads them.

The readers that need no torch come first: a fork of a process that has loaded it takes ten times as long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.fuzz import mutate
from benchmarks.fuzz.mutate import Mutator, flipped, mixed
from tag2mask.core import palette
from tag2mask.data import mask_files
from tag2mask.data.doctor.checks import examine
from tag2mask.data.registry import data_settings, open_split
from tests.helpers.draw import draw_coco, draw_folder, draw_scene, draw_voc


@dataclass(frozen=True, slots=True)
class Good:
    """A good file, and how it is broken."""

    path: Path
    mutator: Mutator


@dataclass(frozen=True, slots=True)
class Target:
    """A reader.

    Attributes:
        name: of the reader.
        draw: writes good files below a folder and gives those that are broken, one at a time.
        read: reads the folder as the program does; called with the folder and the broken file.
    """

    name: str
    draw: Callable[[Path], list[Good]]
    read: Callable[[Path, Path], object]


def _voc(root: Path) -> list[Good]:
    draw_voc(root, n=3, splits=("train",))
    one = next((root / "JPEGImages").iterdir()).stem
    return [
        *[Good(root / "Annotations" / f"{one}.xml", mixed(flipped, mutate.xml_text, mutate.xml_text))] * 3,
        Good(root / "SegmentationClass" / f"{one}.png", flipped),
        Good(root / "JPEGImages" / f"{one}.jpg", flipped),
        Good(root / "ImageSets" / "Segmentation" / "train.txt", mixed(flipped, mutate.table_cell)),
        Good(root / "classes.txt", mixed(flipped, mutate.table_cell)),
    ]


def _coco(root: Path) -> list[Good]:
    draw_coco(root, n=3, splits=("train",))
    return [Good(root / "annotations" / "instances_train2017.json", mixed(*[mutate.json_value] * 4, flipped))]


def _folder(root: Path) -> list[Good]:
    draw_folder(root, n=4)
    return [
        *[Good(root / "tags.csv", mixed(flipped, mutate.table_cell))] * 2,
        Good(root / "masks" / "photo 00.png", flipped),
        Good(root / "images" / "photo 01.png", flipped),
    ]


def _data(kind: str, **settings: Any) -> Callable[[Path, Path], None]:
    """Every sample of a split as a run reads it, and doctor's look; doctor must name whatever a run refuses."""

    def read(root: Path, broken: Path) -> None:
        checked = data_settings(kind, {"root": str(root), "val": None, **settings})
        examine(kind, checked, quiet=True, workers=1)
        dataset = open_split(kind, checked, checked.train)
        for sample in dataset.samples:
            dataset.content_hash(sample)
            dataset.image(sample)
            dataset.truth(sample)

    return read


def _masks(root: Path) -> list[Good]:
    labels = draw_scene(1).labels
    palette.write_labels(root / "ours.png", labels, "key")
    for mode in ("L", "1", "RGB", "I;16"):
        name = f"{mode.replace(';', '')}.png"
        Image.fromarray(labels.astype(np.uint16) if mode == "I;16" else labels).convert(mode).save(root / name)
    return [*[Good(root / "ours.png", flipped)] * 3, *[Good(p, flipped) for p in sorted(root.glob("[!o]*.png"))]]


def _read_masks(root: Path, broken: Path) -> None:
    if broken.name == "ours.png":
        palette.labels_key(broken)
        palette.read_labels(broken)
    mask_files.read_labels(broken, {(0, 0, 0): 0, (1, 1, 1): 1, (2, 2, 2): 2, (3, 3, 3): 3})


_LIGHT = (
    Target("voc", _voc, _data("voc", infer="train")),
    Target("coco", _coco, _data("coco", infer="train")),
    Target("folder", _folder, _data("folder", tags="tags.csv", images="images", train="all", infer="all")),
    Target("masks", _masks, _read_masks),
)
NAMES = (*(t.name for t in _LIGHT), "recipes", "overrides", "maps", "store", "checkpoints", "tiffs", "weights")
"""Of every reader."""


def targets(names: Sequence[str] = NAMES) -> Iterator[Target]:
    """The readers of these names; torch is loaded for the first that needs it."""
    yield from (t for t in _LIGHT if t.name in names)
    if not set(names) <= {t.name for t in _LIGHT}:
        from benchmarks.fuzz.torch_targets import TARGETS

        yield from (t for t in TARGETS if t.name in names)
