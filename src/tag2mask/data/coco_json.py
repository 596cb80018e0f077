"""The JSON of COCO's instance annotations as small frozen values, and the outline of one as a mask."""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tag2mask.core.errors import DataError
from tag2mask.data.layout import check_classes, check_ids, normal

_SHORTEST_POLYGON = 6  # three points; pycocotools takes four numbers for a box


@dataclass(frozen=True, slots=True)
class Annotation:
    """One annotated object or crowd.

    Attributes:
        id: as in the file, for error texts.
        column: class column in the order of the category ids.
        crowd: whether it stands for a group of objects.
        outline: polygons [x0, y0, x1, y1, …], a run-length code, or empty where there is none.
    """

    id: int
    column: int
    crowd: bool
    outline: Any


@dataclass(frozen=True, slots=True)
class AnnotatedImage:
    """One image: file name, size in pixels, annotations in file order."""

    file: str
    height: int
    width: int
    annotations: tuple[Annotation, ...]


@dataclass(frozen=True, slots=True)
class Instances:
    """One annotation file.

    Attributes:
        classes: category names in the order of their ids.
        images: by id (file name without ending), in file order.
        has_outlines: whether any annotation has an outline.
    """

    classes: tuple[str, ...]
    images: Mapping[str, AnnotatedImage]
    has_outlines: bool


def read_instances(path: Path) -> Instances:
    """Read an annotation file.

    Raises:
        DataError: it is no JSON, lacks a part of the format, or refers to an image or category that it lacks.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"), object_hook=_compact)
        categories = {int(c["id"]): str(c["name"]) for c in content["categories"]}
        images = {int(i["id"]): i for i in content["images"]}
        lost = len(content["images"]) + len(content["categories"]) - len(images) - len(categories)
        if lost:
            raise DataError(f"{path}: {lost} images or categories share their id with another")
        of_image = _by_image(content["annotations"], images, sorted(categories), path)
        found = [_image(i, tuple(of_image[k])) for k, i in images.items()]
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {error.lineno}: no valid JSON ({error.msg}). Copy it again") from error
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is not in COCO's instance format: {type(error).__name__} {error}") from error
    ids = [normal(PurePosixPath(i.file).stem) for i in found]
    check_ids(ids)
    classes = check_classes((categories[c] for c in sorted(categories)), str(path))
    outlines = any(a.outline for i in found for a in i.annotations)
    return Instances(classes, dict(zip(ids, found, strict=True)), outlines)


def decode(annotation: Annotation, height: int, width: int, source: Path) -> NDArray[np.bool_]:
    """The pixels of an annotation as (height, width), by pycocotools' rasteriser.

    Raises:
        DataError: the outline is missing, malformed, or of another image size.
    """
    from pycocotools import mask as coco_mask

    outline = annotation.outline
    if isinstance(outline, list) and outline and all(_is_polygon(p) for p in outline):
        runs = coco_mask.merge(coco_mask.frPyObjects([list(p) for p in outline], height, width))
    elif _is_run_length(outline, height, width):
        runs = coco_mask.frPyObjects(outline, height, width) if isinstance(outline["counts"], list) else outline
    else:
        raise DataError(
            f"{source}: annotation {annotation.id} has no valid outline for {width} x {height} pixels: "
            f"expected polygons of at least three points, or a run-length code of that size"
        )
    mask: NDArray[np.uint8] = coco_mask.decode(runs)
    return mask.astype(np.bool_)


def _compact(value: dict[str, Any]) -> dict[str, Any]:
    """Store polygons as plain doubles while the file is read: a quarter of the memory of lists of floats."""
    outline = value.get("segmentation")
    if isinstance(outline, list):
        value["segmentation"] = [_numbers(p) for p in outline]
    return value


def _numbers(polygon: Any) -> Any:
    try:
        return array("d", polygon)
    except TypeError:
        return polygon  # refused by `decode`, should the truth be asked for


def _by_image(
    annotations: list[dict[str, Any]], images: Mapping[int, Any], categories: list[int], path: Path
) -> dict[int, list[Annotation]]:
    found: dict[int, list[Annotation]] = {k: [] for k in images}
    column = {c: i for i, c in enumerate(categories)}
    for number, a in enumerate(annotations):
        name, image, category = int(a.get("id", number)), int(a["image_id"]), int(a["category_id"])
        for what, key, known in (("image", image, found), ("category", category, column)):
            if key not in known:
                raise DataError(f"{path}: annotation {name} refers to {what} {key}, which the file lacks")
        found[image].append(Annotation(name, column[category], bool(a.get("iscrowd", 0)), a.get("segmentation") or ()))
    return found


def _image(image: dict[str, Any], annotations: tuple[Annotation, ...]) -> AnnotatedImage:
    file = str(image["file_name"])
    if file.startswith("/") or ".." in PurePosixPath(file).parts:
        raise DataError(f"image file name '{file}' leads out of the image folder: no '..', no leading '/'")
    return AnnotatedImage(file, int(image["height"]), int(image["width"]), annotations)


def _is_polygon(value: Any) -> bool:
    return isinstance(value, array) and len(value) >= _SHORTEST_POLYGON and len(value) % 2 == 0


def _is_run_length(value: Any, height: int, width: int) -> bool:
    if not isinstance(value, dict) or value.get("size") != [height, width]:
        return False
    counts = value.get("counts")
    if isinstance(counts, list):
        return all(isinstance(c, int) and c >= 0 for c in counts) and sum(counts) == height * width
    return isinstance(counts, str)
