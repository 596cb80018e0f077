r"""What thresholds chosen without the truth lose to the oracle, and whether the best rule holds on other images.

python -m benchmarks.rules views runs/voc-animals-amn --out rules-voc.yaml
tag2mask run rules-voc.yaml --out runs/voc-animals-rules
python -m benchmarks.rules measure runs/voc-animals-rules --out results/voc-animals
python -m benchmarks.rules together results/voc-animals results/parts --out results

The scenes of results/parts are those of this run, whose maps cam, lpcam and amn-lpcam-maps were measured::

    tag2mask run light-amn data=parts data.images=200 data.size=128 classifier.train.epochs=8 \
        classifier.train.accumulate=2 classifier.train.lr=1.0e-4 classifier.train.head_lr=1.0e-3 \
        "classifier.train.long_side=[96,128]" classifier.train.crop=128 amn.train.crop=128 amn-lpcam.train.crop=128 \
        --only amn-lpcam-maps --only cam --only lpcam --out runs/parts-amn

``views`` writes the recipe of a run's maps, and of the same maps from the image alone (one scale, no mirror), which
agreement needs; nothing is trained again where the runs share a store. ``measure`` parts the images in two by the hash
of their ids and measures every rule on each half, beside the fixed thresholds of the recipe light. It writes
threshold-rules.csv (every number; its command names the half), threshold-rules-losses.csv (points lost, for tables),
threshold-rules.svg (the second half), and threshold-rules-halves.csv: the rule that loses least on one half, on the
other. ``together`` takes several data sets at once: threshold-rules.csv, the means over them, sorted by the first half.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.common import write_rows
from tag2mask.analysis.base import Analysis
from tag2mask.analysis.threshold_rules import LOSS, RuleOptions, analyse_rules
from tag2mask.config.recipe import Recipe, dump_recipe, reduced
from tag2mask.core.files import write_text
from tag2mask.evaluation.result_tables import write_results
from tag2mask.inference.settings import PyramidSettings
from tag2mask.methods.stage_kinds import Makes
from tag2mask.pipeline.opened_run import OpenedRun
from tag2mask.pipeline.plan import make_plan
from tag2mask.pipeline.run_folder import RunFolder

VIEW: dict[str, Any] = {"scales": [1.0], "mirror": False}

FIXED = {
    "seeds": {"cam": 0.3, "lpcam-f": 0.5, "lpcam": 0.4, "amn-maps": 0.4, "amn-lpcam-maps": 0.4},
    "refined seeds": {"cam": 0.35, "lpcam-f": 0.5, "lpcam": 0.5, "amn-maps": 0.4, "amn-lpcam-maps": 0.4},
}
"""What light and light-amn had before a rule: thresholds of seeds, and the middle of those of refined seeds."""


@dataclass(frozen=True, slots=True)
class Loss:
    """What one threshold loses on one half of the images.

    Attributes:
        half: ``1/2`` or ``2/2``.
        n_images: of this half.
        chosen_by: ``fixed: seeds``, ``fixed: refined seeds``, or the name of a rule.
        per: what there is a threshold for: ``data``, ``class`` or ``image``.
        metric: the stage of maps, or ``mean``: over the stages, where there is a threshold for each.
        value: points of mIoU lost to the oracle of this half.
        seed: of the maps.
        command: that made it.
    """

    half: str
    n_images: int
    chosen_by: str
    per: str
    metric: str
    value: float
    seed: int
    command: str


@dataclass(frozen=True, slots=True)
class Held:
    """The rule that loses least on one half of the images, on the other; points, means over the stages of maps.

    Attributes:
        chosen_on: the half it was chosen on.
        measured_on: the other.
        stages: of maps, by name.
        n_images: of the other half.
        rule: its kind of threshold.
        loss_chosen: what it loses to the oracle on the half it was chosen on.
        loss: on the other half.
        loss_seeds: what the fixed thresholds of seeds lose there.
        loss_refined: what those of refined seeds lose there.
        command: that made it.
    """

    chosen_on: str
    measured_on: str
    stages: str
    n_images: int
    rule: str
    loss_chosen: float
    loss: float
    loss_seeds: float
    loss_refined: float
    command: str


@dataclass(frozen=True, slots=True)
class Together:
    """What one choice loses on several data sets: means over them of the means over their maps, points of mIoU.

    Attributes:
        chosen_by: as in `Loss`.
        per: as in `Loss`.
        half_1: on the first halves.
        half_2: on the second halves.
        command: that made it.
    """

    chosen_by: str
    per: str
    half_1: float
    half_2: float
    command: str


def with_views(recipe: Recipe) -> Recipe:
    """The stages of maps of a recipe, with all they read, and each that has scales a second time as a single view."""
    plan = make_plan(recipe.model_copy(update={"seeds": recipe.seeds[:1]}))
    stages = [s for s in plan.stages if s.kind.makes is Makes.MAPS]
    kept = reduced(recipe, [s.name for s in stages])
    views = {
        f"{s.name}-view": {**kept.stages[s.name], **VIEW} for s in stages if isinstance(s.settings, PyramidSettings)
    }
    return kept.model_copy(update={"name": f"{recipe.name}-rules", "stages": {**kept.stages, **views}})


def losses(found: Analysis) -> dict[str, dict[str, float]]:
    """Kind of threshold -> name of the stage -> points lost; fixed ones are told apart by where they come from."""
    values: dict[str, dict[str, float]] = {}
    for name, rows in found.numbers:
        row = next(r for r in rows if r.metric == LOSS)
        sources = [f"fixed: {source}" for source, fixed in FIXED.items() if fixed.get(name) == row.threshold]
        for kind in sources if row.threshold_kind == "fixed" else [row.threshold_kind]:
            values.setdefault(kind, {})[name] = row.value or 0.0
    return values


def best_rule(values: Mapping[str, Mapping[str, float]]) -> str:
    """The rule with the smallest mean loss, of those that have a threshold for every stage; the first of equal ones.

    Raises:
        ValueError: there is none.
    """
    stages = set(values["oracle"])
    rules = {kind: fmean(v.values()) for kind, v in values.items() if kind.startswith("rule(") and set(v) == stages}
    return min(rules, key=lambda kind: rules[kind])


def halves(found: Sequence[Analysis], command: str) -> list[Held]:
    """The best rule of each half on the other half.

    Args:
        found: of the first half and of the second, with fixed thresholds for every stage.
        command: that made them.
    """
    first, second = found
    rows = []
    for one, other, names in ((first, second, ("1/2", "2/2")), (second, first, ("2/2", "1/2"))):
        here, there = losses(one), losses(other)
        rule = best_rule(here)
        n_images = other.numbers[0][1][0].n_images
        chosen, loss, seeds, refined = (
            round(fmean(v.values()), 4)
            for v in (here[rule], there[rule], there["fixed: seeds"], there["fixed: refined seeds"])
        )
        rows.append(Held(*names, "+".join(there["oracle"]), n_images, rule, chosen, loss, seeds, refined, command))
    return rows


def loss_lines(found: Analysis, half: str, command: str) -> list[Loss]:
    """What every threshold of one half loses, the smallest mean first; those that some maps have none of at the end."""
    values, first = losses(found), found.numbers[0][1][0]
    stages = set(values["oracle"])
    means = {kind: fmean(v.values()) if set(v) == stages else inf for kind, v in values.items() if kind != "oracle"}
    lines = []
    for kind in sorted(means, key=lambda kind: means[kind]):
        name, _, per = kind.removeprefix("rule(").removesuffix(")").partition("/")
        named = [*values[kind].items(), *([("mean", round(means[kind], 4))] if isfinite(means[kind]) else [])]
        lines += [
            Loss(half, first.n_images, name, per or "data", stage, loss, first.seed, command) for stage, loss in named
        ]
    return lines


def measure(runs: Sequence[Path], stages: Sequence[str], out: Path, images: int, split: str | None) -> None:
    """Measure on both halves, and write the files.

    Args:
        runs: run folders.
        stages: of maps; all but views where empty.
        out: folder below ``results/``.
        images: to ask the classifier about, of each half.
        split: as of ``tag2mask analyse threshold-rules``.
    """
    words = ["python -m benchmarks.rules measure", *map(str, runs), *(f"--stage {name}" for name in stages)]
    command = " ".join([*words, f"--images {images}", *([f"--split {split}"] if split else [])])
    known = set(stages) or {name for run in runs for name in (s.name for s in OpenedRun(run).making(Makes.MAPS))}
    fixed = {
        name: list(dict.fromkeys(source[name] for source in FIXED.values())) for name in known & set(FIXED["seeds"])
    }
    parts = [
        analyse_rules(
            runs, stages=stages, options=RuleOptions(fixed=fixed, images=images, part=part, split=split), out=out
        )
        for part in ((1, 2), (2, 2))
    ]
    write_results(out / "threshold-rules.csv", [row for part in parts for _, rows in part.numbers for row in rows])
    lines = [line for part, half in zip(parts, ("1/2", "2/2"), strict=True) for line in loss_lines(part, half, command)]
    write_rows(out / "threshold-rules-losses.csv", lines)
    write_rows(out / "threshold-rules-halves.csv", halves(parts, command))


def together(folders: Sequence[Path], out: Path) -> None:
    """Write the means over the data sets of what each choice loses that all of them have, the best first half on top.

    Args:
        folders: with a threshold-rules-losses.csv each.
        out: folder for threshold-rules.csv.
    """
    found: dict[tuple[str, str], dict[str, list[float]]] = {}
    for folder in folders:
        with (folder / "threshold-rules-losses.csv").open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream):
                if row["metric"] == "mean":
                    halves_of = found.setdefault((row["chosen_by"], row["per"]), {"1/2": [], "2/2": []})
                    halves_of[row["half"]].append(float(row["value"]))
    command = " ".join(["python -m benchmarks.rules together", *map(str, folders)])
    rows = [
        Together(*choice, round(fmean(values["1/2"]), 4), round(fmean(values["2/2"]), 4), command)
        for choice, values in found.items()
        if len(values["1/2"]) == len(values["2/2"]) == len(folders)
    ]
    write_rows(out / "threshold-rules.csv", sorted(rows, key=lambda row: row.half_1))


def main() -> None:
    """Write the recipe of views, or measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    verbs = parser.add_subparsers(dest="verb", required=True)
    views = verbs.add_parser("views", help="write the recipe of a run's maps and of single views of them")
    views.add_argument("run", type=Path)
    views.add_argument("--out", type=Path, required=True, help="the recipe")
    measured = verbs.add_parser("measure", help="measure every rule")
    measured.add_argument("runs", type=Path, nargs="+")
    measured.add_argument("--stage", action="append", default=[], help="stage of maps; all but views where left out")
    measured.add_argument(
        "--images", type=int, default=RuleOptions().images, help="to ask the classifier about, of each half"
    )
    measured.add_argument("--split", help="a split, or a part of one; default: the one whose maps were made")
    measured.add_argument("--out", type=Path, required=True, help="folder below results/")
    several = verbs.add_parser("together", help="the means over several data sets")
    several.add_argument("folders", type=Path, nargs="+", help="with a threshold-rules-losses.csv each")
    several.add_argument("--out", type=Path, required=True, help="results/")
    arguments = parser.parse_args()
    if arguments.verb == "together":
        together(arguments.folders, arguments.out)
    elif arguments.verb == "views":
        write_text(arguments.out, dump_recipe(with_views(RunFolder.existing(arguments.run).recipe())))
    else:
        measure(arguments.runs, arguments.stage, arguments.out, arguments.images, arguments.split)


if __name__ == "__main__":
    main()
