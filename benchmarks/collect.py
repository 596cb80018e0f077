"""The numbers of a finished run as CSVs for ``results/``: seeds, curves over thresholds, time and memory of stages.

python -m benchmarks.collect RUN --command "tag2mask run own-data ..." --out results/voc-animals
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common import write_rows
from tag2mask.core.files import read_json
from tag2mask.evaluation.rows import read_metrics, write_results
from tag2mask.pipeline.measures import CURVE, METRICS


@dataclass(frozen=True, slots=True)
class StageCost:
    """What one stage cost; stages that shared their forward passes have the seconds of all of them together."""

    stage: str
    n_images: int
    seconds: float
    seconds_per_image: float
    peak_memory_mb: int
    shared_with: str
    command: str


@dataclass(frozen=True, slots=True)
class CurveRow:
    """One point of a curve over thresholds, percent."""

    method: str
    split: str
    n_images: int
    threshold: float
    miou: float
    fp: float
    fn: float
    precision: float
    recall: float


def stage_costs(run: Path, command: str) -> list[StageCost]:
    """One row for each stage of the run that computed something."""
    rows = []
    for link in sorted(p for p in run.iterdir() if p.is_symlink()):
        manifest = read_json(link / "manifest.json")
        made = manifest["made"]
        if made:
            rows.append(
                StageCost(
                    link.name, made, round(manifest["seconds"], 1), round(manifest["seconds"] / made, 4),
                    round(manifest["peak_memory"] / 1e6), "+".join(manifest["shared_with"]), command,
                )
            )  # fmt: skip
    return rows


def curves(run: Path) -> list[CurveRow]:
    """Every evaluated curve of the run."""
    scored = {(r.stage, r.split, r.n_images) for r in read_metrics(run / METRICS) if r.metric == "miou"}
    rows = []
    for stage, split, n_images in sorted(scored):
        path = run / f"{stage}-seeds" / CURVE
        with path.open(encoding="utf-8", newline="") as stream:
            for line in csv.DictReader(stream):
                values = {k: round(float(line[k]), 4) for k in ("threshold", "miou", "fp", "fn", "precision", "recall")}
                rows.append(CurveRow(stage.partition("@")[0], split, n_images, **values))
    return rows


def main() -> None:
    """Write seeds.csv, curves.csv and stages.csv."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("run", type=Path, help="finished run")
    parser.add_argument("--command", required=True, help="the command that made it")
    parser.add_argument("--out", type=Path, required=True, help="folder below results/")
    arguments = parser.parse_args()
    write_results(
        arguments.out / "seeds.csv", [r.result(arguments.command) for r in read_metrics(arguments.run / METRICS)]
    )
    write_rows(arguments.out / "curves.csv", curves(arguments.run))
    write_rows(arguments.out / "stages.csv", stage_costs(arguments.run, arguments.command))


if __name__ == "__main__":
    main()
