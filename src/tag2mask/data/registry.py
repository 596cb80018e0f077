"""The readers by name: a data set is one module and one line here."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, cast

from tag2mask.config.settings import validate
from tag2mask.core.errors import ConfigError, DataError, unknown
from tag2mask.data.base import Dataset, DataSettings
from tag2mask.data.noise import noisy
from tag2mask.data.shrunk import ShrunkImages
from tag2mask.data.subset import MARK, part_of

READERS: dict[str, str] = {
    "voc": "tag2mask.data.voc",
    "coco": "tag2mask.data.coco",
    "folder": "tag2mask.data.folder",
    "parts": "tag2mask.data.parts",
}
"""Reader name -> module with ``SETTINGS`` (a `DataSettings` class) and ``open_split(settings, split)``."""


class Reader(Protocol):
    """What a reader's module offers."""

    SETTINGS: type[DataSettings]

    def open_split(self, settings: Any, split: str) -> Dataset:
        """Open one split; everything wrong with the data set as a whole is a `DataError` here."""
        ...


def register_reader(name: str, module: str) -> None:
    """Add a reader: ``module`` offers ``SETTINGS`` and ``open_split`` as `Reader` says.

    Raises:
        ConfigError: the name is taken by another module.
    """
    if READERS.get(name, module) != module:
        raise ConfigError(f"data reader '{name}' is {READERS[name]} already; choose another name")
    READERS[name] = module


def reader(name: str) -> Reader:
    """The reader of that name.

    Raises:
        ConfigError: there is none; the nearest name is given.
    """
    if name not in READERS:
        raise ConfigError(unknown("data kind", name, READERS))
    return cast(Reader, importlib.import_module(READERS[name]))


def data_settings(kind: str, values: Mapping[str, Any]) -> DataSettings:
    """Check the settings of a data set of that kind.

    Raises:
        ConfigError: one line for each problem.
    """
    return validate(reader(kind).SETTINGS, values, "data")


def open_split(kind: str, settings: DataSettings, split: str) -> Dataset:
    """Open one split, or a part of one.

    Args:
        kind: name of a reader.
        settings: of that reader.
        split: the split's name, or ``SPLIT@FILE`` for those of its images whose ids the text file lists.

    Raises:
        DataError: the data set, a folder of it or the list cannot be read, the list names an image that the split does
            not have, or the settings' tag noise leaves no tag.
    """
    name, mark, path = split.partition(MARK)
    try:
        dataset = reader(kind).open_split(settings, name)
    except OSError as error:  # a folder that may not be looked into, a name that is too long
        raise DataError(f"cannot look at {error.filename or settings.root}: {error.strerror or error}") from error
    if mark:
        dataset = part_of(dataset, Path(path).expanduser())
    dataset = _with_wrong_tags(dataset, settings, split)
    return dataset if settings.max_side is None else ShrunkImages(dataset, settings.max_side)


def _with_wrong_tags(dataset: Dataset, settings: DataSettings, split: str) -> Dataset:
    """The split with the tag noise of the settings; the held-out split keeps its tags, so that it measures rightly."""
    noise = settings.tag_noise
    if noise is None or (split == settings.val and split not in (settings.train, settings.infer)):
        return dataset
    changed = copy.copy(dataset)
    changed.samples = noisy(dataset.samples, dataset.classes, noise, dataset.split)
    return changed


def load_dataset(kind: str, root: str | Path | None = None, split: str | None = None, **settings: Any) -> Dataset:
    """Open one split of a data set.

    Args:
        kind: ``voc``, ``coco``, ``folder``, ``parts`` or a registered name.
        root: folder of the data set (``parts`` needs none).
        split: the split, or ``SPLIT@FILE`` for a part of it; the reader's training split where left out.
        **settings: ``classes`` and the reader's own settings.

    Raises:
        ConfigError: an unknown kind or setting.
        DataError: the data set cannot be read.

    Example:
        >>> load_dataset("parts", split="val", images=4).classes[0]
        'train'
    """
    checked = data_settings(kind, {"root": root, **settings} if root is not None else settings)
    return open_split(kind, checked, split or checked.train)
