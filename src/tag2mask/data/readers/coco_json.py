"""The JSON of COCO's instance annotations as small frozen values; whatever is in the file, it is checked here, once."""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tag2mask.core.errors import DataError
from tag2mask.core.files import need_regular
from tag2mask.core.names import shortened
from tag2mask.data.image_names import check_ids
from tag2mask.data.layout import check_classes, normal

_PARTS = ("images", "annotations", "categories")
_CROWD = {"": False, "0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}
_WHOLE = re.compile(r"-?[0-9]{1,18}")
_LARGEST = 2**53
"""Ids and sizes stay below it: larger ones are no longer distinguished by programs that read JSON as floating point."""
_SHOWN = 60
"""Characters of a value in an error text."""


@dataclass(frozen=True, slots=True)
class Annotation:
    """One annotated object or crowd.

    Attributes:
        id: as in the file, for error texts.
        column: class column in the order of the category ids.
        crowd: whether it stands for a group of objects.
        outline: polygons [x0, y0, x1, y1, …], a run-length code, or empty where there is none; not checked yet.
    """

    id: int
    column: int
    crowd: bool
    outline: Any


@dataclass(frozen=True, slots=True)
class AnnotatedImage:
    """One image: file name with ``/`` between folders, size in pixels as claimed, annotations in file order."""

    file: str
    height: int
    width: int
    annotations: tuple[Annotation, ...]


@dataclass(frozen=True, slots=True)
class Instances:
    """One annotation file: category names in the order of their ids, and images by id (file name without ending)."""

    classes: tuple[str, ...]
    images: Mapping[str, AnnotatedImage]
    has_outlines: bool


def read_instances(path: Path) -> Instances:
    """Read an annotation file."""
    content = _read(path)
    try:
        images, annotations, categories = (_objects(content, name) for name in _PARTS)
        names = {_whole(c, "id", f"category {n}"): _text(c, "name", f"category {n}") for n, c in enumerate(categories)}
        by_id = {_whole(i, "id", f"image {n}"): i for n, i in enumerate(images)}
        lost = len(images) + len(categories) - len(by_id) - len(names)
        if lost:
            raise _Wrong(f"{lost} images or categories share their id with another")
        of_image = _by_image(annotations, by_id, sorted(names))
        found = [_image(i, k, tuple(of_image[k])) for k, i in by_id.items()]
    except _Wrong as error:
        raise DataError(f"{path} is not in COCO's instance format: {error}. Correct it, or copy it again") from error
    ids = [normal(PurePosixPath(i.file).stem) for i in found]
    check_ids(ids)
    classes = check_classes((names[c] for c in sorted(names)), str(path))
    outlines = any(a.outline for i in found for a in i.annotations)
    return Instances(classes, dict(zip(ids, found, strict=True)), outlines)


class _Wrong(ValueError):
    """A value that the format does not have in this place; the text says where."""


def _read(path: Path) -> Any:
    try:
        return json.loads(need_regular(path).read_text(encoding="utf-8-sig"), object_hook=_compact)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {error.lineno}: not valid JSON ({error.msg}). Copy it again") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text, so not valid JSON. Copy it again") from error
    except ValueError as error:  # Python reads at most 4300 digits
        raise DataError(f"{path}: not valid JSON (a number has thousands of digits). Copy it again") from error
    except RecursionError as error:
        raise DataError(f"{path}: not valid JSON (its lists are nested too deeply). Copy it again") from error


def _compact(value: dict[str, Any]) -> dict[str, Any]:
    """Store polygons as plain doubles while the file is read: a quarter of the memory of lists of floats."""
    outline = value.get("segmentation")
    if isinstance(outline, list):
        value["segmentation"] = [_numbers(p) for p in outline]
    return value


def _numbers(polygon: Any) -> Any:
    try:
        return array("d", polygon)
    except (TypeError, OverflowError):
        return polygon  # refused by `outline_of`, should the ground truth be read


def _objects(content: Any, part: str) -> list[dict[str, Any]]:
    """One part of the file: a list of objects."""
    if not isinstance(content, dict) or part not in content:
        raise _Wrong(f"it has no '{part}'; expected an object with {', '.join(_PARTS)}")
    found = content[part]
    if not isinstance(found, list):
        raise _Wrong(f"'{part}' is {_brief(found)}, expected a list")
    odd = next((n for n, value in enumerate(found) if not isinstance(value, dict)), None)
    if odd is not None:
        raise _Wrong(f"'{part}', number {odd}, is {_brief(found[odd])}, expected an object")
    return found


def _by_image(
    annotations: Sequence[dict[str, Any]], images: Mapping[int, Any], categories: Sequence[int]
) -> dict[int, list[Annotation]]:
    found: dict[int, list[Annotation]] = {k: [] for k in images}
    column = {c: i for i, c in enumerate(categories)}
    for number, a in enumerate(annotations):
        name = _whole(a, "id", f"annotation {number}") if "id" in a else number
        image, category = (_whole(a, key, f"annotation {name}") for key in ("image_id", "category_id"))
        for what, key, known in (("image", image, found), ("category", category, column)):
            if key not in known:
                raise _Wrong(f"annotation {name} refers to {what} {key}, which the file lacks")
        found[image].append(Annotation(name, column[category], _crowd(a, name), a.get("segmentation") or ()))
    return found


def _image(image: dict[str, Any], number: int, annotations: tuple[Annotation, ...]) -> AnnotatedImage:
    where = f"image {number}"
    file = _text(image, "file_name", where).replace("\\", "/")  # as programs on Windows write it
    if file.startswith("/") or re.match("[A-Za-z]:/", file) or ".." in PurePosixPath(file).parts:
        raise _Wrong(f"image file name '{shortened(file)}' leads out of the image folder: no '..', no leading '/'")
    return AnnotatedImage(file, _whole(image, "height", where), _whole(image, "width", where), annotations)


def _whole(entry: dict[str, Any], key: str, where: str) -> int:
    """A whole number, be it written as 7, 7.0 or "7"."""
    value: Any = entry.get(key)
    if type(value) is not int:
        text = isinstance(value, str) and _WHOLE.fullmatch(value.strip())
        if not text and not (isinstance(value, float) and value.is_integer()):  # false for NaN and infinity
            raise _Wrong(f"{where}: {key} is {_brief(value)}, expected a whole number")
    number = int(value)
    if abs(number) > _LARGEST:
        raise _Wrong(f"{where}: {key} is {_brief(value)}, expected a whole number of up to 15 digits")
    return number


def _text(entry: dict[str, Any], key: str, where: str) -> str:
    value = entry.get(key)
    if type(value) is int and abs(value) <= _LARGEST:
        return str(value)
    if not isinstance(value, str):
        raise _Wrong(f"{where}: {key} is {_brief(value)}, expected text")
    return value


def _crowd(annotation: dict[str, Any], name: int) -> bool:
    """``iscrowd``, be it written as a number, a boolean or text; false where it is left out."""
    value = annotation.get("iscrowd")
    if value is None:
        return False
    found = _CROWD.get(str(value).strip().lower()) if isinstance(value, bool | int | float | str) else None
    if found is None:
        raise _Wrong(f"annotation {name}: iscrowd is {_brief(value)}, expected 0 or 1")
    return found


def _brief(value: Any) -> str:
    """A value of JSON in few words, whatever it is."""
    kinds = {dict: "an object", list: "a list", type(None): "missing or null"}
    if type(value) in kinds:
        return kinds[type(value)]
    return f"'{shortened(value, _SHOWN)}'" if isinstance(value, str) else shortened(value, _SHOWN)
