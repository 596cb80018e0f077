"""Finds what every reader needs: the root, folders and files, split lists, class names."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from tag2mask.core.errors import DataError, unknown
from tag2mask.core.files import need_regular
from tag2mask.core.links import followed
from tag2mask.core.names import is_utf8, shortened, shown
from tag2mask.data.base import MAX_CLASSES

CLASSES_FILE = "classes.txt"
_UNWRITABLE = {"Cc", "Cs", "Zl", "Zp"}
"""Categories of characters that no class name may have: control characters, lone surrogates, breaks of lines."""
_LONGEST_CLASS = 200
"""Characters of a class name, which tables and figures have to hold."""
_OURS = {"recipe.yaml", "predictions.json", "experiment.json", "sweep.json", "reproduce.json"}
"""Files that mark a folder which tag2mask has written."""


def normal(text: str) -> str:
    """``text`` without outer white space and in Unicode's form NFC, so that equal-looking names are equal."""
    return unicodedata.normalize("NFC", text.strip())


def need_root(root: Path | None, kind: str, layout: str) -> Path:
    """The folder of the data set, with ``~`` expanded; ``layout`` says in the error what it should hold."""
    if root is None:
        raise DataError(f"data.root is not set: data={kind} needs a folder with {layout}. Type data.root=FOLDER")
    folder = root.expanduser()
    if not folder.is_dir():
        state = "is a file" if folder.exists() else "does not exist"
        raise DataError(
            f"data.root = {root} {state}: expected a folder with {layout}. Type data.root=FOLDER"
            f"{'' if folder.is_absolute() else f' (relative paths start at {Path.cwd()})'}"
        )
    whole = folder.resolve()
    for part in (whole, *whole.parents):
        check_utf8(part)
    return folder


def need_folder(root: Path, name: str, layout: str) -> Path:
    """The folder ``name`` in ``root``."""
    folder = root / name
    if not folder.is_dir():
        inner = sorted(p for p in root.iterdir() if (p / name).is_dir())
        hint = f"Did you mean data.root={inner[0]}?" if inner else "Check data.root"
        raise DataError(f"folder {folder} does not exist: expected {layout}. {hint}")
    return folder


def is_file(path: Path) -> bool:
    """Whether there is a file of that name, or a link to one; what is not a file of its own (a pipe) does not count."""
    try:
        return path.is_file()
    except OSError as error:
        raise DataError(f"cannot look at {shortened(str(path))}: {error.strerror}") from error


def check_utf8(path: Path) -> None:
    """Refuse the name of a file or folder that is not UTF-8, as unpacking an old zip leaves behind."""
    if not is_utf8(path.name):
        raise DataError(
            f"the name of {shown(path)} is not UTF-8: rename it (for names from an old zip: "
            f"convmv -f cp850 -t utf8 -r --notest {shown(path.parent)})"
        )


def files_in(folder: Path, *, below: bool, left_out: Collection[Path] = ()) -> Iterator[Path]:
    """The files that are not hidden, sorted, those of a folder before those below it; links are followed, once each.

    With ``below`` also those of its sub-folders, but for hidden ones, ``left_out`` and what tag2mask has written.
    """
    waiting, seen = [folder], {os.path.realpath(p) for p in left_out}
    while waiting:
        current = waiting.pop(0)
        real = os.path.realpath(current)
        if real in seen:
            continue
        seen.add(real)
        inside = _inside(current)
        yield from (Path(e.path) for e in inside if e.is_file(follow_symlinks=False) or _links_to_file(e))
        if below:
            waiting = [p for p in _folders(inside) if not is_ours(p)] + waiting


def folders_in(folder: Path) -> list[Path]:
    """The sub-folders that are not hidden, sorted."""
    return _folders(_inside(folder))


def _folders(inside: Iterable[os.DirEntry[str]]) -> list[Path]:
    inner = [Path(e.path) for e in inside if not e.is_file(follow_symlinks=False)]
    inner = [path for path in inner if path.is_dir()]
    for path in inner:
        check_utf8(path)
    return inner


def _links_to_file(entry: os.DirEntry[str]) -> bool:
    return entry.is_symlink() and is_file(Path(entry.path))


def _inside(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder and not hidden, sorted; most entries know their kind without another look at the disk."""
    try:
        with os.scandir(folder) as entries:
            return sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)
    except OSError as error:
        raise DataError(f"folder {folder} cannot be read: {error.strerror}. Allow it, or move it away") from error


def is_ours(folder: Path) -> bool:
    """Whether tag2mask has written a folder: a run (one that has only begun too), predictions, a sweep."""
    try:
        names = {p.name for p in _inside(folder)}
    except DataError:  # whoever reads it says so
        return False
    return not names.isdisjoint(_OURS) or names == {"lock"}


def holds_ours(folder: Path) -> bool:
    """Whether below a folder, however deep, lies one that tag2mask has written, as in ``runs``."""
    waiting, seen = [folder], set()
    while waiting:
        current = waiting.pop()
        real = os.path.realpath(current)
        if real in seen:
            continue
        seen.add(real)
        inner = folders_in(current)
        if followed(current / ".store").is_dir() or any(map(is_ours, inner)):
            return True
        waiting += inner
    return False


def read_lines(path: Path) -> list[tuple[int, str]]:
    """The non-empty lines of a UTF-8 text file with their numbers, normalised; a byte-order mark is dropped."""
    try:
        lines = need_regular(path).read_text(encoding="utf-8-sig").split("\n")  # a name may hold other line separators
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: save it as UTF-8") from error
    return [(number, normal(line)) for number, line in enumerate(lines, 1) if line.strip()]


def no_split(split: str, known: Iterable[str], where: Path) -> DataError:
    """The error for a split that the data set does not have."""
    names = sorted(known)
    if not names:
        return DataError(f"{where} holds no split list: expected one for split '{split}'")
    return DataError(f"{unknown('split', split, names)} (in {where}). Set data.train, data.val and data.infer")


def check_classes(names: Iterable[str], where: str) -> tuple[str, ...]:
    """Normalise and check class names, in the order of the labels 1, 2, …; ``where`` they stand is for errors."""
    classes = tuple(normal(n) for n in names)
    if not 1 <= len(classes) <= MAX_CLASSES:
        raise DataError(f"{where} has {len(classes)} classes: expected 1..{MAX_CLASSES}")
    for index, name in enumerate(classes):
        if not name or name in classes[:index]:
            problem = f"class '{shortened(name)}' twice" if name else "an empty class name"
            raise DataError(f"{where} has {problem}")
        if not is_utf8(name):
            raise DataError(f"{where} has class '{shortened(name)}', whose name is not UTF-8: rename it")
        if any(unicodedata.category(c) in _UNWRITABLE for c in name):  # XML cannot hold it, a list breaks there
            raise DataError(f"{where} has class '{shortened(name)}', with a control character in its name; take it out")
        if len(name) > _LONGEST_CLASS:
            raise DataError(
                f"{where} has class '{shortened(name)}', a name of {len(name)} characters: expected at most "
                f"{_LONGEST_CLASS}"
            )
        if name.casefold().strip("_") == "background":
            raise DataError(f"{where} lists '{name}': background is label 0 and not a class; take it out")
    return classes


def declared_classes(root: Path, setting: Sequence[str] | None) -> tuple[str, ...] | None:
    """The full class list as the user declares it: the setting, else ``classes.txt`` in ``root``, else None."""
    if setting is not None:
        return check_classes(setting, "data.all_classes")
    path = root / CLASSES_FILE
    return check_classes((name for _, name in read_lines(path)), str(path)) if path.is_file() else None


def columns(names: Iterable[str], classes: Sequence[str], where: str) -> tuple[int, ...]:
    """0-based columns of class ``names``, ascending, each once."""
    found = set()
    for name in names:
        if name not in classes:
            raise DataError(f"{where}: {unknown('class', name, classes)}")
        found.add(classes.index(name))
    return tuple(sorted(found))
