"""The default recipe on several kinds of data, without ground truth, against its floors: `results/domains.csv`.

python -m benchmarks.domains ../shared/data                                      all sets, three seeds
python -m benchmarks.domains ../shared/data --set cracks --until seeds           one set, maps and seeds alone
python -m benchmarks.domains ../shared/data --seeds 0 classifier.train.epochs=2  further words are for the recipe

Each folder of ``domains`` in the data is a set: ``NAME`` with ``images``, ``tags.csv`` and ``masks``, which are for
measuring alone, and ``NAME-new``, photos that nobody tagged; ``animals`` are the 300 images of voc-animals that
``benchmarks/voc-animals-300.txt`` names. The runs and their store lie in ``--runs`` and resume.

A row is one answer on one set, ``seed`` an index or ``mean`` over all; each mean of what the network learned from
(``masks``) has its floor beside it: ``must`` and ``aim`` in percent of ``miou_foreground``, and whether they are met,
with no seed more than 3 below ``must``. ``animals`` are held against `BEFORE`, the default before these floors. Beside
what the recipe makes stand the trivial answers, all background and one random own tag an image, and the network on the
new photos beside the same network trained on the ground truth of the same images: ``share`` is what percentage of its
``miou_foreground`` tags alone reach, with the 95 % interval of a paired bootstrap over the photos. Time and memory of
each stage go to ``domains-stages.csv``. With ``--set`` the tables' rows of other sets stay as they are.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import tag2mask
from benchmarks.collect import StageCost, stage_costs
from benchmarks.common import RESULTS, write_rows
from tag2mask.config.recipe import load_recipe
from tag2mask.core.errors import command
from tag2mask.core.names import of_seed
from tag2mask.data.base import Dataset
from tag2mask.data.mask_files import read_labels
from tag2mask.data.registry import open_split
from tag2mask.evaluation.bootstrap import ImageCounts, label_counts, paired_bootstrap
from tag2mask.evaluation.confusion import LabelImage, Matrix, confusion_matrix
from tag2mask.evaluation.measures.trivial import TRIVIAL
from tag2mask.evaluation.metrics import SegmentationScores
from tag2mask.evaluation.result_tables import read_csv
from tag2mask.pipeline.plan import make_plan
from tag2mask.pipeline.run_result import RunResult

RECIPE = "own-data"
MEASURED = ("miou", "miou_foreground", "f1_foreground", "iou@2px")
ANIMALS = "cat,cow,dog,horse,person,sheep"
LIST = "benchmarks/voc-animals-300.txt"
BEFORE = RESULTS / "domains-before.csv"
"""The table as it was before the floors, one seed: what ``animals`` must not fall below."""
BELOW = 3.0
"""Points that no single seed may lie below the floor."""


@dataclass(frozen=True, slots=True)
class Floor:
    """What a number has to be, percent, mean over the seeds; None where nothing was set."""

    must: float | None
    aim: float | None

    def met(self, value: float, *, steady: bool = True) -> str:
        """``aim`` or ``must`` where that is reached, else ``no``."""
        if self.aim is not None and value >= self.aim and steady:
            return "aim"
        return "must" if self.must is not None and value >= self.must and steady else "no"


FLOORS = {"cracks": Floor(17, 30), "weeds": Floor(46, 60), "landuse": Floor(87, 90)}
"""By set; those of the animals follow from `BEFORE`: at most 0.5 lower, and 2 higher."""
SHARES = {"cracks": Floor(None, 60), "weeds": Floor(85, None), "landuse": Floor(85, None)}
"""Percent that the network has of the one which ground truth trained, on photos that nobody tagged."""


@dataclass(frozen=True, slots=True)
class Domain:
    """One set: its name, the words of a recipe that name its data, the photos that nobody tagged."""

    name: str
    words: tuple[str, ...]
    new: Path | None = None

    def dataset(self) -> Dataset:
        """The tagged images, as the recipe sees them."""
        plan = make_plan(load_recipe(RECIPE, self.words))
        return open_split(plan.data_kind, plan.data, plan.data.infer)


@dataclass(frozen=True, slots=True)
class DomainRow:
    """One answer on one set, percent; empty where it was not measured or is not defined."""

    kind: str
    method: str
    split: str
    n_images: int
    threshold_kind: str
    threshold: float | None
    miou: float | None
    miou_foreground: float | None
    f1_foreground: float | None
    iou_2px: float | None  # of thin classes, see `evaluation.measures.tolerance`
    seed: int | str
    must: float | None = None
    aim: float | None = None
    met: str = ""  # must, aim, no
    share: float | None = None
    share_low: float | None = None
    share_high: float | None = None
    seconds_per_image: float | None = None  # of all stages of the run together, one seed
    command: str = ""


@dataclass(frozen=True, slots=True)
class DomainStage:
    """What one stage of one set cost, as in `StageCost`."""

    kind: str
    stage: str
    n_images: int
    seconds: float
    seconds_per_image: float
    peak_memory_mb: int
    shared_with: str


def sets(data: Path, chosen: Sequence[str] | None) -> list[Domain]:
    """The sets of a folder of data, or those of these names."""
    found = []
    for folder in sorted(p for p in (data / "domains").glob("*") if (p / "tags.csv").is_file()):
        new = folder.with_name(f"{folder.name}-new")
        found.append(Domain(folder.name, (f"data.root={folder}",), new if new.is_dir() else None))
    voc = data / "voc-animals"
    if voc.is_dir():
        split = f"train@{LIST}"
        words = ("data=voc", f"data.root={voc}", f"data.classes=[{ANIMALS}]", f"data.train={split}")
        found.append(Domain("animals", (*words, f"data.infer={split}")))
    return [domain for domain in found if not chosen or domain.name in chosen]


def measured(kind: str, result: RunResult, n_seeds: int, words: str) -> Iterator[DomainRow]:
    """What a run measured: a row for each stage, threshold and seed, then the means over several seeds."""
    each = sum(d.manifest.seconds for d in result.stages) / result.stages[0].manifest.n_images / n_seeds
    found: dict[tuple[Any, ...], dict[str, float | None]] = {}
    for row in result.metrics:
        if row.metric in MEASURED:
            key = (row.method, row.split, row.n_images, row.threshold_kind, row.seed, row.threshold)
            found.setdefault(key, {})[row.metric] = row.value
    rows = [
        _row(kind, key, values, None if key[0] in TRIVIAL else round(each, 2), words) for key, values in found.items()
    ]
    yield from rows
    yield from means(rows) if n_seeds > 1 else ()


def _row(
    kind: str, key: tuple[Any, ...], values: Mapping[str, float | None], each: float | None, words: str
) -> DomainRow:
    method, split, n_images, threshold_kind, seed, threshold = key
    miou, foreground, f1, near = (values.get(metric) for metric in MEASURED)
    return DomainRow(
        kind, method, split, n_images, threshold_kind, threshold, miou, foreground, f1, near, seed,
        seconds_per_image=each, command=words,
    )  # fmt: skip


def means(rows: Iterable[DomainRow]) -> Iterator[DomainRow]:
    """The mean over the seeds of each method, split and kind of threshold; the threshold where it is one and the same.

    A stage that a recipe measures at two thresholds of one kind has a mean for each, in the order of the recipe.
    """
    groups: dict[tuple[object, ...], list[DomainRow]] = {}
    places: dict[tuple[object, ...], int] = {}
    for row in rows:
        one = (row.kind, row.method, row.split, row.threshold_kind)
        places[*one, row.seed] = place = places.get((*one, row.seed), -1) + 1
        groups.setdefault((*one, place), []).append(row)
    for group in groups.values():
        first = group[0]
        if len(group) == 1:
            continue  # of a stage that all seeds share, or a trivial answer
        same = len({row.threshold for row in group}) == 1
        yield replace(
            first,
            threshold=first.threshold if same else None,
            miou=_mean(row.miou for row in group),
            miou_foreground=_mean(row.miou_foreground for row in group),
            f1_foreground=_mean(row.f1_foreground for row in group),
            iou_2px=_mean(row.iou_2px for row in group),
            seed="mean",
        )


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(fmean(known), 4) if known else None


def floor_of(kind: str, method: str) -> Floor | None:
    """The floor of a set; that of the animals from what the same masks reached before."""
    if kind in FLOORS:
        return FLOORS[kind]
    if not BEFORE.is_file():
        return None
    header, *lines = read_csv(BEFORE)
    rows = [dict(zip(header, line, strict=True)) for line in lines]
    known = [row for row in rows if row["kind"] == kind and row["method"] == method]
    values = [float(r["miou_foreground"]) for r in known if r["seed"] == "mean"] or [
        float(r["miou_foreground"]) for r in known
    ]
    return Floor(values[0] - 0.5, values[0] + 2) if values else None


def judged(rows: Sequence[DomainRow], masks: str, floor: Floor | None) -> list[DomainRow]:
    """The rows, those of the masks with their floor: on the mean, or on the one seed where there is one."""
    mine = [row for row in rows if row.method == masks and row.miou_foreground is not None]
    values = [row.miou_foreground for row in mine if row.seed != "mean" and row.miou_foreground is not None]
    if floor is None or not values:
        return list(rows)
    last = mine[-1]
    assert last.miou_foreground is not None
    met = floor.met(last.miou_foreground, steady=floor.must is None or min(values) >= floor.must - BELOW)
    found = replace(last, must=floor.must, aim=floor.aim, met=met)
    return [found if row is last else row for row in rows]


def counted(run: Path, stage: str, new: Path) -> tuple[list[Matrix], tuple[str, ...]]:
    """Confusion matrices of one network on the photos that nobody tagged, in order of their names."""
    model = tag2mask.load(run, stage=stage)
    size, found = len(model.classes) + 1, []
    for photo in sorted((new / "images").iterdir()):
        truth: LabelImage = read_labels(new / "masks" / f"{photo.stem}.png")
        found.append(confusion_matrix(model(photo).labels, truth, size, sample_id=photo.stem))
    return found, model.classes


def networks(domain: Domain, runs: tuple[Path, Path], seeds: Sequence[int], words: str) -> Iterator[DomainRow]:
    """The network of tags, and that of ground truth, on photos that nobody tagged; the first with its share."""
    assert domain.new is not None
    sides: list[list[ImageCounts]] = []
    every: list[list[DomainRow]] = []
    for run, method in zip(runs, ("network", "network, trained on ground truth"), strict=True):
        images: list[ImageCounts] = []
        rows = []
        for seed in seeds:
            stage = "segmenter" if len(seeds) == 1 else of_seed("segmenter", seed)
            matrices, classes = counted(run, stage, domain.new)
            images.append(ImageCounts.of([label_counts(matrix) for matrix in matrices]))
            values = dict(SegmentationScores.of_split(sum(matrices[1:], matrices[0]), classes).values())
            key = (method, domain.new.name, len(matrices), "none", seed, None)
            rows.append(_row(domain.name, key, values, None, words))
        sides.append(images)
        every.append([*rows, *(means(rows) if len(rows) > 1 else ())])
    share = paired_bootstrap(sides[1], sides[0]).share
    floor = SHARES.get(domain.name, Floor(None, None))
    numbers = [None if math.isnan(v) else round(v, 2) for v in (share.value, share.low, share.high)]
    met = floor.met(share.value) if domain.name in SHARES else ""
    yield from every[0][:-1]
    yield replace(
        every[0][-1], must=floor.must, aim=floor.aim, met=met, share=numbers[0], share_low=numbers[1],
        share_high=numbers[2],
    )  # fmt: skip
    yield from every[1]


def stages(kind: str, costs: Iterable[StageCost]) -> Iterator[DomainStage]:
    """What each stage of a run cost."""
    for cost in costs:
        yield DomainStage(
            kind, cost.stage, cost.n_images, cost.seconds, cost.seconds_per_image, cost.peak_memory_mb,
            cost.shared_with,
        )  # fmt: skip


def run_domain(
    domain: Domain, runs: Path, seeds: Sequence[int], words: Sequence[str], *, until_seeds: bool
) -> tuple[list[DomainRow], list[DomainStage]]:
    """Run the recipe on one set, and the same network on its ground truth where there are new photos."""
    given = [*domain.words, f"seeds=[{','.join(map(str, seeds))}]", *words]
    stages_of = load_recipe(RECIPE, given).stages
    only = [name for name, spec in stages_of.items() if spec["kind"] == "seeds"] if until_seeds else []
    shown = command("run", RECIPE, *given, *(word for stage in only for word in ("--only", stage)))
    out = runs / domain.name
    result = tag2mask.run(RECIPE, *given, out=out, only=only)
    rows = list(measured(domain.name, result, len(seeds), shown))
    if not until_seeds:
        masks = str(stages_of["segmenter"]["reads"]["masks"])
        rows = judged(rows, masks, floor_of(domain.name, masks))
        if domain.new is not None:
            truth = ["segmenter.truth=true", "segmenter.reads={}", "allow_supervision=[tags,pixel-masks]"]
            there = runs / f"{domain.name}-truth"
            tag2mask.run(RECIPE, *given, *truth, out=there, only=["segmenter"])
            rows += networks(domain, (out, there), seeds, shown)
    return rows, list(stages(domain.name, stage_costs(out, shown)))


def said(rows: Iterable[DomainRow]) -> Iterator[str]:
    """A line for each floor."""
    for row in rows:
        if not row.met:
            continue
        value = row.miou_foreground if row.share is None else row.share
        what = "fg" if row.share is None else f"% of ground truth's ({row.share_low} .. {row.share_high})"
        floors = ", ".join(f"{n} {v:g}" for n, v in (("must", row.must), ("aim", row.aim)) if v is not None)
        met = {"no": "NOT MET", "must": "must is met", "aim": "aim is met"}[row.met]
        yield f"{row.kind}, {row.method}: {value:.1f} {what}; {floors}: {met}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run, and write the rows of each set in the place of those that the tables have of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder that holds domains/ and voc-animals/")
    parser.add_argument("words", nargs="*", help="key=value for the recipe, such as data.max_side=320")
    parser.add_argument("--set", action="append", help="one set alone; repeatable")
    parser.add_argument("--until", choices=["seeds"], help="without masks and network")
    parser.add_argument("--seeds", default="0,1,2", help="of the recipe")
    parser.add_argument("--runs", type=Path, default=Path("runs/domains"), help="where the runs lie")
    parser.add_argument("--out", type=Path, default=RESULTS / "domains.csv")
    given = parser.parse_args(arguments)
    seeds = [int(seed) for seed in given.seeds.split(",")]
    for domain in sets(given.data, given.set):
        more, spent = run_domain(domain, given.runs, seeds, given.words, until_seeds=bool(given.until))
        write_rows(given.out, more, keep="kind")
        write_rows(given.out.with_name(f"{given.out.stem}-stages.csv"), spent, keep="kind")
        sys.stdout.write("".join(f"{line}\n" for line in said(more)))


if __name__ == "__main__":
    main()
