"""Small data sets drawn in the real on-disk layouts, with their exact truth.

Each class is a shape of its own colour on noisy grey. Every class occurs in every split of three or more images; where
two classes share an image they stand side by side, so that nothing overlaps and the truth is known pixel by pixel.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tag2mask.core.palette import write_labels

CLASSES = ("disc", "square", "stripe")
COLOURS = ((200, 40, 40), (40, 180, 60), (50, 80, 210))
Array = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Scene:
    """One drawn image: pixels (H, W, 3), labels (H, W) with index ``c + 1`` for class ``c``, and tags (columns)."""

    image: Array
    labels: Array
    tags: tuple[int, ...]


def draw_scene(number: int, seed: int = 0, tags: Sequence[int] | None = None) -> Scene:
    """Draw scene ``number``: 48 x 64 or 64 x 48 pixels, with ``tags`` or else one or two classes by turns."""
    rng = np.random.default_rng((seed, number))
    height, width = ((48, 64), (64, 48))[number % 2]
    chosen = tuple(sorted(tags)) if tags is not None else _turn(number)
    image = rng.normal(128, 20, (height, width, 1)) + rng.normal(0, 6, (height, width, 3))
    labels = np.zeros((height, width), dtype=np.uint8)
    for place, tag in enumerate(chosen):
        mask = _shape(tag, height, width, place, len(chosen), rng)
        image[mask] = np.array(COLOURS[tag]) + rng.normal(0, 10, (int(mask.sum()), 3))
        labels[mask] = tag + 1
    return Scene(image.clip(0, 255).astype(np.uint8), labels, chosen)


def draw_voc(
    root: Path, n: int = 6, splits: Sequence[str] = ("train", "val"), seed: int = 0, masks: str = "SegmentationClass"
) -> dict[str, Scene]:
    """Draw ``n`` images for each split as a VOC devkit with own class names (in ``classes.txt``); scenes by id."""
    scenes: dict[str, Scene] = {}
    for split, part in _parts(n, splits, seed).items():
        ids = {f"2007_{number:06d}": scene for number, scene in part.items()}
        scenes |= ids
        write(root / "ImageSets" / "Segmentation" / f"{split}.txt", "".join(f"{i}\n" for i in ids))
    for name, scene in scenes.items():
        save_image(root / "JPEGImages" / f"{name}.jpg", scene.image)
        write_labels(root / masks / f"{name}.png", scene.labels)
        write(root / "Annotations" / f"{name}.xml", voc_xml(CLASSES[t] for t in scene.tags))
    write(root / "classes.txt", "\n".join(CLASSES) + "\n")
    return scenes


def voc_xml(names: Any) -> str:
    """An annotation with one object for each name."""
    objects = "".join(f"<object><name>{n}</name><difficult>0</difficult></object>\n" for n in names)
    return f"<annotation>\n<folder>VOC</folder>\n{objects}</annotation>\n"


def draw_coco(
    root: Path, n: int = 6, splits: Sequence[str] = ("train", "val"), seed: int = 0, year: int = 2017
) -> dict[str, Scene]:
    """Draw ``n`` images for each split as MS COCO: squares as polygons, other shapes as run lengths; scenes by id."""
    scenes: dict[str, Scene] = {}
    for split, part in _parts(n, splits, seed).items():
        images, annotations = [], []
        for number, scene in part.items():
            name = f"{number:012d}"
            scenes[name] = scene
            height, width = scene.labels.shape
            images.append({"id": number, "file_name": f"{name}.jpg", "height": height, "width": width})
            annotations += [
                coco_annotation(10 * number + t, number, 10 * t + 1, scene.labels == t + 1) for t in scene.tags
            ]
            save_image(root / f"{split}{year}" / f"{name}.jpg", scene.image)
        write_coco(root / "annotations" / f"instances_{split}{year}.json", images, annotations)
    return scenes


def coco_annotation(number: int, image: int, category: int, mask: NDArray[np.bool_], crowd: int = 0) -> dict[str, Any]:
    """One annotation of a mask: a polygon for a full rectangle, an uncompressed run-length code for the rest."""
    rows, cols = np.where(mask.any(1))[0], np.where(mask.any(0))[0]
    top, bottom, left, right = rows[0], rows[-1] + 1, cols[0], cols[-1] + 1
    outline: Any
    if mask[top:bottom, left:right].all() and not crowd:
        outline = [[float(v) for v in (left, top, right, top, right, bottom, left, bottom)]]
    else:
        outline = {"size": list(mask.shape), "counts": run_lengths(mask)}
    box = [float(v) for v in (left, top, right - left, bottom - top)]
    links = {"id": number, "image_id": image, "category_id": category, "iscrowd": crowd}
    return {**links, "segmentation": outline, "area": float(mask.sum()), "bbox": box}


def run_lengths(mask: NDArray[np.bool_]) -> list[int]:
    """COCO's uncompressed code: lengths of runs down the columns, the first of zeros."""
    flat = np.concatenate([[False], mask.T.reshape(-1)])
    ends = [0, *(np.flatnonzero(flat[1:] != flat[:-1])).tolist(), mask.size]
    return [b - a for a, b in pairwise(ends)]


def write_coco(path: Path, images: list[Any], annotations: list[Any], categories: list[Any] | None = None) -> None:
    """Write an annotation file; the categories of `CLASSES` have the ids 1, 11, 21."""
    usual = [{"id": 10 * i + 1, "name": c} for i, c in enumerate(CLASSES)]
    content = {"images": images, "annotations": annotations, "categories": usual if categories is None else categories}
    write(path, json.dumps(content))


def draw_folder(root: Path, n: int = 12, layout: str = "csv", seed: int = 0, masks: bool = True) -> dict[str, Scene]:
    """Draw ``n`` images for the reader ``folder``; scenes by id.

    Args:
        root: folder to draw in.
        n: number of images.
        layout: ``csv`` (root/tags.csv, root/images), ``subfolders`` (root/<class>, one class an image) or ``pattern``
            (root/<class>+<class>_<number>.png, to be read with ``FOLDER_PATTERN``).
        seed: of the scenes.
        masks: whether to write root/masks.
    """
    scenes, rows = {}, ["image,tags"]
    for number in range(n):
        scene = draw_scene(number, seed, (number % len(CLASSES),) if layout == "subfolders" else None)
        tags = [CLASSES[t] for t in scene.tags]
        name = f"{'+'.join(tags)}_{number:02d}" if layout == "pattern" else f"photo {number:02d}"
        place = {"csv": "images", "subfolders": tags[0], "pattern": "."}[layout]
        save_image(root / place / f"{name}.png", scene.image)
        rows.append(f"{name}.png,{';'.join(tags)}")
        scenes[name] = scene
        if masks:
            write_labels(root / "masks" / f"{name}.png", scene.labels)
    if layout == "csv":
        write(root / "tags.csv", "\n".join(rows) + "\n")
    return scenes


FOLDER_PATTERN = r"(?P<tags>[a-z+]+)_\d+"
"""The ``pattern`` setting for ``draw_folder(layout="pattern")``."""


def save_image(path: Path, pixels: Array) -> None:
    """Save pixels in the format of the path's ending, JPEG at quality 95."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=95)


def write(path: Path, text: str) -> Path:
    """Write UTF-8 text as it is (line ends too), making folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())
    return path


def _turn(number: int) -> tuple[int, ...]:
    first = number % len(CLASSES)
    return tuple(sorted({first, (first + 1) % len(CLASSES)})) if number // len(CLASSES) % 2 else (first,)


def _parts(n: int, splits: Sequence[str], seed: int) -> dict[str, dict[int, Scene]]:
    return {s: {k * n + i + 1: draw_scene(k * n + i, seed) for i in range(n)} for k, s in enumerate(splits)}


def _shape(tag: int, height: int, width: int, place: int, places: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """The pixels of one shape, somewhere in its share of the width."""
    share = width // places
    size = int(rng.integers(share // 3, share // 2 + 1))
    left = place * share + int(rng.integers(1, share - size - 1))
    top = int(rng.integers(1, height - size - 1))
    y, x = np.mgrid[:height, :width]
    inside: NDArray[np.bool_] = (x >= left) & (x < left + size) & (y >= top) & (y < top + size)
    if tag == 0:
        radius = size / 2
        inside &= (x + 0.5 - left - radius) ** 2 + (y + 0.5 - top - radius) ** 2 <= radius**2
    if tag == 2:  # a slanting band
        inside &= np.abs((x - left) - (y - top)) <= size // 4
    return inside
