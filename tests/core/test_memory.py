"""The highest memory of a process and of its workers."""

from __future__ import annotations

import subprocess
import sys

import psutil
import pytest

from tag2mask.core import memory
from tag2mask.core.memory import note_workers, peak_memory

MIB = 1 << 20
TAKE = "import sys, time; data = bytearray(b'1') * (300 << 20); del data; print('freed', flush=True); time.sleep(600)"


@pytest.fixture(autouse=True)
def begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has been seen so far."""
    monkeypatch.setattr(memory, "_highest", 0)


def test_what_was_given_back_counts() -> None:
    before = psutil.Process().memory_info().rss
    data = bytearray(b"1") * (200 * MIB)
    del data
    assert peak_memory() >= before + 150 * MIB


def test_workers_count_once_they_were_looked_at() -> None:
    with subprocess.Popen([sys.executable, "-c", TAKE], stdout=subprocess.PIPE, text=True) as worker:
        try:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "freed\n"
            note_workers()
        finally:
            worker.kill()
    assert memory._highest >= 300 * MIB
    assert peak_memory() >= 300 * MIB


def test_without_a_mark_of_the_system_it_is_what_was_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_STATUS", "/nowhere/{}")
    data = bytearray(b"1") * (200 * MIB)
    seen = peak_memory()
    del data
    assert seen >= 200 * MIB
    assert peak_memory() == seen
    assert peak_memory() >= psutil.Process().memory_info().rss
