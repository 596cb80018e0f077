"""Threads of torch on free and on busy cores: a thread for each core beside a single one, spinning or asleep.

Run ``python -m benchmarks.threads`` on a machine that does nothing else; it writes ``results/threads.csv``. A step is
one training step of EfficientNet-Lite0 on four images of 128 x 128. Other programs are played by loops without an end.
OpenMP's threads wait for one another many times in a step: ``spinning`` is what they do by default, ``asleep`` what
tag2mask has them do (``OMP_WAIT_POLICY=passive``). The baseline is one thread, beside the same other programs.

The claims: on free cores threads that sleep are at most a fifth slower than threads that spin; on busy cores they are
at most a quarter slower than a single thread, where threads that spin are slower the more there is beside them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from benchmarks.common import RESULTS, Row, compare, write_rows

RUNS, STEPS = 3, 2
WAITING = {"spinning": {}, "asleep": {"OMP_WAIT_POLICY": "passive"}}
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
STEPPER = f"""
import sys
import timm, torch
torch.manual_seed(0)
net = timm.create_model("efficientnet_lite0", num_classes=3)
images = torch.rand(4, 3, 128, 128)
optimiser = torch.optim.SGD(net.parameters(), lr=1e-3)
for _ in sys.stdin:
    for _ in range({STEPS}):
        optimiser.zero_grad()
        net(images).square().mean().backward()
        optimiser.step()
    print("done", flush=True)
"""


class Stepper:
    """A process that trains a few steps at each call.

    Args:
        threads: of torch.
        environment: added to that of this process.
    """

    def __init__(self, threads: int, environment: dict[str, str]) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "KMP_"))}
        self._process = subprocess.Popen(
            [sys.executable, "-c", STEPPER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**kept, "OMP_NUM_THREADS": str(threads), **environment},
        )  # fmt: skip

    def __call__(self) -> None:
        """Take the steps."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        if self._process.stdout.readline() != "done\n":
            raise RuntimeError(f"the process that trains ended with {self._process.wait()}")

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()


OTHER = """
import os, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0))).start()
while True:
    pass
"""
"""Ends with the process that has started it."""


@contextmanager
def other_programs(count: int) -> Iterator[None]:
    """So many processes that take a core each."""
    processes = [subprocess.Popen([sys.executable, "-c", OTHER], stdin=subprocess.PIPE) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def measure() -> list[Row]:
    """Each way of waiting beside a single thread: cores free, some taken, all taken."""
    rows = []
    for count in sorted({0, CORES // 2, CORES}):
        for name, environment in WAITING.items():
            single, all_cores = Stepper(1, {}), Stepper(CORES, environment)
            try:
                with other_programs(count):
                    variant = f"{name}, {count} of {CORES} cores taken"
                    row = compare("threads", all_cores, single, runs=RUNS, variant=variant)
            finally:
                single.close()
                all_cores.close()
            rows.append(replace(row, threads=CORES))
    return rows


def main(words: Sequence[str]) -> None:
    """Measure and write; ``--out FILE`` for another place."""
    rows = measure()
    write_rows(Path(words[1]) if words[:1] == ["--out"] else RESULTS / "threads.csv", rows)
    for row in rows:
        print(f"{row.variant}: {row.seconds_median:.2f} s, one thread {row.baseline_seconds_median:.2f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
