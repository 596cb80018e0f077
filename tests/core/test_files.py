"""Pipes, sockets and devices are told, never opened."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tag2mask.core.arrays import read_arrays
from tag2mask.core.errors import StageError, Tag2MaskError
from tag2mask.core.files import file_hash, need_regular, read_json, special_kind
from tag2mask.core.palette import labels_key, read_labels
from tag2mask.data.layout import read_lines
from tag2mask.data.readers.coco_json import read_instances
from tag2mask.data.readers.tag_table import read_table
from tag2mask.evaluation.result_tables import read_csv, read_metrics
from tag2mask.inference.maps_file import maps_key, read_maps
from tag2mask.methods.lpcam.prototypes_file import load_prototypes
from tests.helpers.refused import refused


@pytest.fixture
def special(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """One of each kind; a reader that opened the pipe or the device would never come back."""
    monkeypatch.chdir(tmp_path)  # the name of a socket may not be long
    os.mkfifo("pipe")
    Path("zero").symlink_to("/dev/zero")
    bound = socket.socket(socket.AF_UNIX)
    bound.bind("socket")
    bound.close()
    Path("folder").mkdir()
    kinds = {"pipe": "a named pipe", "zero": "a device", "socket": "a socket", "folder": "a folder"}
    return {kind: Path(name) for name, kind in kinds.items()}


def test_what_is_no_file_is_named(special: dict[str, Path], tmp_path: Path) -> None:
    for kind, path in special.items():
        assert special_kind(path) == kind
        with pytest.raises(OSError, match=f"it is {kind}, not a file") as caught:
            need_regular(path)
        assert caught.value.filename == str(path)
    (tmp_path / "file").write_bytes(b"")
    Path("link").symlink_to("file")
    assert need_regular(Path("link")) == Path("link")
    with pytest.raises(FileNotFoundError):
        need_regular(Path("none"))


@pytest.mark.parametrize("read", [read_json, read_arrays, read_labels, read_maps])
def test_readers_of_our_own_files_refuse_them(special: dict[str, Path], read: Callable[[Path], Any]) -> None:
    for kind, path in special.items():
        with pytest.raises(StageError, match=f"cannot read {path}: .*{kind}, not a file"):
            read(path)


@pytest.mark.parametrize(
    "read",
    [
        read_lines, read_metrics, load_prototypes, read_csv, read_instances, lambda path: read_table(path, {}),
    ],
)  # fmt: skip
def test_readers_of_files_that_a_user_names_refuse_them(special: dict[str, Path], read: Callable[[Path], Any]) -> None:
    for path in special.values():
        with refused(Tag2MaskError, str(path), "not a file"):
            read(path)


def test_what_is_asked_of_files_that_may_be_gone_takes_them_for_not_made(special: dict[str, Path]) -> None:
    for path in special.values():
        assert labels_key(path) is None
        assert maps_key(path) is None
        with pytest.raises(OSError, match="not a file"):
            file_hash(path)
