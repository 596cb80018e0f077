"""Two machines, as two network namespaces of one with a cable between them, and a folder that both share."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.helpers.tiny import files_of, tiny_overrides, tiny_run

ADDRESSES = ("10.213.77.1", "10.213.77.2")
PORT = 29531
Process = subprocess.Popen[str]


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=30)


@pytest.fixture
def machines() -> Iterator[tuple[str, str]]:
    """Names of two namespaces, each with its end of a cable."""
    if sys.platform != "linux" or shutil.which("ip") is None:
        pytest.skip("network namespaces are made with Linux's 'ip', which is not here")
    names = tuple(f"tag2mask-{os.getpid()}-{side}" for side in "ab")
    ends = tuple(f"t2m{os.getpid() % 10**6}{side}" for side in "ab")
    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
        for name, end, address in zip(names, ends, ADDRESSES, strict=True):
            ip("link", "set", end, "netns", name)
            ip("-n", name, "address", "add", f"{address}/24", "dev", end)
            ip("-n", name, "link", "set", end, "up")
            ip("-n", name, "link", "set", "lo", "up")
    except (subprocess.CalledProcessError, OSError) as error:
        remove(names)
        said = getattr(error, "stderr", None) or str(error)
        pytest.skip(f"network namespaces cannot be made here (they need root's rights): {said!r}")
    yield names[0], names[1]
    remove(names)


def remove(names: tuple[str, ...]) -> None:
    for name in names:
        subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True, timeout=30)


def start(machines: tuple[str, str], *words: str) -> list[Process]:
    """The command of one machine on each."""
    found = []
    for number, name in enumerate(machines):
        end = subprocess.run(["ip", "-n", name, "-br", "link"], capture_output=True, text=True, check=True).stdout
        cable = next(line.split("@")[0] for line in end.splitlines() if line.startswith("t2m"))
        torchrun = [
            sys.executable, "-m", "torch.distributed.run", "--nnodes=2", f"--node-rank={number}",
            "--nproc-per-node=1", f"--master-addr={ADDRESSES[0]}", f"--master-port={PORT}", "-m", "tag2mask",
        ]  # fmt: skip
        environment = {**os.environ, "GLOO_SOCKET_IFNAME": cable, "OMP_NUM_THREADS": "1"}
        environment.pop("PYTHONPATH", None)  # what forbids tests the network: a namespace has none but the cable
        found.append(
            subprocess.Popen(
                ["ip", "netns", "exec", name, *torchrun, *words],
                env=environment,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        )
    return found


def lose(machine: str) -> None:
    """Kill all that runs on a machine: torchrun's workers have sessions of their own."""
    found = subprocess.run(["ip", "netns", "pids", machine], capture_output=True, text=True, check=False).stdout
    for pid in map(int, found.split()):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def ended(processes: list[Process], machines: tuple[str, str], seconds: float) -> list[tuple[str, str]]:
    """What each said, once all have ended; all are killed where one has not."""
    try:
        return [process.communicate(timeout=seconds) for process in processes]
    finally:
        for machine in machines:
            lose(machine)
        for process in processes:
            process.communicate()


@pytest.mark.slow
def test_two_machines_make_the_files_of_one_process_and_resume_after_one_is_lost(
    machines: tuple[str, str], tmp_path: Path
) -> None:
    words = ["run", "demo", *tiny_overrides("demo"), "--out", str(tmp_path / "runs" / "run")]
    processes = start(machines, *words)
    store, deadline = tmp_path / "runs" / ".store", time.monotonic() + 40
    while not list(store.glob("classifier-*/manifest.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    lose(machines[1])
    begun = time.monotonic()
    (_, said), _ = ended(processes, machines, 60)
    assert time.monotonic() - begun < 60
    assert processes[0].returncode != 0
    assert re.search(r"error: process 0 of 2: process 1 \(on .*\) has ended; .* the same command resumes", said), said

    processes = start(machines, *words)
    (out, said), (other, second) = ended(processes, machines, 300)
    assert [process.returncode for process in processes] == [0, 0], said + second
    assert (out.count("report:"), other.count("report:")) == (1, 0)
    assert "classifier: done already" in said
    assert files_of(tmp_path / "runs" / "run") == files_of(tiny_run(tmp_path, out="alone").path)
