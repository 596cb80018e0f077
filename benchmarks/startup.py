"""How quickly tag2mask starts: whole processes that import it and that print its help, beside a bare interpreter.

Run ``python -m benchmarks.startup``; it writes ``results/startup.csv``. The claims: ``import tag2mask`` adds less than
0.3 s to a bare interpreter, ``tag2mask --help`` takes less than 1 s as a whole.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

from benchmarks.common import RESULTS, Row, compare, write_rows

RUNS = 15
VARIANTS = {
    "import tag2mask": ["-c", "import tag2mask"],
    "tag2mask --help": ["-m", "tag2mask", "--help"],
}


def process(arguments: list[str]) -> Callable[[], object]:
    """A call that runs this interpreter with those arguments to its end."""
    return lambda: subprocess.run([sys.executable, *arguments], check=True, capture_output=True)


def measure() -> list[Row]:
    """Each variant beside ``python -c pass``."""
    bare = process(["-c", "pass"])
    return [compare("startup", process(args), bare, runs=RUNS, variant=name) for name, args in VARIANTS.items()]


if __name__ == "__main__":
    rows = measure()
    write_rows(RESULTS / "startup.csv", rows)
    for row in rows:
        print(f"{row.variant}: {row.seconds_median:.3f} s, bare interpreter {row.baseline_seconds_median:.3f} s")
