"""The folder that `tag2mask predict` writes: palette masks, overlays, class names, and what made them.

``DIR/masks/<folders>/<name>.png`` and ``DIR/overlays/<folders>/<name>.jpg`` keep the photos' folders and names;
``DIR/classes.txt`` names the classes in the order of the indices 1, 2, …; ``DIR/predictions.json`` names the network
and the options, ``DIR/sources.json`` the photo of each mask. Each mask carries a key of network, options and photo:
whether it is done is known without making it.
"""

from __future__ import annotations

import errno
import os
import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tag2mask.core.errors import DataError, StageError
from tag2mask.core.files import atomic_path, file_hash, read_json, value_hash, write_json, write_text
from tag2mask.core.locks import at_work, is_leftover
from tag2mask.core.names import is_utf8
from tag2mask.core.palette import labels_key, read_labels, write_labels
from tag2mask.data.layout import CLASSES_FILE
from tag2mask.data.split_views import resized_labels, shrunk_size
from tag2mask.report.pictures import label_overlay
from tag2mask.segmentation.predict.find_photos import Source
from tag2mask.segmentation.predict.labeller import shrunk_photo
from tag2mask.segmentation.predict.options import PredictOptions
from tag2mask.segmentation.predict.tiles import Picture

MANIFEST, SOURCES, MASKS, OVERLAYS = "predictions.json", "sources.json", "masks", "overlays"
OVERLAY_SIDE = 2048
"""Longest side of an overlay in pixels."""
_SCHEMA = 1


class MasksFolder:
    """The output folder of one network, known by the SHA-256 of its file, with one set of options."""

    def __init__(
        self, path: Path, network: str, classes: Sequence[str], options: PredictOptions, overlay: bool
    ) -> None:
        self.path, self.overlay = path, overlay
        self._about: dict[str, Any] = {
            "schema": _SCHEMA, "network": network, "classes": list(classes), "choices": options.text(),
        }  # fmt: skip
        self._key = value_hash(self._about)

    @property
    def identity(self) -> str:
        """Hash of the network and the options."""
        return self._key

    def prepare(self) -> None:
        """Make the folder, or accept the one that the same network and options have begun."""
        if self.path.exists() and not self.path.is_dir():
            raise StageError(f"--out {self.path} is a file; name a new folder")
        names = sorted(p.name for p in self.path.iterdir()) if self.path.is_dir() else []
        names = [name for name in names if not is_leftover(name)]  # left where the first of its files was begun
        found = ", ".join(names[:3])
        if MANIFEST in names:
            self._check(_read(self.path / MANIFEST))
        elif names:
            raise StageError(
                f"--out {self.path} holds other things ({found}) and no {MANIFEST}; nothing was written. "
                "Name a new folder"
            )
        write_json(self.path / MANIFEST, self._about)  # first: by it the folder is known as begun
        write_text(self.path / CLASSES_FILE, "".join(f"{name}\n" for name in self._about["classes"]))
        held = ExitStack()
        held.enter_context(at_work(self.path))
        weakref.finalize(self, held.close)

    def claim(self, sources: Sequence[Source]) -> None:
        """Note which photo each mask is of, so that photos of another folder do not replace masks of the same names.

        Refuses where a mask was made from another photo. Photos that were moved (the one noted is gone), that changed
        in place, or that are the same in both places may; masks without a note are taken as of the photos given.
        """
        path = self.path / SOURCES
        noted: Any = _read(path) if os.path.lexists(path) else {}
        if not isinstance(noted, dict) or not all(isinstance(v, str) and is_utf8(k + v) for k, v in noted.items()):
            raise StageError(f"{path} is not what tag2mask wrote: remove it, or name another folder with --out")
        for source in (source for source in sources if source.problem is None):
            before = noted.get(str(source.name))
            if before is not None and self._of_another(source, Path(before)):
                raise StageError(
                    f"--out {self.path} holds the mask {MASKS}/{source.name}.png of {before}, which that of "
                    f"{source.path} would replace; nothing was written. Choose another --out"
                )
        write_json(path, noted | {str(source.name): str(source.path) for source in sources if source.problem is None})

    def _of_another(self, source: Source, before: Path) -> bool:
        """Whether there is a mask of another photo, ``before``, which differs from the source."""
        if before == source.path:
            return False
        try:
            found = labels_key(self.mask(source.name))
            same = found is None or before.samefile(source.path) or found == self.key(source.path)
        except (OSError, ValueError):  # one of them is gone, or cannot be read, which is reported later
            return False
        return not same

    def key(self, photo: Path) -> str:
        """What the mask of a photo's content carries."""
        return value_hash([self._key, file_hash(photo)])

    def made(self, source: Source, key: str) -> bool:
        """Whether a photo's mask is there, made by this network, with these options, from this content."""
        return labels_key(self.mask(source.name)) == key

    def complete(self, source: Source) -> bool:
        """Whether no overlay is wanted, or it is there too."""
        return not self.overlay or self._overlay(source.name).is_file()

    def mask(self, name: PurePosixPath) -> Path:
        """Where a mask lies."""
        return self.path / MASKS / name.parent / f"{name.name}.png"

    def write(self, source: Source, key: str, labels: NDArray[np.uint8]) -> None:
        """Write a mask; an overlay of what was there before is removed."""
        with _names_may_be_too_long(source):
            with suppress(FileNotFoundError, NotADirectoryError):
                self._overlay(source.name).unlink()
            write_labels(self.mask(source.name), labels, key)

    def draw(self, source: Source, photo: Picture) -> None:
        """Write the overlay of a mask that has been written, at most `OVERLAY_SIDE` pixels a side."""
        height, width = shrunk_size(*photo.size, OVERLAY_SIDE)
        small = Image.fromarray(shrunk_photo(photo, height, width))
        shown = label_overlay(small, resized_labels(read_labels(self.mask(source.name)), height, width))
        with _names_may_be_too_long(source), atomic_path(self._overlay(source.name)) as temporary:
            shown.save(temporary, format="JPEG", quality=90)

    def _overlay(self, name: PurePosixPath) -> Path:
        return self.path / OVERLAYS / name.parent / f"{name.name}.jpg"

    def _check(self, found: object) -> None:
        if found == self._about:
            return
        if not isinstance(found, dict) or not isinstance(found.get("choices"), dict):
            raise StageError(
                f"--out {self.path} holds a {MANIFEST} that tag2mask did not write; nothing was written. Name a new "
                "folder"
            )
        if found.get("network") != self._about["network"] or found.get("classes") != self._about["classes"]:
            raise StageError(
                f"--out {self.path} holds predictions of another network; nothing was written. Name a new folder"
            )
        old, new = found["choices"], self._about["choices"]
        changed = [f"{name} {old.get(name)}, now {value}" for name, value in new.items() if old.get(name) != value]
        raise StageError(
            f"--out {self.path} holds predictions made with other options ({'; '.join(changed) or 'another version'}); "
            "nothing was written. Name a new folder, or give the same options to resume"
        )


def _read(path: Path) -> Any:
    try:
        return read_json(path)
    except StageError as error:
        raise StageError(f"{error}: remove it, or name another folder with --out") from error


@contextmanager
def _names_may_be_too_long(source: Source) -> Iterator[None]:
    """Make a name that the file system does not take a fault of its photo, not of the folder."""
    try:
        yield
    except (StageError, OSError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        if isinstance(cause, OSError) and cause.errno == errno.ENAMETOOLONG:
            raise DataError(
                f"{source.path}: the name of its mask, or of a folder of it, is too long for the disk of --out. Rename "
                "the photo, or choose another --out"
            ) from error
        raise
