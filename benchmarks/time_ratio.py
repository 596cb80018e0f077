"""Time an image of the default recipe against an earlier commit's, in turns in one run: `results/time-ratio.csv`.

git worktree add ../before bfc5c38
python -m benchmarks.time_ratio ../before ../shared/data
python -m benchmarks.time_ratio ../before ../shared/data --set cracks --turns 3 --most 3

Both sides run ``own-data`` in a process of their own, with their own source, on the same images and threads, from an
empty store each time: before, ours, ours, before, ... so that both meet the same load. What counts are the seconds of
all stages but those that measure, as their manifests have them, over the number of tagged images; start-up is left out.
``megabytes`` is what a stage's files take on disk; ``disk_ratio`` ours over before's, of the same stages together.
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
from typing import NamedTuple

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
    megabytes: float
    ratio: float | None
    disk_ratio: float | None
    cpu: str


class Spent(NamedTuple):
    """What one stage took."""

    name: str
    n_images: int
    seconds: float
    megabytes: float


def spent(run: Path) -> Iterator[Spent]:
    """What each stage of a run that made something took; the seconds of a pass that stages share count once."""
    seen: set[str] = set()
    for link in links_in(run):
        folder = followed(link).resolve()
        manifest = read_json(folder / "manifest.json")
        kind = folder.name.rpartition("-")[0]
        if kind in MEASURING:
            continue
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6
        seconds = 0.0 if link.name in seen else float(manifest["seconds"])
        seen.update(manifest["shared_with"])
        yield Spent(link.name, int(manifest["n_images"]), seconds, size)


def timed(source: Path, words: Sequence[str], out: Path) -> list[Spent]:
    """Run the recipe with one side's source from an empty store."""
    shutil.rmtree(out.parent, ignore_errors=True)
    environment = {**os.environ, "PYTHONPATH": str(source / "src")}
    command = [sys.executable, "-m", "tag2mask", "run", RECIPE, *words, "--out", str(out)]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    return list(spent(out))


def total(stages: Sequence[Spent], n_images: int) -> Spent:
    """All stages together."""
    return Spent(TOTAL, n_images, sum(stage.seconds for stage in stages), sum(stage.megabytes for stage in stages))


def turn(
    domain: Domain, number: int, before: Path, words: Sequence[str], scratch: Path
) -> tuple[list[StageTime], float]:
    """Both sides once, the first of them in turn, and the ratio of their times an image."""
    sides = [(BEFORE, before), (OURS, ROOT)]
    found: dict[str, list[Spent]] = {}
    for side, source in sides if number % 2 == 0 else reversed(sides):
        found[side] = timed(source, [*domain.words, *words], scratch / f"{side}-{domain.name}" / "run")
    n_images = len(domain.dataset())
    found = {side: [*stages, total(stages, n_images)] for side, stages in found.items()}
    ours, theirs = found[OURS][-1], found[BEFORE][-1]
    ratio, disk, cpu = ours.seconds / theirs.seconds, ours.megabytes / theirs.megabytes, cpu_name()
    rows = [
        StageTime(
            domain.name, number, side, stage.name, stage.n_images, stage.seconds,
            stage.seconds / stage.n_images if stage.n_images else 0.0, stage.megabytes,
            ratio if stage is ours else None, disk if stage is ours else None, cpu,
        )
        for last in (False, True)
        for side, stages in found.items()
        for stage in stages
        if (stage.name == TOTAL) is last
    ]  # fmt: skip
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
