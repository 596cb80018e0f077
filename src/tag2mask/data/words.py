"""A data set named in words on the command line: a kind or a folder, then ``key=value``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tag2mask.config.overrides import apply_overrides
from tag2mask.core.errors import ConfigError, DataError
from tag2mask.data.registry import READERS


def data_from_words(words: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """The kind of a data set and its settings.

    Args:
        words: first a reader's name (then ``root=…`` says where) or a folder, whose layout tells the reader;
            then settings such as ``classes=[cat,dog]``.

    Raises:
        ConfigError: a word is no ``key=value``.
        DataError: the first word is neither a reader nor a folder.
    """
    first, rest = words[0], [w.removeprefix("data.") for w in words[1:]]
    wrong = next((w for w in rest if "=" not in w), None)
    if wrong is not None:
        raise ConfigError(f"'{wrong}' is not key=value, such as root=photos or classes=[cat,dog]")
    settings: dict[str, Any] = apply_overrides({"data": {}}, [f"data.{w}" for w in rest])["data"]
    if first in READERS:
        return first, settings
    root = Path(first)
    if not root.is_dir():
        raise DataError(
            f"'{first}' is neither a kind of data ({', '.join(READERS)}) nor a folder; "
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
