"""``python -m benchmarks.fuzz``: many broken inputs of every reader, counted; failures are printed."""

from __future__ import annotations

import argparse
import csv
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks.common import RESULTS
from benchmarks.fuzz.engine import cases
from benchmarks.fuzz.sandbox import FAILURES
from benchmarks.fuzz.targets import NAMES, Target, targets
from tag2mask.core.files import write_text
from tag2mask.evaluation.result_tables import csv_text

COLUMNS = ("commit", "reader", "attempts", "accepted", "refused", *FAILURES, "seed", "seconds")


def main() -> None:
    """Try every reader, or those named, and add the counts to ``results/fuzz.csv``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.add_argument("readers", nargs="*", help="of " + ", ".join(NAMES))
    parser.add_argument("-n", type=int, default=1000, help="attempts at each reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0, help="number of the first attempt, to make one again")
    parser.add_argument(
        "--out", type=Path, default=RESULTS / "fuzz.csv", help="CSV whose rows of this commit are replaced"
    )
    parser.add_argument("--commit", default="", help="name of the code that is tried; of git where left out")
    given = parser.parse_args()
    commit = (
        given.commit
        or subprocess.run(
            ["git", "rev-parse", "--short=7", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
    )
    for target in targets(given.readers or NAMES):
        row = {"commit": commit, **_tried(target, given.n, given.seed, given.start)}
        _write(given.out, row)


def _tried(target: Target, n: int, seed: int, start: int) -> dict[str, object]:
    began = time.monotonic()
    counts: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for case in cases(target, Path(folder), n, seed, start):
            counts[case.verdict.outcome] += 1
            if case.verdict.failed:
                kind = f"{case.verdict.outcome} {case.verdict.detail.partition(': ')[0]}"
                if not kinds[kind]:
                    print(
                        f"{target.name} {case.number} {case.file}: {case.verdict.outcome}: {case.verdict.detail[:300]}"
                    )
                kinds[kind] += 1
    seconds = round(time.monotonic() - began, 1)
    print(f"{target.name}: {dict(counts)} in {seconds} s; failures: {dict(kinds)}", flush=True)
    outcomes = {name: counts[name] for name in ("accepted", "refused", *FAILURES)}
    return {"reader": target.name, "attempts": n, **outcomes, "seed": seed, "seconds": seconds}


def _write(path: Path, row: dict[str, object]) -> None:
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines())) if path.exists() else []
    kept = [r for r in rows if (r["commit"], r["reader"]) != (row["commit"], row["reader"])]
    write_text(path, csv_text([COLUMNS, *([line.get(name, "") for name in COLUMNS] for line in [*kept, row])]))


if __name__ == "__main__":
    main()
