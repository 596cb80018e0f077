"""Time an image of the default recipe against an earlier commit's, in turns in one run: `results/time-ratio.csv`.

git worktree add ../before bfc5c38
python -m benchmarks.time_ratio ../before ../shared/data
python -m benchmarks.time_ratio ../before ../shared/data --set cracks --turns 3 --most 3

Both sides run ``own-data`` in a process of their own, with their own source, on the same images and threads, from an
empty store each time: before, ours, ours, before, ... so that both meet the same load. What counts are the seconds of
all stages but those that measure, as their manifests have them, over the number of tagged images; start-up is left out.
The exit code is 1 where the median ratio is above ``--most``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common import RESULTS, cpu_name, write_rows
from benchmarks.domains import RECIPE, Domain, sets
from tag2mask.core.files import read_json
from tag2mask.core.links import followed, links_in

OURS, BEFORE = "ours", "before"
ROOT = Path(__file__).resolve().parent.parent
TOTAL = "all"
MEASURING = ("average-precision", "seeds", "masks", "boundary")
"""Kinds of stage that measure and make nothing: their time is no part of the chain's."""


@dataclass(frozen=True, slots=True)
class StageTime:
    """One stage of one turn; the last of a turn is of all stages together, ``ratio`` ours over before's."""

    kind: str
    turn: int
    side: str
    stage: str
    n_images: int
    seconds: float
    seconds_per_image: float
    ratio: float | None
    cpu: str


def stage_seconds(run: Path) -> Iterator[tuple[str, int, float]]:
    """Name, images and seconds of each stage of a run that made something; passes that stages share count once."""
    seen: set[str] = set()
    for link in links_in(run):
        folder = followed(link).resolve()
        manifest = read_json(folder / "manifest.json")
        kind = folder.name.rpartition("-")[0]
        if link.name in seen or kind in MEASURING:
            continue
        seen.update(manifest["shared_with"])
        yield link.name, int(manifest["n_images"]), float(manifest["seconds"])


def timed(source: Path, words: Sequence[str], out: Path) -> list[tuple[str, int, float]]:
    """Run the recipe with one side's source from an empty store."""
    shutil.rmtree(out.parent, ignore_errors=True)
    environment = {**os.environ, "PYTHONPATH": str(source / "src")}
    command = [sys.executable, "-m", "tag2mask", "run", RECIPE, *words, "--out", str(out)]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    return list(stage_seconds(out))


def turn(
    domain: Domain, number: int, before: Path, words: Sequence[str], scratch: Path
) -> tuple[list[StageTime], float]:
    """Both sides once, the first of them in turn, and the ratio of their times an image."""
    sides = [(BEFORE, before), (OURS, ROOT)]
    found: dict[str, list[tuple[str, int, float]]] = {}
    for side, source in sides if number % 2 == 0 else reversed(sides):
        found[side] = timed(source, [*domain.words, *words], scratch / f"{side}-{domain.name}" / "run")
    n_images = len(domain.dataset())
    totals = {side: sum(seconds for *_, seconds in stages) / n_images for side, stages in found.items()}
    ratio, cpu = totals[OURS] / totals[BEFORE], cpu_name()
    rows = [
        StageTime(domain.name, number, side, name, images, seconds, seconds / images if images else 0.0, None, cpu)
        for side, stages in found.items()
        for name, images, seconds in stages
    ]
    rows += [
        StageTime(
            domain.name, number, side, TOTAL, n_images, each * n_images, each, ratio if side == OURS else None, cpu
        )
        for side, each in totals.items()
    ]
    return rows, ratio


def main(arguments: Sequence[str] | None = None) -> None:
    """Time, and write the rows of the set anew after each turn; those of other sets stay."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="folder with the source of the earlier commit")
    parser.add_argument("data", type=Path, help="folder that holds domains/ and voc-animals/")
    parser.add_argument("words", nargs="*", help="key=value for the recipes of both sides, such as engine.threads=2")
    parser.add_argument("--set", default="animals")
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--most", type=float, default=1.3, help="the ratio that is allowed")
    parser.add_argument("--scratch", type=Path, default=Path("runs/time-ratio"), help="emptied before each run")
    parser.add_argument("--out", type=Path, default=RESULTS / "time-ratio.csv")
    given = parser.parse_args(arguments)
    (domain,) = sets(given.data, [given.set])
    rows: list[StageTime] = []
    ratios: list[float] = []
    for number in range(given.turns):
        more, ratio = turn(domain, number, given.before.resolve(), given.words, given.scratch)
        rows += more
        ratios.append(ratio)
        write_rows(given.out, rows, keep="kind")
        sys.stdout.write(f"{domain.name}, turn {number}: {ratio:.2f} times\n")
    median = statistics.median(ratios)
    sys.stdout.write(f"{domain.name}: {median:.2f} times an image of before, at most {given.most:g} allowed\n")
    if median > given.most:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
