"""`tag2mask predict` in several processes: the same masks as one makes, and clear ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tag2mask.core.processes.ranks import everyone
from tag2mask.segmentation.networks.factory import save_segmenter
from tests.segmentation.predict_drawn import save
from tests.segmentation.saved_net import CLASSES, tiny

ROOT = Path(__file__).resolve().parents[3]
RUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "tag2mask", "predict"]
Finished = subprocess.CompletedProcess[str]


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    """Photos of two sizes, one of them no photo, and a network."""
    rng = np.random.default_rng(0)
    for i in range(9):
        image = rng.integers(0, 256, (20 + 10 * (i % 2), 30, 3), dtype=np.uint8)
        save(tmp_path / "photos" / f"{i}.png", image)
    (tmp_path / "photos" / "4.png").write_bytes(b"no photo")
    save_segmenter(tiny(), tmp_path / "net.safetensors", CLASSES)
    return tmp_path


def words(drawn: Path, out: str) -> list[str]:
    return [str(drawn / "net.safetensors"), str(drawn / "photos"), "--out", str(drawn / out), "--device", "cpu"]


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def run(command: list[str]) -> Finished:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=240, env=environment)


def alone(process: int, port: int, command: list[str], **environment: str) -> subprocess.Popen[str]:
    """One of two processes that nothing watches over, as of a cluster's scheduler."""
    own = {"RANK": str(process), "WORLD_SIZE": "2", "LOCAL_RANK": str(process), "LOCAL_WORLD_SIZE": "2"}
    there = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=ROOT, text=True, stderr=subprocess.PIPE, stdout=subprocess.PIPE,
        env={**os.environ, **own, **there, **environment},
    )  # fmt: skip


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.slow
def test_two_processes_share_the_photos_and_write_the_same_bytes(drawn: Path) -> None:
    one = run([sys.executable, "-m", "tag2mask", "predict", *words(drawn, "one")])
    two = run([*RUN, *words(drawn, "two")])
    for result in (one, two):
        assert "8 made, 0 there already, 1 failed" in result.stdout, result.stderr
        assert result.stderr.count("1 of 9 photos have no mask") == 1
        assert result.returncode != 0
    assert files(drawn / "one") == files(drawn / "two")
    assert len(files(drawn / "two")) == 8 + 3
    again = run([*RUN, *words(drawn, "two")])
    assert "0 made, 8 there already, 1 failed" in again.stdout, again.stderr


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_is_named_by_the_other_and_the_command_resumes(
    killed: int, drawn: Path, free_port: int
) -> None:
    (drawn / "photos" / "4.png").unlink()
    command = [sys.executable, "-m", "tests.segmentation.odd_predict", *words(drawn, "out")]
    processes = [alone(n, free_port, command, TEST_WAIT="1") for n in (0, 1)]
    made, deadline = drawn / "out" / "masks", time.monotonic() + 120
    while len(list(made.glob("*.png"))) < 4 and time.monotonic() < deadline:  # two each, then both work for an hour
        time.sleep(0.1)
    processes[killed].send_signal(signal.SIGKILL)
    begun, other = time.monotonic(), 1 - killed
    _, said = processes[other].communicate(timeout=60)
    processes[killed].communicate(timeout=60)
    assert time.monotonic() - begun < 30
    text = rf"error: process {other} of 2: process {killed} \(on .*\) has ended; .* the same command resumes\n"
    assert re.search(text, said), said
    assert processes[other].returncode == 2
    result = run([*RUN, *words(drawn, "out")])
    assert "4 made, 4 there already, 0 failed" in result.stdout, result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ("out", r"--out .*: process 1 of 2 \(on .*\) does not see what process 0 .* that all machines share"),
        ("version", r"the version of tag2mask is 9\.9 in process 1 .*, 0\..* in process 0 .*the same versions"),
    ],
)
def test_processes_that_differ_say_so_before_anything_is_made(
    changed: str, text: str, drawn: Path, free_port: int
) -> None:
    command = [sys.executable, "-m", "tests.segmentation.odd_predict", *words(drawn, "out")]
    other = [word.replace(f"/{changed}", "/other") for word in command]
    (drawn / "other").mkdir()
    odd = {"TEST_VERSION": "9.9"} if changed == "version" else {}
    processes = [alone(0, free_port, command), alone(1, free_port, other, **odd)]
    for process in processes:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 2
        assert re.search(text, said), said
    assert list((drawn / "out").iterdir()) == []


def test_one_process_waits_for_nobody() -> None:
    assert everyone(3) == [3]
