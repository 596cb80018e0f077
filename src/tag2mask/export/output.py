"""The output of an export: label images as a writer is given them, and the folder, which is whole or empty.

The images are read one by one, their small parts dropped, counted, and photos copied.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tag2mask.core.errors import DataError, StageError
from tag2mask.core.files import cannot_write
from tag2mask.core.names import is_utf8, shown
from tag2mask.core.progress import Counter
from tag2mask.core.stopping import on_stop
from tag2mask.data.base import Labels
from tag2mask.export.formats import LabelledImage, Masked, Masks
from tag2mask.export.instances import Instance, count_holes, find_instances


@dataclass(slots=True)
class Counts:
    """What went into an export: label images, instances, those dropped as too small, and those with holes."""

    images: int = 0
    instances: int = 0
    dropped: int = 0
    with_holes: int = 0


def labelled(
    masks: Masks, counts: Counts, counter: Counter, *, min_area: int, holes: bool, photos: Path | None
) -> Iterator[LabelledImage]:
    """Read the images of an export one by one, counting up ``counts`` and ``counter``.

    Components of fewer pixels than ``min_area`` become background; instances with holes are counted if ``holes``;
    photos are copied to the folder ``photos``, None: not at all.
    """
    for image in masks.images:
        labels = image.labels()
        every = find_instances(labels)
        instances = [i for i in every if i.area >= min_area]
        if len(instances) < len(every):
            labels = _without(labels, [i for i in every if i.area < min_area])
        counts.images += 1
        counts.instances += len(instances)
        counts.dropped += len(every) - len(instances)
        counts.with_holes += sum(count_holes(i.mask) > 0 for i in instances) if holes else 0
        file = _file(image, masks.photos) if photos is None else _copy(image, photos)
        yield LabelledImage(image.id, file, image.photo, labels, tuple(instances))
        counter.advance()


def check_names(masks: Masks, copied: bool) -> None:
    """Check that the names of masks and photos can be written; photos that are copied are named after the masks."""
    for image in masks.images:
        for name in (image.id, image.id if copied else _file(image, masks.photos)):
            if not is_utf8(name):
                raise DataError(f"the file name '{shown(name)}' is not UTF-8, but what an export writes is: rename it")


def _without(labels: Labels, instances: list[Instance]) -> Labels:
    """The labels with some instances turned into background."""
    labels = labels.copy()
    for instance in instances:
        left, top, right, bottom = instance.box
        labels[top:bottom, left:right][instance.mask] = 0
    return labels


def _file(image: Masked, photos: Path | None) -> str:
    """Name of the photo where it lies, or one after the mask."""
    if image.photo is None or photos is None:
        return f"{image.id}.png"
    return image.photo.absolute().relative_to(photos).as_posix()


def _copy(image: Masked, folder: Path) -> str:
    """Copy the photo as it is, or save the drawn one; returns its name, which is the id with the photo's ending."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{image.id}{image.photo.suffix if image.photo else '.png'}"
    if image.photo is not None:
        shutil.copyfile(image.photo, folder / name)
    elif image.draw is not None:
        image.draw().save(folder / name, format="PNG")
    return name


_BEGUN, _END = ".tag2mask-export.", ".tmp"


def check_target(out: Path) -> None:
    """Check that a folder is free for an export."""
    if out.exists() and not out.is_dir():
        raise StageError(f"--out {out} is a file; name a new folder")
    names = sorted(p.name for p in out.iterdir() if not _is_begun(p.name)) if out.is_dir() else []
    if names:
        raise StageError(
            f"--out {out} holds other things ({', '.join(names[:3])}); nothing was written. Name a new or empty folder"
        )


@contextmanager
def atomic_folder(out: Path) -> Iterator[Path]:
    """Give a temporary folder in ``out``; on success what is in it moves to ``out``, on failure it is removed.

    What a killed export left there is removed first.
    """
    check_target(out)
    temporary = out / f"{_BEGUN}{os.getpid()}{_END}"
    made = not out.exists()

    def remove() -> None:
        shutil.rmtree(temporary, ignore_errors=True)
        if made:
            with suppress(OSError):  # holds the export, or was never made
                out.rmdir()

    try:
        with on_stop(remove):
            temporary.mkdir(parents=True, exist_ok=True)
            for left in (p for p in out.iterdir() if p != temporary):
                shutil.rmtree(left)
            yield temporary
            for path in sorted(temporary.iterdir()):
                path.rename(out / path.name)
    except OSError as error:
        raise cannot_write(Path(error.filename or out), error) from error
    finally:
        remove()


def _is_begun(name: str) -> bool:
    return name.startswith(_BEGUN) and name.endswith(_END)
