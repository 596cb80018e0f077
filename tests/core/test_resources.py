"""How many threads a run takes: what was asked for, what it was begun with, or the cores that are free."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tag2mask.core import resources as cores
from tag2mask.core import resources as memory
from tag2mask.core.resources import free_cores, note_workers, peak_memory, threads_for, wait_asleep

V1 = {"quota": "50000", "period": "100000"}


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Eight cores, no container, nothing asked for by the environment."""
    for name in ("OMP_NUM_THREADS", "WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(cores, "usable_cores", lambda: set(range(8)))
    monkeypatch.setattr(cores, "_quota", lambda: None)
    monkeypatch.setattr(cores, "_SECONDS", 0.0)
    free_cores.cache_clear()
    yield
    free_cores.cache_clear()


def spending(monkeypatch: pytest.MonkeyPatch, idle: dict[int, int]) -> None:
    """In between two looks each core spends 100 hundredths, so many of them idle; the first look sees old counts."""
    old = {core: [5000, 0, 700, 90000, 300, 0, 1, 20] for core in range(9)}
    now = {
        core: [v + d for v, d in zip(old[core], (100 - n, 0, 0, n, 0, 0, 0, 0), strict=True)]
        for core, n in idle.items()
    }
    looks = iter((old, now))
    monkeypatch.setattr(cores, "_times", lambda: next(looks))


@pytest.mark.parametrize(
    ("idle", "free"),
    [
        ([100] * 8, 8),
        ([97, 99, 95, 100, 98, 96, 99, 90], 8),  # a desktop at rest
        ([100] * 4 + [0] * 4, 4),
        ([50] * 8, 4),  # four others that wander
        ([0] * 8, 1),
    ],
)
def test_cores_that_others_use_are_left_to_them(idle: list[int], free: int, monkeypatch: pytest.MonkeyPatch) -> None:
    spending(monkeypatch, {**dict(enumerate(idle)), 8: 100})  # the ninth is not ours
    assert threads_for(None, None) == free
    assert threads_for(None, None) == free, "looked at once in a process: points of a sweep compute alike"


def test_processes_of_one_machine_share_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    spending(monkeypatch, dict.fromkeys(range(8), 100))
    monkeypatch.setenv("WORLD_SIZE", "6")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as torchrun sets it
    assert threads_for(None, None) == 2
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "16")
    assert threads_for(None, None) == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert threads_for(None, None) == 4


def test_what_was_requested_wins_then_what_the_run_was_begun_with_then_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spending(monkeypatch, dict.fromkeys(range(8), 100))
    monkeypatch.setenv("OMP_NUM_THREADS", "3,2")
    assert threads_for(5, 2) == 5
    assert threads_for(None, 2) == 2
    assert threads_for(None, None) == 3


def test_where_cores_are_not_counted_the_load_of_the_last_minute_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "_times", dict)
    monkeypatch.setattr(psutil, "getloadavg", lambda: (2.3, 0.0, 0.0))
    assert free_cores() == 6


@pytest.mark.parametrize(
    ("lines", "files", "limit"),
    [
        ("0::/a/b", {"a/cpu.max": "150000 100000\n", "a/b/cpu.max": "max 100000\n", "other/cpu.max": "1 2\n"}, 1.5),
        ("0::/", {"cpu.max": "200000 100000\n"}, 2.0),
        (
            "1:cpu,cpuacct:/x",
            {"cpu,cpuacct/x/cpu.cfs_quota_us": "50000", "cpu,cpuacct/x/cpu.cfs_period_us": "100000"},
            0.5,
        ),
        ("1:cpu:/x\n0::/", {"cpu/x/cpu.cfs_quota_us": "-1", "cpu/x/cpu.cfs_period_us": "100000"}, None),
    ],
)
def test_the_limit_of_a_container_counts(
    lines: str, files: dict[str, str], limit: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in files.items():
        (tmp_path / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / name).write_text(text)
    (tmp_path / "cgroup").write_text(lines)
    monkeypatch.undo()
    monkeypatch.setattr(cores, "_CGROUPS", tmp_path / "groups")
    monkeypatch.setattr(cores, "_OWN_GROUPS", tmp_path / "cgroup")
    assert cores._quota() == limit


def test_this_machine_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert 1 <= free_cores() <= (os.cpu_count() or 1)


def test_a_choice_of_ones_own_for_waiting_threads_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    wait_asleep()
    assert os.environ["OMP_WAIT_POLICY"] == "active"
    monkeypatch.delenv("OMP_WAIT_POLICY")
    wait_asleep()
    assert os.environ["OMP_WAIT_POLICY"] == "passive"


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
