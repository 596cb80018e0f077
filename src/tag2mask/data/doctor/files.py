"""Checks files for the doctor: those that cannot be read, names that clash, pixels that look wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tag2mask.core.progress import progress
from tag2mask.data.base import DataSettings, Finding
from tag2mask.data.image_names import IMAGE_SUFFIXES
from tag2mask.data.images import few_levels, read_image
from tag2mask.data.layout import is_ours

DEPTH = 3
"""Levels of folders searched below a root: root/images/class/x.jpg has two."""

T = TypeVar("T")
R = TypeVar("R")


def each(do: Callable[[T], R], items: Sequence[T], what: str, workers: int, quiet: bool) -> list[R]:
    """``do`` for every item in threads, in order, with progress."""
    results = []
    with progress(what, len(items), quiet) as counter, ThreadPoolExecutor(max(1, workers)) as pool:
        for result in pool.map(do, items):
            results.append(result)
            counter.advance()
    return results


def image_files(folder: Path, depth: int = DEPTH) -> Iterator[Path]:
    """Image files in ``folder`` and the folders below it, hidden ones left out."""
    try:
        paths = sorted(folder.iterdir())
    except OSError:
        yield folder  # so that reading it says why
        return
    for path in paths:
        if path.name.startswith("."):
            continue
        if path.is_dir() and depth and not is_ours(path):
            yield from image_files(path, depth - 1)
        elif path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
            yield path


def plain(error: Exception) -> str:
    """The error's text without the advice to call the doctor, who is here."""
    return str(error).split("`tag2mask doctor`")[0].rstrip(" ;.")


def siblings(images: Iterable[Path | None]) -> list[Path]:
    """The image files in the folders where the samples lie."""
    folders = sorted({image.parent for image in images if image is not None})
    return [path for folder in folders for path in image_files(folder, 0)]


def broken(path: Path) -> Finding | None:
    """The finding for an image file that cannot be read, or None."""
    try:
        read_image(path)
    except Exception as error:  # the doctor lives through anything a file can do to a reader
        return Finding("image", "error", (path.stem,), plain(error), "Replace or remove the file")
    return None


def twin_stems(paths: Iterable[Path]) -> list[Finding]:
    """Files of one folder that agree in all but their ending, or in all but upper and lower case."""
    groups: dict[tuple[Path, str], list[Path]] = {}
    for path in sorted(paths):
        groups.setdefault((path.parent, path.stem.casefold()), []).append(path)
    return [
        Finding(
            "stem", "warning", tuple(sorted({p.stem for p in twins})),
            f"{folder} holds {', '.join(p.name for p in twins)}: one name before the ending",
            "An id is a name without its ending: rename or remove all but one",
        )
        for (folder, _), twins in groups.items() if len(twins) > 1
    ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Pixels:
    """What one image and its mask hold.

    Attributes:
        id: the sample's.
        shown: class columns in the mask; None without a mask that can be read.
        ignored: whether the mask holds 255.
        grey: lowest and highest value of a photo of 16 bits or more; None for all others.
    """

    id: str
    shown: frozenset[int] | None = None
    ignored: bool = False
    grey: tuple[int, int] | None = None


def pixel_findings(images: Sequence[Pixels], settings: DataSettings) -> list[Finding]:
    """Warnings about all images together; settings say whether masks of other classes were meant to become 255."""
    return [*_no_class([i for i in images if i.shown is not None], settings), *_dim(images)]


def _no_class(masks: Sequence[Pixels], settings: DataSettings) -> list[Finding]:
    """Masks of which none shows a class: mostly those that say 255 for the object."""
    if not masks or any(mask.shown for mask in masks):
        return []
    ids = tuple(sorted(mask.id for mask in masks))
    nothing = "As it is, 255 is ignored, no class is in the ground truth, and no mIoU can be measured"
    if any(mask.ignored for mask in masks) and settings.classes is None:
        text = "the masks hold 0 and 255 only: if 255 is your object, write 1, or give 'data.mask_values={255: 1}'"
        return [Finding("mask", "warning", ids, text, nothing)]
    text = f"none of the {len(masks)} masks shows a class"
    return [Finding("mask", "warning", ids, text, "No mIoU can be measured on them: check data.classes and the masks")]


def _dim(images: Sequence[Pixels]) -> list[Finding]:
    """Photos of 10, 12 or 14 bits in files of 16, and numbers of 8 bits in files of 32."""
    grey = [image for image in images if image.grey is not None]
    dim = [(image.grey, image.id) for image in grey if image.grey is not None and few_levels(image.grey[1])]
    if not dim:
        return []
    (_, highest), name = max(dim)
    text = f"{len(dim)} of {len(grey)} photos of 16 bits or more are nearly black: '{name}' {few_levels(highest)}"
    remedy = "Stretch their values to 0..65535 (12 bits: multiply by 16) or store them with 8 bits"
    return [Finding("image", "warning", tuple(sorted(i for _, i in dim)), text, remedy)]
