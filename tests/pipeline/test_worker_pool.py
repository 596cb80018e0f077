"""The pool of processes: order, errors, a killed worker, a killed parent, and the same bytes as without it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tag2mask.api import run
from tag2mask.config.engine import Engine
from tag2mask.core.errors import DataError, StageError
from tag2mask.pipeline import execute as images
from tag2mask.pipeline.worker_pool import in_pool, one_thread, workers
from tests.helpers.drawn_maps import few_masks_recipe, registered
from tests.helpers.refused import refused
from tests.helpers.tiny import alive, files_of
from tests.pipeline.pool_work import die_at_three, fail_at_two, state


def numbered(n: int) -> Iterator[tuple[str, int]]:
    return ((f"im{i}", i) for i in range(n))


def test_a_pool_has_as_many_workers_as_threads_were_requested(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda who: set(range(6)), raising=False)
    assert workers(Engine(threads=3)) == 3
    assert workers(Engine()) == 6
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert workers(Engine()) == 1


def test_one_thread_is_given_back() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


@pytest.mark.slow
def test_results_come_in_order_from_workers_with_one_thread_and_no_network() -> None:
    assert list(in_pool(state, numbered(7), 2)) == [(f"im{i}", (i, 1, True)) for i in range(7)]


@pytest.mark.slow
def test_a_killed_worker_is_said_with_advice() -> None:
    with refused(StageError, "a worker process was killed", "engine.threads=1"):
        list(in_pool(die_at_three, numbered(8), 2))


@pytest.mark.slow
def test_an_error_of_a_worker_comes_as_it_is() -> None:
    results = in_pool(fail_at_two, numbered(8), 2)
    assert [next(results), next(results)] == [("im0", 0), ("im1", 1)]
    with pytest.raises(DataError, match="maps of 'im2' hold NaN"):
        next(results)


@pytest.mark.slow
def test_a_pool_writes_the_bytes_of_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with registered():
        recipe = str(few_masks_recipe(tmp_path))
        alone = files_of(run(recipe, out=tmp_path / "alone" / "run").path)
        monkeypatch.setattr(images, "WORTH_A_POOL", 3)
        together = files_of(run(recipe, "engine.threads=2", out=tmp_path / "pool" / "run").path)
    assert together == alone
    assert len([n for n in alone if n.startswith("refined/masks/")]) == 12


UNGUARDED = """
import sys
from tag2mask.pipeline.worker_pool import in_pool
from tests.pipeline.pool_work import square
print("script", flush=True)
print([r for _, r in in_pool(square, ((i, i) for i in range(4)), 2)], flush=True)
"""


@pytest.mark.slow
def test_a_script_without_a_main_guard_is_not_run_again(tmp_path: Path) -> None:
    """What a notebook cell or a five-line script does: call ``tag2mask.run`` at the top level."""
    script = tmp_path / "script.py"
    script.write_text(UNGUARDED)
    root = Path(__file__).resolve().parents[2]
    path = os.pathsep.join([str(root), os.environ["PYTHONPATH"]])
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    assert done.stdout == "script\n[0, 1, 4, 9]\n", done.stderr


ENDLESS = """
import sys
from tag2mask.pipeline.worker_pool import in_pool
from tests.pipeline.pool_work import forever
list(in_pool(forever, ((i, i) for i in range(4)), 2))
"""


@pytest.mark.slow
@pytest.mark.parametrize("killer", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_a_killed_parent_and_leave_ctrl_c_to_it(killer: signal.Signals) -> None:
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ["PYTHONPATH"]])}
    with subprocess.Popen(
        [sys.executable, "-c", ENDLESS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as parent:
        assert parent.stdout is not None
        pids = [int(parent.stdout.readline()) for _ in range(2)]
        if killer == signal.SIGINT:  # as a terminal sends it: to all of the group
            for pid in pids:
                os.kill(pid, signal.SIGINT)
            time.sleep(0.5)
            assert all(alive(pid) for pid in pids), "a worker leaves Ctrl-C to its parent"
            parent.send_signal(signal.SIGINT)
            time.sleep(0.5)
        parent.kill()
        parent.wait(30)
        deadline = time.monotonic() + 30
        while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not any(alive(pid) for pid in pids)
