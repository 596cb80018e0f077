"""What trivial answers reach on the data sets that the docs' tables are about: `results/trivial.csv`.

python -m benchmarks.trivial ../shared/data

From ground truth alone, in seconds: all background, and one random own tag an image, see
`evaluation.measures.trivial`. Every run measures them beside its own numbers; this is for tables older than that.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common import RESULTS, write_rows
from benchmarks.domains import ANIMALS, sets
from tag2mask.core.errors import quoted
from tag2mask.data.base import Dataset
from tag2mask.data.registry import load_dataset
from tag2mask.evaluation.measures.trivial import METRICS, Beside
from tag2mask.evaluation.result_tables import now


@dataclass(frozen=True, slots=True)
class TrivialRow:
    """One answer on one split, percent; ``thin`` are the classes that IoU with a tolerance is told of."""

    data: str
    split: str
    n_images: int
    method: str
    miou: float | None
    miou_foreground: float | None
    f1_foreground: float | None
    thin: str
    command: str


def splits(data: Path) -> Iterator[tuple[str, Dataset]]:
    """Name and split of each data set."""
    animals = tuple(ANIMALS.split(","))
    for split in ("train", "val"):
        yield "voc-animals", load_dataset("voc", data / "voc-animals", split, classes=animals)
    for domain in sets(data, None):
        yield domain.name, domain.dataset()


def answers(name: str, dataset: Dataset, words: str) -> Iterator[TrivialRow]:
    """Every answer on a split."""
    beside = Beside(dataset.classes)
    for sample in dataset.samples:
        truth = dataset.truth(sample)
        if truth is not None:
            beside.update(truth, sample, dataset.enlargement(sample))
    rows = beside.trivial.rows(split=dataset.split, seed=0, time=now())
    thin = " ".join(dataset.classes[column] for column in beside.thin())
    for method in dict.fromkeys(row.method for row in rows):
        values = {row.metric: row.value for row in rows if row.method == method}
        miou, foreground, f1 = (values[metric] for metric in METRICS)
        n_images = beside.trivial.n_images
        yield TrivialRow(name, dataset.split, n_images, method, miou, foreground, f1, thin, words)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder that holds domains/ and voc-animals/")
    parser.add_argument("--out", type=Path, default=RESULTS / "trivial.csv")
    given = parser.parse_args(arguments)
    words = quoted("python", "-m", "benchmarks.trivial", given.data)
    write_rows(given.out, [row for name, dataset in splits(given.data) for row in answers(name, dataset, words)])


if __name__ == "__main__":
    main()
