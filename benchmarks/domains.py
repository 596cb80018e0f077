"""The default recipe on kinds of data that are not photographs of animals, without ground truth: `results/domains.csv`.

python -m benchmarks.domains ../shared/data                                      all sets, one seed
python -m benchmarks.domains ../shared/data --set cracks --until seeds seeds=[0,1,2]

Each folder of ``domains`` in the data is a set: ``NAME`` with ``images``, ``tags.csv`` and ``masks``, which are for
measuring alone, and ``NAME-new``, photos that nobody tagged. The runs and their store lie in ``--runs`` and resume.
Beside what the recipe makes stand the trivial answers: all background, and for each image one of its tags at random.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import tag2mask
from benchmarks.common import RESULTS, write_rows
from tag2mask.core.errors import command
from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset, Labels
from tag2mask.data.mask_files import read_labels
from tag2mask.evaluation.metrics import SegmentationMetrics
from tag2mask.evaluation.result_tables import ResultRow
from tag2mask.pipeline.run_result import RunResult

RECIPE = "own-data"
SEEDS = ("cam-seeds", "lpcam-f-seeds", "lpcam-seeds", "amn-lpcam-seeds")
MEASURED = ("miou", "miou_foreground")


@dataclass(frozen=True, slots=True)
class DomainRow:
    """One answer on one set, percent; ``seconds_per_image`` are those of all stages of the run together."""

    kind: str
    method: str
    split: str
    n_images: int
    threshold_kind: str
    threshold: float | None
    miou: float | None
    miou_foreground: float | None
    seed: int
    seconds_per_image: float | None
    command: str


def sets(data: Path, chosen: str | None) -> list[Path]:
    """The sets of a folder of data, or the one of that name."""
    found = sorted(p for p in (data / "domains").iterdir() if (p / "tags.csv").is_file())
    return [p for p in found if chosen in (None, p.name)]


def measured(kind: str, result: RunResult, words: str) -> Iterator[DomainRow]:
    """What a run measured: a row for each stage, threshold and seed."""
    each = sum(done.manifest.seconds for done in result.stages) / result.stages[0].manifest.n_images
    found: dict[ResultRow, dict[str, float | None]] = {}
    for row in (metric.result(words) for metric in result.metrics):
        if row.metric in MEASURED:
            found.setdefault(replace(row, metric="", value=None), {})[row.metric] = row.value
    for row, values in found.items():
        yield DomainRow(
            kind, row.method, row.split, row.n_images, row.threshold_kind, row.threshold, values.get("miou"),
            values.get("miou_foreground"), row.seed, round(each, 2), words,
        )  # fmt: skip


def trivial(kind: str, dataset: Dataset, words: str) -> Iterator[DomainRow]:
    """All background, and one random own tag an image (the background, where it has none)."""
    draw = random.Random(0)

    def one_tag(sample: Sample) -> int:
        return draw.choice(sample.tags) + 1 if sample.tags else 0

    for method, label in (("all background", lambda _: 0), ("one random own tag", one_tag)):
        truths = ((dataset.truth(sample), label(sample)) for sample in dataset.samples)
        pairs = ((truth, np.full_like(truth, value)) for truth, value in truths if truth is not None)
        yield _row(kind, method, dataset.split, dataset.classes, pairs, words)


def predicted(kind: str, run: Path, new: Path, words: str) -> Iterator[DomainRow]:
    """The network of a run on photos that nobody tagged."""
    model = tag2mask.load(run)
    photos = sorted(p for p in (new / "images").iterdir())
    pairs = ((read_labels(new / "masks" / f"{p.stem}.png"), model(p).labels) for p in photos)
    yield _row(kind, "network", new.name, model.classes, pairs, words)


def _row(
    kind: str, method: str, split: str, classes: Sequence[str], pairs: Iterable[tuple[Labels, Labels]], words: str
) -> DomainRow:
    metrics, count = SegmentationMetrics(classes), 0
    for truth, labels in pairs:
        metrics.update(labels, truth)
        count += 1
    values = dict(metrics.compute().values())
    return DomainRow(
        kind, method, split, count, "none", None, values["miou"], values["miou_foreground"], 0, None, words
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Run, and write the table anew after each set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder that holds domains/")
    parser.add_argument("words", nargs="*", help="key=value for the recipe, such as seeds=[0,1,2]")
    parser.add_argument("--set", help="one set alone")
    parser.add_argument("--until", choices=["seeds"], help="without masks and network")
    parser.add_argument("--runs", type=Path, default=Path("runs/domains"), help="where the runs lie")
    parser.add_argument("--out", type=Path, default=RESULTS / "domains.csv")
    given = parser.parse_args(arguments)
    rows: list[DomainRow] = []
    for folder in sets(given.data, given.set):
        overrides, out = [f"data.root={folder}", *given.words], given.runs / folder.name
        only = SEEDS if given.until else ()
        words = command("run", RECIPE, *overrides, *(word for stage in only for word in ("--only", stage)))
        result = tag2mask.run(RECIPE, *overrides, out=out, only=only)
        rows += [
            *measured(folder.name, result, words),
            *trivial(folder.name, tag2mask.open_run(out).dataset("cam"), words),
        ]
        new = folder.with_name(f"{folder.name}-new")
        if not given.until and new.is_dir():
            rows += predicted(folder.name, out, new, words)
        write_rows(given.out, rows)


if __name__ == "__main__":
    main()
