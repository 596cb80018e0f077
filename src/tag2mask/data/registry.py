"""The readers by name, and opening a data set: a reader is one module and one line here, or an entry point."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, cast

from tag2mask.config.overrides import apply_overrides
from tag2mask.config.plugins import each_from_one, plugins
from tag2mask.config.settings import validate
from tag2mask.core.errors import ConfigError, DataError, unknown
from tag2mask.core.names import shortened
from tag2mask.data.base import Dataset, DataSettings
from tag2mask.data.sidecars import with_sidecars
from tag2mask.data.split_views import MARK, ResizedImages, on_ground, part_of
from tag2mask.data.tag_noise import noisy

READERS: dict[str, str] = {
    "voc": "tag2mask.data.readers.voc",
    "coco": "tag2mask.data.readers.coco",
    "folder": "tag2mask.data.readers.folder",
    "parts": "tag2mask.data.readers.parts",
}
"""Reader name -> module with ``SETTINGS`` (a `DataSettings` class) and ``open_split(settings, split)``."""
GROUP = "tag2mask.readers"
"""Entry points of other packages; the name of each is the reader's, and it names such a module."""


class Reader(Protocol):
    """What a reader's module offers."""

    SETTINGS: type[DataSettings]

    def open_split(self, settings: Any, split: str) -> Dataset:
        """Open one split; everything wrong with the data set as a whole is a `DataError` here."""
        ...


def _check_reader(module: ModuleType) -> None:
    settings, opens = getattr(module, "SETTINGS", None), getattr(module, "open_split", None)
    if not (isinstance(settings, type) and issubclass(settings, DataSettings) and callable(opens)):
        raise ConfigError(
            f"{module.__name__} has SETTINGS = {shortened(repr(settings))} and open_split = {shortened(repr(opens))}: "
            "expected a subclass of DataSettings, and a function"
        )


def readers() -> dict[str, str]:
    """Every reader's module by its name: `READERS`, and the entry points ``tag2mask.readers`` of other packages.

    Raises:
        ConfigError: two packages have a reader of one name; both are named.
    """
    others = [p for p in plugins(GROUP, _check_reader) if READERS.get(p.name) != p.module]
    each_from_one("data reader", [*READERS.items(), *((other.name, other.package) for other in others)])
    return READERS | {other.name: other.module for other in others}


def register_reader(name: str, module: str) -> None:
    """Add a reader to this process: ``module`` offers ``SETTINGS`` and ``open_split`` as `Reader` says.

    Raises:
        ConfigError: the module offers something else, or the name is taken by another.
    """
    _check_reader(importlib.import_module(module))
    each_from_one("data reader", [*readers().items(), (name, module)])
    READERS[name] = module


def reader(name: str) -> Reader:
    """The reader of that name."""
    known = readers()
    if name not in known:
        raise ConfigError(unknown("data kind", name, known))
    return cast(Reader, importlib.import_module(known[name]))


def data_settings(kind: str, values: Mapping[str, Any]) -> DataSettings:
    """Check the settings of a data set of that kind."""
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
    dataset = with_sidecars(dataset, settings.sidecars, settings.root)
    if mark:
        dataset = part_of(dataset, Path(path).expanduser())
    dataset = _with_wrong_tags(dataset, settings, split)
    if settings.background != "auto":  # whoever decides says what it is
        dataset = on_ground(dataset, settings.background)
    if settings.max_side is None and settings.min_side is None:
        return dataset
    return ResizedImages(dataset, settings.max_side, settings.min_side)


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


def data_from_words(words: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """The kind of a data set and its settings.

    Args:
        words: first a reader's name (then ``root=…`` says where) or a folder, whose layout decides the reader;
            then settings such as ``classes=[cat,dog]``.
    """
    first, rest = words[0], [w.removeprefix("data.") for w in words[1:]]
    wrong = next((w for w in rest if "=" not in w), None)
    if wrong is not None:
        raise ConfigError(f"'{wrong}' is not key=value, such as root=photos or classes=[cat,dog]")
    settings: dict[str, Any] = apply_overrides({"data": {}}, [f"data.{w}" for w in rest])["data"]
    if first in (known := readers()):
        return first, settings
    root = Path(first)
    if not root.is_dir():
        raise DataError(
            f"'{first}' is neither a kind of data ({', '.join(known)}) nor a folder; "
            f"write for example: tag2mask doctor voc root=VOCdevkit/VOC2012"
        )
    return layout_of(root), {"root": str(root), **settings}


def layout_of(root: Path) -> str:
    """The reader whose layout a folder has: ``voc``, ``coco``, or ``folder`` where it is neither."""
    if (root / "JPEGImages").is_dir() and (root / "ImageSets").is_dir():
        return "voc"
    if any((root / "annotations").glob("instances_*.json")):
        return "coco"
    return "folder"
