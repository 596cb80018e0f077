"""The PASCAL VOC devkit as distributed (2007, 2012), and own data laid out like it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from pydantic import Field

from tag2mask.core.errors import DataError
from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset
from tag2mask.data.image_names import list_images, without_suffix
from tag2mask.data.layout import (
    CLASSES_FILE,
    columns,
    declared_classes,
    is_file,
    need_folder,
    need_root,
    no_split,
    normal,
    read_lines,
)
from tag2mask.data.readers.filebased import FileDataset, MaskFileSettings

LAYOUT = (
    "JPEGImages/, Annotations/*.xml, ImageSets/Segmentation/<split>.txt and, to evaluate, SegmentationClass/*.png "
    "(such as VOCdevkit/VOC2012)"
)
MASK_FOLDERS = ("SegmentationClass", "SegmentationClassAug")
VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
"""VOC's own classes in the order of its masks: taken where no list is declared and every object is one of them."""


class VocSettings(MaskFileSettings):
    """Settings of the reader ``voc``."""

    all_classes: tuple[str, ...] | None = Field(
        None, description="every class in the order of the mask indices; null: classes.txt in root, else VOC's 20"
    )
    masks: str | None = Field(
        None,
        description="mask folder; null: of SegmentationClass and SegmentationClassAug the one with most of the split",
    )
    allow_empty: bool = Field(False, description="an annotation without objects is a verified negative, not an error")


SETTINGS = VocSettings


@dataclass(frozen=True, slots=True)
class _Entry:
    id: str
    image: Path
    mask: Path | None


def open_split(settings: VocSettings, split: str) -> Dataset:
    """Open one split: a list in ``ImageSets/Segmentation``.

    Raises:
        DataError: a folder, list, image, annotation or mask that is missing or not as the layout says.
    """
    root = need_root(settings.root, "voc", LAYOUT)
    entries = _entries(root, split)
    if settings.masks or not any(e.mask for e in entries):
        entries = _with_masks(entries, root, settings.masks)
    names = [read_objects(root / "Annotations" / f"{e.id}.xml", settings.allow_empty) for e in entries]
    classes = declared_classes(root, settings.all_classes) or _usual_classes(names, root)
    samples = [
        Sample(e.id, columns(n, classes, str(root / "Annotations" / f"{e.id}.xml")), e.image, e.mask)
        for e, n in zip(entries, names, strict=True)
    ]
    return FileDataset("voc", split, samples, classes, settings.classes, mask_values=settings.mask_values)


def read_objects(path: Path, allow_empty: bool = False) -> tuple[str, ...]:
    """Names of the objects in one annotation, difficult ones included."""
    if not is_file(path):
        state = "is not a file" if path.exists() else "does not exist"
        raise DataError(f"annotation {path} {state}, but its image is in the split")
    try:
        parser = ElementTree.XMLParser(target=_PlainTree())
        tree = ElementTree.parse(path, parser)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except ElementTree.ParseError as error:
        line = getattr(error, "position", (1, 0))[0]
        raise DataError(f"{path}, line {line}: not valid XML ({error}). Fix it or copy it again") from error
    except (LookupError, ValueError) as error:  # an encoding that Python does not know, or that expat does not take
        raise DataError(f"{path}: not XML that can be read ({error}). Save it as UTF-8") from error
    names = tuple(normal(o.findtext("{*}name", "")) for o in tree.findall("{*}object"))
    if "" in names:
        raise DataError(f"annotation {path}: object {names.index('') + 1} has no <name>")
    if not names and not allow_empty:
        raise DataError(
            f"annotation {path} has no <object>: set data.allow_empty=true if such images truly show none of the "
            f"classes"
        )
    return names


class _PlainTree(ElementTree.TreeBuilder):
    """Refuses document types, and with them entities that could expand without end or name other files."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ElementTree.ParseError(f"document type '{name}' is not allowed")


def _entries(root: Path, split: str) -> list[_Entry]:
    lists = need_folder(root, "ImageSets/Segmentation", LAYOUT)
    path = lists / f"{split}.txt"
    if path.is_dir():
        raise DataError(f"split list {path} is a folder: expected a text file with one id a line")
    if not is_file(path):
        raise no_split(split, (p.stem for p in lists.glob("*.txt")), lists)
    images = list_images(need_folder(root, "JPEGImages", LAYOUT))
    lines = [(number, line.split()) for number, line in read_lines(path)]
    entries = [_entry(words, images, root, f"{path}, line {number}") for number, words in lines]
    absent = [e.image for e in entries if not is_file(e.image)]
    if absent:
        raise DataError(
            f"split {path} names {len(absent)} of {len(entries)} images that do not exist, first {absent[0]}"
        )
    return entries


def _entry(words: Sequence[str], images: dict[str, Path], root: Path, where: str) -> _Entry:
    """One line of a list: an id, or (as lists made for SBD have it) the paths of image and mask from the root."""
    if len(words) == 1:
        name = without_suffix(words[0])
        _refuse_climbing(name, where)
        return _Entry(name, images.get(name, root / "JPEGImages" / f"{name}.jpg"), None)
    if len(words) > 2 or "/" not in words[1]:
        raise DataError(f"{where}: '{' '.join(words)}' is neither one id nor the paths of an image and its mask")
    for word in words:
        _refuse_climbing(word, where)
    image, mask = (root / word.lstrip("/") for word in words)
    if not is_file(mask):
        raise DataError(f"{where}: mask {mask} does not exist")
    return _Entry(normal(image.stem), image, mask)


def _refuse_climbing(name: str, where: str) -> None:
    if ".." in Path(name).parts:
        raise DataError(f"{where}: '{name}' leads out of data.root; '..' is not allowed")


def _with_masks(entries: list[_Entry], root: Path, folder: str | None) -> list[_Entry]:
    """Masks by id from one folder: never from two, because SBD's lack VOC's rim of ignored pixels."""
    if folder is not None:
        masks = list_images(need_folder(root, folder, "the masks that data.masks names"))
    else:
        found = [list_images(root / f) for f in MASK_FOLDERS if (root / f).is_dir()]
        masks = max(found, key=lambda m: sum(e.id in m for e in entries), default={})
    return [_Entry(e.id, e.image, masks.get(e.id)) for e in entries]


def _usual_classes(names: Iterable[Iterable[str]], root: Path) -> tuple[str, ...]:
    strange = sorted({n for objects in names for n in objects} - set(VOC_CLASSES))
    if strange:
        raise DataError(
            f"objects {', '.join(map(repr, strange[:5]))} are not among VOC's 20, so the order of the mask indices is "
            f"not known: write every class, one a line, to {root / CLASSES_FILE} or set data.all_classes=[…]"
        )
    return VOC_CLASSES
