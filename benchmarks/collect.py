"""The numbers of a finished run as CSVs for ``results/``: metrics, curves over thresholds, time and memory of stages.

python -m benchmarks.collect RUN --command "tag2mask run own-data ..." --out results/voc-animals
python -m benchmarks.collect RUN --command "tag2mask run own-data-irn ..." --out results/voc-animals --name pseudo-masks

``--bound STAGE`` adds what percentage each mIoU is of that stage's, an upper bound such as a network trained on truth;
``--bound-run RUN`` takes it from another run, measured on the same images.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.common import write_rows
from tag2mask.core.arrays import percent
from tag2mask.core.files import read_json
from tag2mask.core.links import followed, links_in
from tag2mask.core.names import base_name
from tag2mask.evaluation.result_tables import METRICS, ResultRow, read_metrics, write_results
from tag2mask.pipeline.metric_stages import CURVE
from tag2mask.pipeline.opened_run import OpenedRun
from tag2mask.pipeline.plan import measured_by


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
    for link in links_in(run):
        manifest = read_json(followed(link) / "manifest.json")
        made = manifest["made"]
        if made:
            rows.append(
                StageCost(
                    link.name, made, round(manifest["seconds"], 1), round(manifest["seconds"] / made, 4),
                    round(manifest["peak_memory"] / 1e6), "+".join(manifest["shared_with"]), command,
                )
            )  # fmt: skip
    return rows


def seconds(run: Path, command: str) -> list[ResultRow]:
    """Seconds per image of each stage, as rows beside the metrics; stages of one pass over the network are one row."""
    rows = []
    opened = OpenedRun(run)
    for stage in opened.stages.values():
        manifest = read_json(run / stage.name / "manifest.json")
        together = sorted([stage.name, *manifest["shared_with"]])
        if manifest["made"] and stage.name == together[0]:
            split = opened.plan.split_of(stage) or ""
            each = round(manifest["seconds"] / manifest["made"], 4)
            made = (split, manifest["made"], "none", None, "seconds_per_image", each, stage.seed, command)
            rows.append(ResultRow(" + ".join(together), *made))
    return rows


def shares(rows: Sequence[ResultRow], bound: str, of: Sequence[ResultRow] | None = None) -> list[ResultRow]:
    """For each mIoU of the bound's split, number of images, kind of threshold and seed, the percentage of the bound's.

    What ends in ``+crf`` is compared with the bound that does.

    Args:
        rows: the mIoUs.
        bound: name of the stage that bounds them.
        of: rows that hold the bound; None for the same rows.

    Raises:
        ValueError: the bound has no mIoU.
    """
    known = list(_mious(rows if of is None else of))
    bounds = {at: value for row, value, name, at in known if name == bound}
    if not bounds:
        raise ValueError(f"--bound {bound}: no mIoU of it among {sorted({row.method for row, *_ in known})}")
    return [
        replace(row, metric="share_of_bound", value=round(float(percent(value, bounds[at])), 4))
        for row, value, _, at in _mious(rows)
        if at in bounds
    ]


def _mious(rows: Sequence[ResultRow]) -> Iterator[tuple[ResultRow, float, str, tuple[object, ...]]]:
    """Each mIoU with its value, its stage's name, and what it has in common with those that it is compared with."""
    for row in rows:
        if row.metric == "miou" and row.value is not None:
            name, _, after = row.method.partition(" (")[0].partition("+")
            yield row, row.value, name, (row.split, row.n_images, row.threshold_kind, row.seed, after)


def curves(run: Path) -> list[CurveRow]:
    """Every evaluated curve of the run."""
    found = {r.stage: (r.split, r.n_images) for r in read_metrics(run / METRICS) if r.metric == "miou"}
    rows = []
    for stage in OpenedRun(run).stages.values():
        path = run / stage.name / CURVE
        if path.is_file():
            measured = measured_by(stage)
            split, n_images = found[measured]
            with path.open(encoding="utf-8", newline="") as stream:
                for line in csv.DictReader(stream):
                    names = ("threshold", "miou", "fp", "fn", "precision", "recall")
                    values = {name: round(float(line[name]), 4) for name in names}
                    rows.append(CurveRow(base_name(measured), split, n_images, **values))
    return rows


def _results(run: Path, command: str) -> list[ResultRow]:
    return [row.result(command) for row in read_metrics(run / METRICS)]


def main() -> None:
    """Write NAME.csv with metrics and seconds per image, and curves and costs of stages."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("run", type=Path, help="finished run")
    parser.add_argument("--command", required=True, help="the command that made it")
    parser.add_argument("--out", type=Path, required=True, help="folder, such as results/voc-animals")
    parser.add_argument(
        "--name", default="seeds", help="of the CSV; any other than seeds goes before curves and stages"
    )
    parser.add_argument("--bound", help="name of a measured stage whose mIoU is the upper bound of the others")
    parser.add_argument("--bound-run", type=Path, help="the run that has it; this one where left out")
    arguments = parser.parse_args()
    prefix = "" if arguments.name == "seeds" else f"{arguments.name}-"
    if arguments.bound_run and not arguments.bound:
        parser.error("--bound-run needs --bound: the stage of that run")
    metrics = _results(arguments.run, arguments.command)
    if arguments.bound:
        others = _results(arguments.bound_run, arguments.command) if arguments.bound_run else None
        metrics += shares(metrics, arguments.bound, others)
    write_results(arguments.out / f"{arguments.name}.csv", [*metrics, *seconds(arguments.run, arguments.command)])
    if points := curves(arguments.run):
        write_rows(arguments.out / f"{prefix}curves.csv", points)
    write_rows(arguments.out / f"{prefix}stages.csv", stage_costs(arguments.run, arguments.command))


if __name__ == "__main__":
    main()
