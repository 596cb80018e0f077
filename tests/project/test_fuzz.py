"""Broken input of every reader ends in a clear error: a few of the attempts of ``python -m benchmarks.fuzz``."""

from __future__ import annotations

import csv
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.fuzz import mutate
from benchmarks.fuzz.sandbox import FAILURES, attempt
from benchmarks.fuzz.targets import NAMES
from tag2mask.core.errors import DataError

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="attempts are made in forked children")
QUICK, SLOW = 20, 100
_ROOT = Path(__file__).resolve().parents[2]


def _tried(folder: Path, names: Sequence[str], n: int, start: int) -> list[dict[str, str]]:
    """The rows of a fuzz of these readers.

    In a process of its own: forks of one that has run many tests are slow.
    """
    out = folder / "fuzz.csv"
    words = ["-n", str(n), "--start", str(start), "--out", str(out), "--commit", "tested"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.fuzz", *names, *words],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(out.read_text(encoding="utf-8").splitlines()))
    assert [row["reader"] for row in rows] == [name for name in NAMES if name in names]
    failed = sum(int(row[outcome]) for row in rows for outcome in FAILURES)
    assert not failed, f"make one again: python -m benchmarks.fuzz READER -n 1 --start NUMBER\n{done.stdout}"
    return rows


def test_a_few_broken_inputs_of_each_reader(tmp_path: Path) -> None:
    for row in _tried(tmp_path, NAMES, QUICK, 0):
        assert int(row["refused"]), f"nothing of {row['reader']} was broken enough to be refused"


@pytest.mark.slow
@pytest.mark.parametrize("names", [NAMES[::2], NAMES[1::2]], ids=["one half", "the other"])
def test_more_broken_inputs_of_each_reader(names: tuple[str, ...], tmp_path: Path) -> None:
    _tried(tmp_path, names, SLOW, QUICK)


def test_the_same_seed_breaks_a_file_in_the_same_way() -> None:
    data = b'{"a": [1, {"b": null}], "c": "text"}'
    for mutator in (mutate.flipped, mutate.json_value):
        once, again = ([mutator(data, random.Random(f"0/{i}")) for i in range(50)] for _ in range(2))
        assert once == again
        assert len(set(once)) > 20


def _refuse() -> None:
    raise DataError("photo.jpg is empty: copy it again")


def _end_by_a_signal() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _take_memory() -> None:
    kept = bytearray(200 << 20)
    kept[:: 1 << 12] = b"x" * len(kept[:: 1 << 12])
    time.sleep(60)


def test_attempts_tell_failures_from_errors() -> None:
    assert attempt(lambda: None).outcome == "accepted"
    refused = attempt(_refuse)
    assert (refused.outcome, refused.failed) == ("refused", False)
    assert "photo.jpg is empty" in refused.detail
    raised = attempt(lambda: os.environ["NO SUCH KEY"])
    assert raised.failed
    assert "KeyError" in raised.detail
    assert attempt(_end_by_a_signal).detail == "SIGKILL"
    assert attempt(lambda: time.sleep(60), seconds=0.1).outcome == "hang"
    assert attempt(_take_memory, memory=64 << 20).outcome == "memory"
