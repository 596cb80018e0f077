"""Where an export goes: whole or not at all, and nowhere that is taken."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tag2mask.core.errors import DataError, StageError
from tag2mask.core.palette import write_labels
from tag2mask.export import output as labelled
from tag2mask.export.output import atomic_folder, check_target
from tag2mask.pipeline.export_run import export_masks
from tests.export.drawn_masks import mask_folder
from tests.helpers.refused import refused


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return mask_folder(tmp_path / "in", {"a": np.ones((4, 6), np.uint8), "b": np.ones((4, 6), np.uint8)})


def test_a_folder_that_holds_other_things_is_left_alone(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "diary.txt").write_text("mine")
    with refused(StageError, "--out", "out holds other things (diary.txt)", "nothing was written", "Name a new"):
        export_masks(root, "coco", out)
    assert [p.name for p in out.iterdir()] == ["diary.txt"]
    with refused(StageError, "diary.txt is a file", "name a new folder"):
        export_masks(root, "coco", out / "diary.txt")


def test_an_empty_folder_is_free(root: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    export_masks(root, "labelme", tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.json", "b.json"]


@pytest.mark.parametrize("there", [True, False])
def test_a_failure_in_the_middle_leaves_nothing(root: Path, tmp_path: Path, there: bool) -> None:
    labels = np.full((4, 6), 99, np.uint8)
    write_labels(root / "masks" / "b.png", labels)
    out = tmp_path / "out"
    if there:
        out.mkdir()
    with pytest.raises(DataError, match="holds index 99"):
        export_masks(root, "labelme", out)
    assert out.exists() == there
    assert not there or list(out.iterdir()) == []


def test_what_a_killed_export_left_is_removed(root: Path, tmp_path: Path) -> None:
    left = tmp_path / "out" / ".tag2mask-export.123.tmp" / "x"
    left.mkdir(parents=True)
    export_masks(root, "coco", tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["annotations"]


def test_a_full_disk_is_said_and_leaves_nothing(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Any, target: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))

    monkeypatch.setattr(labelled.shutil, "copyfile", full)  # type: ignore[attr-defined]
    with refused(StageError, "cannot write", "a.jpg: No space left on device", "make"):
        export_masks(root, "yolo", tmp_path / "out", images=root / "photos")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with refused(StageError, "cannot write", "file", "Not a directory"):  # noqa: SIM117
        with atomic_folder(tmp_path / "file" / "out"):
            pass


def test_no_permission_to_write(tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0o500)
    try:
        if os.access(locked, os.W_OK):
            pytest.skip("this user may write everywhere")
        with pytest.raises(StageError, match="cannot write .*out.*: Permission denied"):  # noqa: SIM117
            with atomic_folder(locked / "out"):
                pass
    finally:
        locked.chmod(0o700)


def test_permission_denied_is_said_whoever_runs_the_tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(self: Path, *_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    monkeypatch.setattr(Path, "mkdir", denied)
    with refused(StageError, "cannot write", "out", "Permission denied", "another folder with --out"):  # noqa: SIM117
        with atomic_folder(tmp_path / "out"):
            pass


def test_only_what_is_whole_appears(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with atomic_folder(out) as folder:
        (folder / "x").write_text("1")
        assert not (out / "x").exists()
        check_target(out)  # what is begun is not in the way
    assert [p.name for p in out.iterdir()] == ["x"]
