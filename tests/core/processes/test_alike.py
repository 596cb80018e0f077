"""Processes of one run are compared: what differs is named, with both values and both machines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tag2mask.core.errors import StageError
from tag2mask.core.processes import alike as processes
from tag2mask.core.processes.alike import check_alike, check_shared, versions
from tests.helpers.refused import refused


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What processes 1, 2, ... say in each exchange; this one is process 0."""
    said: list[Any] = []
    monkeypatch.setattr(processes, "everyone", lambda value: [value, *said.pop(0)])
    monkeypatch.setattr(processes, "world_size", lambda: 3)
    monkeypatch.setattr("socket.gethostname", lambda: "a")
    return said


def test_what_differs_is_named_with_both_values(others: list[Any]) -> None:
    facts = {"the list": ("9 photos", "Share the folder"), "the network": ("aa", "Name one network")}
    same = {"the list": "9 photos", "the network": "aa"}
    others.append([("b", same), ("c", same)])
    check_alike(facts)
    others.append([("b", same), ("c", same | {"the network": "bb"})])
    with refused(StageError, "the network is bb", "process 2 of 3 (on c)", "aa in process 0 (on a)", "Name one"):
        check_alike(facts)


def test_a_folder_that_a_process_does_not_see_is_named_and_left_clean(others: list[Any], tmp_path: Path) -> None:
    others += [[("", "")] * 2, [("b", True), ("c", True)]]
    check_shared(tmp_path / "new", "--out")
    others += [[("", "")] * 2, [("b", False), ("c", True)]]
    with refused(StageError, "--out", "process 1 of 3 (on b)", "process 0 (on a)"):
        check_shared(tmp_path / "new", "--out")
    assert list((tmp_path / "new").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_said_by_all(others: list[Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    others.append([("", "")] * 2)
    with refused(StageError, str(tmp_path / "file")):
        check_shared(tmp_path / "file" / "out", "--out")


def test_one_process_compares_nothing(tmp_path: Path) -> None:
    check_alike({"the list": ("9 photos", "")})
    check_shared(tmp_path / "new", "--out")
    assert not (tmp_path / "new").exists()


def test_versions_are_those_that_are_installed() -> None:
    assert versions()["the version of tag2mask"][0].startswith("0.")
