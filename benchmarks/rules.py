"""What thresholds chosen without the truth lose to the oracle, and whether the best rule holds on other images.

python -m benchmarks.rules views runs/voc-animals-amn --out rules-voc.yaml
tag2mask run rules-voc.yaml --out runs/voc-animals-rules
python -m benchmarks.rules measure runs/voc-animals-rules --out results/voc-animals

``views`` writes the recipe of a run's maps, and of the same maps from the image alone (one scale, no mirror), which
agreement needs; nothing is trained again where the runs share a store. ``measure`` writes threshold-rules.csv and .svg
(all images), and threshold-rules-halves.csv: the images are parted in two by the hash of their ids, the rule that loses
least on one half is measured on the other, beside the fixed thresholds of the recipe own-data.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.common import write_rows
from tag2mask.config.recipe import Recipe, dump_recipe, reduced
from tag2mask.core.files import write_text
from tag2mask.inference.settings import PyramidSettings
from tag2mask.pipeline.analyse import Analysis
from tag2mask.pipeline.plan import make_plan
from tag2mask.pipeline.rules import LOSS, RULES, Asked, analyse_rules
from tag2mask.pipeline.runfolder import RunFolder

VIEW: dict[str, Any] = {"scales": [1.0], "mirror": False}

FIXED = {"cam": 0.3, "lpcam-f": 0.5, "lpcam": 0.4, "amn-maps": 0.4, "amn-lpcam-maps": 0.4, "amn-lpcam-walk": 0.45}
"""What the recipe own-data cuts these maps at."""


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
        loss_fixed: what the fixed thresholds lose there.
        command: that made it.
    """

    chosen_on: str
    measured_on: str
    stages: str
    n_images: int
    rule: str
    loss_chosen: float
    loss: float
    loss_fixed: float
    command: str


def with_views(recipe: Recipe) -> Recipe:
    """The stages of maps of a recipe, with all they read, and each that has scales a second time as a single view."""
    plan = make_plan(recipe.model_copy(update={"seeds": recipe.seeds[:1]}))
    stages = [s for s in plan.stages if s.kind.makes == "maps"]
    kept = reduced(recipe, [s.name for s in stages])
    views = {
        f"{s.name}-view": {**kept.stages[s.name], **VIEW} for s in stages if isinstance(s.settings, PyramidSettings)
    }
    return kept.model_copy(update={"name": f"{recipe.name}-rules", "stages": {**kept.stages, **views}})


def losses(found: Analysis) -> dict[str, dict[str, float]]:
    """Kind of threshold -> name of the stage -> points lost."""
    values: dict[str, dict[str, float]] = {}
    for name, rows in found.numbers:
        row = next(r for r in rows if r.metric == LOSS)
        values.setdefault(row.threshold_kind, {})[name] = row.value or 0.0
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
        chosen, loss, fixed = (round(fmean(v.values()), 4) for v in (here[rule], there[rule], there["fixed"]))
        n_images = other.numbers[0][1][0].n_images
        rows.append(Held(*names, "+".join(there["oracle"]), n_images, rule, chosen, loss, fixed, command))
    return rows


def measure(runs: Sequence[Path], stages: Sequence[str], out: Path) -> None:
    """Measure on all images and on halves, and write the files."""
    asked = {part: Asked(fixed=FIXED, part=part) for part in (None, (1, 2), (2, 2))}
    words = " ".join([*map(str, runs), *(f"--stage {name}" for name in stages)])
    whole = analyse_rules(runs, stages=stages, asked=asked[None], out=out)
    parts = [analyse_rules(runs, stages=stages, asked=asked[p], out=out / f"part{p[0]}") for p in ((1, 2), (2, 2))]
    write_rows(out / f"{RULES}-halves.csv", halves(parts, f"python -m benchmarks.rules measure {words}"))
    for path in (path for part in parts for path in part.files):
        path.unlink()  # of halves, only the summary is kept
    for part in parts:
        part.files[0].parent.rmdir()
    for kind, values in sorted(losses(whole).items(), key=lambda item: fmean(item[1].values())):
        print(f"{fmean(values.values()):6.2f}  {kind:28}  " + "  ".join(f"{n} {v:.2f}" for n, v in values.items()))


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
    measured.add_argument("--out", type=Path, required=True, help="folder below results/")
    arguments = parser.parse_args()
    if arguments.verb == "views":
        write_text(arguments.out, dump_recipe(with_views(RunFolder.existing(arguments.run).recipe())))
    else:
        measure(arguments.runs, arguments.stage, arguments.out)


if __name__ == "__main__":
    main()
