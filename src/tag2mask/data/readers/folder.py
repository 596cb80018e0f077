"""A folder of one's own images: tags from a table, from sub-folders, or from the file names."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from tag2mask.core.errors import DataError, unknown
from tag2mask.core.progress import LOG
from tag2mask.core.types import IGNORE, Sample
from tag2mask.data.base import Dataset, Finding
from tag2mask.data.image_names import IMAGE_SUFFIXES, ImageNames, check_ids, image_id, list_images
from tag2mask.data.layout import (
    check_classes,
    columns,
    declared_classes,
    files_in,
    need_folder,
    need_root,
    no_split,
    normal,
    read_lines,
)
from tag2mask.data.mask_files import ARRAY_SUFFIX, Palette
from tag2mask.data.readers.filebased import FileDataset, MaskFileSettings
from tag2mask.data.readers.tag_sources import LAYOUT, Tagged, from_names, from_subfolders, from_table, no_images
from tag2mask.data.tag_names import several_in

_BLACK, _CREAM = (0, 0, 0), (224, 224, 192)  # background and void (ignored), as VOC colours them
Colour = tuple[int, int, int]


class FolderSettings(MaskFileSettings):
    """Settings of the reader ``folder``; paths are relative to ``root``."""

    infer: str = Field("all", description="split whose images get maps and masks")
    layout: Literal["auto", "csv", "subfolders", "pattern"] = Field(
        "auto",
        description="where the tags are; auto: csv if tags is set or tags.csv there, pattern if set, else subfolders",
    )
    tags: Path | None = Field(None, description="CSV file with the columns image,tags; null: tags.csv")
    pattern: str | None = Field(
        None, description="regular expression for whole file names without ending; its group 'tags' holds the tags"
    )
    separator: tuple[str, ...] | None = Field(
        None,
        description="what parts the tags of an image, or a list of such; null: ';' in a table, any of ';,+' in file "
        "names, nothing in the names of sub-folders",
    )
    fold_case: bool = Field(
        False, description="'Cat' and 'cat' are one class, spelled as declared, or in lower case where none is declared"
    )
    images: str | None = Field(None, description="folder of the images; null: images where there is one, else root")
    masks: str | None = Field(None, description="folder of the masks; null: masks where there is one")
    palette: dict[str, Colour] | None = Field(
        None, description="colour of each class in masks stored in colour, such as {cat: [255, 0, 0]}"
    )
    all_classes: tuple[str, ...] | None = Field(
        None,
        description="every class in the order of the mask indices; null: classes.txt in root, else the tags sorted",
    )
    val_fraction: float = Field(0.1, gt=0, lt=1, description="part of the images in 'val' where root has no splits/")

    @field_validator("separator", mode="before")
    @classmethod
    def _pieces(cls, value: Any) -> Any:
        given = [value] if isinstance(value, str) else value
        if given is None or (
            isinstance(given, list | tuple) and given and all(s and isinstance(s, str) for s in given)
        ):
            return given
        raise ValueError("expected what stands between two tags, in quotes: \"data.separator=','\", or a list of such")

    @field_validator("pattern")
    @classmethod
    def _has_group(cls, value: str | None) -> str | None:
        try:
            if value is not None and "tags" not in re.compile(value).groupindex:
                raise ValueError("expected a group (?P<tags>…)")
        except (re.error, RecursionError, OverflowError) as error:
            raise ValueError(f"not a regular expression: {error}") from error
        return value


SETTINGS = FolderSettings


def open_split(settings: FolderSettings, split: str) -> Dataset:
    """Open one split: a list in ``splits/``, or ``all``, ``train``, ``val``.

    Raises:
        DataError: images, tags, masks or splits that are missing or do not fit together.
    """
    root = need_root(settings.root, "folder", LAYOUT)
    tagged = _tagged(settings, root)
    check_ids(tagged.images)
    declared = declared_classes(root, settings.all_classes)
    spelling = _spelling(declared, tagged.names) if settings.fold_case else {}
    if settings.fold_case:
        tagged = tagged.with_names({n: spelling.get(n.lower(), n) for n in tagged.names})
        settings = _respelled(settings, spelling)
    classes = declared or _found_classes(tagged, settings, root)
    palette = None if settings.palette is None else label_of_colour(settings.palette, classes)
    masks, unread = _masks(settings, root, tagged.images)
    chosen = _split(root, split, tagged, settings.val_fraction)
    samples = [
        Sample(i, _columns(tagged.tags[i], classes, path), path, masks.get(i)) for i, path in tagged.images.items()
    ]
    used = [s for s in samples if s.id in chosen]
    dataset = FileDataset("folder", split, used, classes, settings.classes, palette, settings.mask_values)
    dataset.findings = (*tagged.findings, *unread)
    return dataset


def _spelling(declared: Sequence[str] | None, found: Collection[str]) -> dict[str, str]:
    """From a name in lower case to the class that it stands for."""
    if declared is None:
        return {name.lower(): name.lower() for name in found}
    several = [name for name, count in Counter(c.lower() for c in declared).items() if count > 1]
    if several:
        twins = ", ".join(c for c in declared if c.lower() == several[0])
        raise DataError(
            f"data.fold_case makes the classes {twins} one: take all but one out, or set data.fold_case=false"
        )
    return {c.lower(): c for c in declared}


def _respelled(settings: FolderSettings, spelling: Mapping[str, str]) -> FolderSettings:
    """The settings with their class names spelled as the classes are."""
    classes, palette = settings.classes, settings.palette
    respelled = {
        "classes": classes and tuple(spelling.get(normal(c).lower(), c) for c in classes),
        "palette": palette and {spelling.get(normal(c).lower(), c): colour for c, colour in palette.items()},
    }
    return settings.model_copy(update=respelled)


def _columns(names: Sequence[str], classes: tuple[str, ...], path: Path) -> tuple[int, ...]:
    """The columns of an image's tags; says it where an unknown one looks like several."""
    for name in names:
        separator = None if name in classes else several_in(name, classes)
        if separator is not None:
            raise DataError(
                f"image {path}: unknown class '{name}', whose parts are known: if these are several tags, set "
                f"\"data.separator='{separator}'\""
            )
    return columns(names, classes, f"image {path}")


def label_of_colour(palette: Mapping[str, Colour], classes: tuple[str, ...]) -> Palette:
    """The label of each colour; ``background`` is black and ``void`` VOC's cream unless ``palette`` says otherwise."""
    labels = {"background": 0, "void": IGNORE, **{c: i + 1 for i, c in enumerate(classes)}}
    found: dict[Colour, int] = {}
    colours = {"background": _BLACK, "void": _CREAM, **{normal(n): c for n, c in palette.items()}}
    for name, colour in colours.items():
        if name not in labels:
            raise DataError(f"data.palette: {unknown('class', name, labels)}")
        if not all(0 <= v <= 255 for v in colour):
            raise DataError(f"data.palette: '{name}' has {list(colour)}, expected three numbers in 0..255")
        if found.setdefault(colour, labels[name]) != labels[name]:
            raise DataError(f"data.palette: '{name}' has colour {list(colour)}, which another name has already")
    return found


def validation_part(ids: Collection[str], fraction: float) -> set[str]:
    """The ids that make up ``val``: those whose SHA-256, read as a number in [0, 1), is below ``fraction``.

    An id falls on the same side whatever other images there are, except that of two or more images at least one is in
    each part. A single image is never held out.
    """
    place = {i: int(hashlib.sha256(i.encode()).hexdigest(), 16) / 2**256 for i in ids}
    ordered = sorted(ids, key=lambda i: (place[i], i))
    below = sum(p < fraction for p in place.values())
    return set(ordered[: min(max(below, 1), len(ordered) - 1)])


def _tagged(settings: FolderSettings, root: Path) -> Tagged:
    base = need_folder(root, settings.images or ("images" if (root / "images").is_dir() else "."), LAYOUT)
    layout, separators = _layout(settings, root), settings.separator
    others = (root / (settings.masks or "masks"), root / "splits")
    if layout == "subfolders":
        return from_subfolders(base, others, separators or ())
    whole = settings.images is not None or base != root  # of a root that holds more than images only what lies in it
    images = list_images(base, below=whole, left_out=others)
    ignored = () if whole else _not_read(base, others, layout)
    if not images:
        raise DataError(f"{ignored[0].text}. {ignored[0].remedy}") if ignored else no_images(base)
    if layout == "csv":
        tagged = from_table(_table(settings, root), images, separators)
    else:
        tagged = from_names(settings.pattern, images, separators)
    return replace(tagged, findings=(*tagged.findings, *ignored))


def _not_read(root: Path, others: Collection[Path], layout: str) -> tuple[Finding, ...]:
    """What is said of images in the sub-folders of a root without ``images``; a table says which images are meant."""
    files = files_in(root, below=True, left_out=others)
    inner = [p for p in files if p.suffix.lower() in IMAGE_SUFFIXES and p.parent != root]
    if not inner:
        return ()
    text = f"{len(inner)} images in sub-folders of {root} are not read, first {inner[0].relative_to(root)}"
    severity: Literal["note", "warning"] = "note" if layout == "csv" else "warning"
    return (Finding("file", severity, (), text, "If they belong to the data, set data.images=."),)


def _layout(settings: FolderSettings, root: Path) -> str:
    if settings.layout != "auto":
        return settings.layout
    if settings.tags is not None and settings.pattern is not None:
        raise DataError("data.tags and data.pattern are both set: leave one out, or set data.layout to csv or pattern")
    if settings.pattern is not None:
        return "pattern"
    return "csv" if settings.tags is not None or (root / "tags.csv").is_file() else "subfolders"


def _table(settings: FolderSettings, root: Path) -> Path:
    """The tag table: in ``root``, else where the path leads from the working folder."""
    given = (settings.tags or Path("tags.csv")).expanduser()
    found = next((p for p in (root / given, given) if p.is_file()), None)
    if found is None:
        raise DataError(f"data.tags = {given}: neither {root / given} nor {given.absolute()} exists")
    return found


def _found_classes(tagged: Tagged, settings: FolderSettings, root: Path) -> tuple[str, ...]:
    """The names that occur, sorted. Says which of them a subset leaves out: one may be a slip of the pen."""
    if not tagged.names:
        raise DataError(f"no image in {root} has a tag: there is nothing to learn from")
    left_out = sorted(tagged.names - {normal(c) for c in settings.classes or tagged.names})
    if left_out:
        LOG.warning("data.classes leaves out the tags %s", ", ".join(left_out))
    return check_classes(sorted(tagged.names), f"the tags in {root}")


def _masks(
    settings: FolderSettings, root: Path, images: Mapping[str, Path]
) -> tuple[dict[str, Path], tuple[Finding, ...]]:
    """The mask of each image that has one, and what is said of files that are not masks."""
    if settings.masks is None and not (root / "masks").is_dir():
        return {}, ()
    folder = need_folder(root, settings.masks or "masks", "the masks that data.masks names")
    read = (*IMAGE_SUFFIXES, ARRAY_SUFFIX)
    masks = list_images(folder, below=True, suffixes=read)
    strange = [p for i, p in masks.items() if i not in images]
    if strange:
        raise DataError(
            f"{len(strange)} of {len(masks)} masks belong to no image, first {strange[0]}: "
            f"a mask has the name of its image, but for the ending, and its sub-folder if the image lies in one"
        )
    others = [p for p in files_in(folder, below=True) if p.suffix.lower() not in read]
    unread = [p for p in others if image_id(p.relative_to(folder).as_posix()) in images]
    if not unread:
        return masks, ()
    text = f"{len(unread)} files in {folder} have names of images, but are not read as masks, first {unread[0].name}"
    ids = tuple(p.name for p in unread)
    return masks, (Finding("file", "warning", ids, text, f"Masks end in {', '.join(read)}: convert them"),)


def _split(root: Path, split: str, tagged: Tagged, val_fraction: float) -> Collection[str]:
    images, lists = tagged.images, {p.stem: p for p in (root / "splits").glob("*.txt")}
    if split in lists:
        return _listed(lists[split], images)
    if split == "all":
        return images.keys()
    if not lists and split in tagged.splits:
        return tagged.splits[split]
    known = [*(lists or tagged.splits or ("train", "val"))]
    if lists or split not in known:
        raise no_split(split, {"all", *known}, root / "splits" if lists else root)
    held_out = validation_part(images.keys(), val_fraction)
    if split == "val" and not held_out:
        raise DataError(f"{root} holds a single image, which leaves none for split 'val': set data.val=null")
    return held_out if split == "val" else images.keys() - held_out


def _listed(path: Path, images: Mapping[str, Path]) -> set[str]:
    names = ImageNames(images)
    chosen: set[str] = set()
    for number, line in read_lines(path):
        name = names.find(line, f"{path}, line {number}")
        if name in chosen:
            raise DataError(f"{path}, line {number}: image '{name}' is listed twice")
        chosen.add(name)
    return chosen
