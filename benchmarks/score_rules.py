r"""What rules of raw scores lose to the best thresholds of the classes, kind of data by kind: `results/rules.csv`.

python -m benchmarks.score_rules runs/cracks runs/weeds runs/lines … --stage cam

Each run holds maps with raw scores (``cam.raw=true``) of one kind of data with ground truth; its folder's name is the
kind's. Beside each rule, with the settings that it has in recipes, stand a few that are mixed of others. The oracle has
for each class the threshold that is best for the mean IoU of the classes, found class by class, twice around. A rule
that abstains of a class has Otsu's threshold there; ``abstained`` counts these classes.

The line ``chosen elsewhere`` is what the choice itself is worth: on each kind the rule whose worst loss over all other
kinds is least.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.common import RESULTS, write_rows
from tag2mask.analysis.threshold_rules import classifier_behind
from tag2mask.core.resize import bilinear
from tag2mask.core.types import ActivationMaps
from tag2mask.evaluation.background import CONSTANT
from tag2mask.evaluation.metrics import SegmentationMetrics
from tag2mask.evaluation.threshold_rules.erased import NAME as ERASED
from tag2mask.evaluation.threshold_rules.score_evidence import ClassScores, gather, tag_table
from tag2mask.evaluation.threshold_rules.score_rules import SCORE_RULES, ClassChoice, Said, ScoreOptions, otsu
from tag2mask.methods.stage_kinds import FeatureMapStage
from tag2mask.pipeline.opened_run import OpenedMaps, OpenedRun
from tag2mask.thresholds.by_scores import image_scores
from tag2mask.thresholds.erased import erased_choices
from tag2mask.thresholds.kinds import ErasureSettings

SIDE = 240
"""Longest side at which seeds are compared with ground truth; of larger ones every second, third, … row and column."""
QUANTILES = 1 - np.geomspace(0.003, 0.97, 20)
"""Of a class's scores: the thresholds that the oracle tries."""
ROUNDS = 2
"""Times that the oracle goes through the classes."""
CHOSEN = "chosen elsewhere"


@dataclass(frozen=True, slots=True)
class RuleRow:
    """One rule on one kind of data, percent; ``loss`` in points to the oracle."""

    kind: str
    rule: str
    method: str
    n_images: int
    miou_foreground: float
    oracle: float
    loss: float
    abstained: int
    seed: int
    command: str


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """One image with ground truth: what is cut, and what it is measured against."""

    columns: tuple[int, ...]
    scores: NDArray[np.float32]
    truth: NDArray[np.uint8]


Mixture = Callable[[Mapping[str, Said], ClassScores], float | None]


def _mean(*names: str) -> Mixture:
    def mixed(said: Mapping[str, Said], scores: ClassScores) -> float | None:
        values = [said[name].value for name in names]
        return None if None in values else float(np.mean([v for v in values if v is not None]))

    return mixed


def _where_shown(first: str, second: str) -> Mixture:
    def mixed(said: Mapping[str, Said], scores: ClassScores) -> float | None:
        return said[first if scores.comparable >= ScoreOptions().comparable else second].value

    return mixed


MIXED: Mapping[str, Mixture] = {
    "mean of otsu and midpoint": _mean("otsu", "midpoint"),
    "midpoint where shown, else otsu": _where_shown("midpoint", "otsu"),
}


def read(maps: OpenedMaps) -> tuple[list[Image], list[ClassScores]]:
    """The images with ground truth, and what rules see of every class, of all images."""
    images, dataset = [], maps.dataset
    probabilities = isinstance(maps.stage.kind, FeatureMapStage) and maps.stage.kind.probabilities

    def each() -> object:
        for sample in dataset.samples:
            found: ActivationMaps = maps.artefact.maps(dataset, sample, "raw")
            truth = dataset.truth(sample)
            if truth is not None:
                step = -(-max(truth.shape) // SIDE)
                scores = bilinear(found.maps, *truth.shape).numpy()[:, ::step, ::step]
                images.append(Image(found.classes, scores, truth[::step, ::step]))
            yield image_scores(found, len(dataset.classes))

    table = tag_table([s.tags for s in dataset.samples], len(dataset.classes))
    draws = gather(each(), table, SHARE, probabilities=probabilities, draws=0)  # type: ignore[arg-type]
    return images, next(iter(draws))


ERASED_IMAGES = 16
"""Of each class, that are shown to the classifier."""
SHARE = 0.02
"""Of an image's cells that make its score, as in `RuleSettings`."""


def foreground(images: Sequence[Image], thresholds: Sequence[float], classes: Sequence[str]) -> float:
    """Mean IoU of the classes in percent, of maps cut at a threshold for each class."""
    metrics, levels = SegmentationMetrics(classes), np.asarray(thresholds, dtype=np.float32)
    for image in images:
        labels = CONSTANT.labels(image.scores, image.columns, levels[list(image.columns)])
        metrics.update(labels, image.truth)
    value = dict(metrics.compute().values())["miou_foreground"]
    assert value is not None
    return value


def oracle(
    images: Sequence[Image], start: Sequence[float], scores: Sequence[ClassScores], classes: Sequence[str]
) -> float:
    """The mean IoU at thresholds that ascend class by class from ``start``."""
    at = list(start)
    best = foreground(images, at, classes)
    for _ in range(ROUNDS if len(at) > 1 else 1):
        for column, own in enumerate(scores):
            below = own.present.cumsum()
            places = np.searchsorted(below, QUANTILES * below[-1]) if below[-1] else []
            for value in {min(int(p) + 0.5, 1000) / 1000 for p in places}:
                tried = [*at[:column], value, *at[column + 1 :]]
                found = foreground(images, tried, classes)
                if found > best:
                    best, at = found, tried
    return best


def thresholds_of(scores: Sequence[ClassScores]) -> dict[str, list[float | None]]:
    """What each rule and mixture says of each class."""
    said = [{name: rule(own, ScoreOptions()) for name, rule in SCORE_RULES.items()} for own in scores]
    found: dict[str, list[float | None]] = {name: [one[name].value for one in said] for name in SCORE_RULES}
    for name, mixture in MIXED.items():
        found[name] = [mixture(one, own) for one, own in zip(said, scores, strict=True)]
    return found


def by_erasing(maps: OpenedMaps) -> dict[str, list[float | None]]:
    """What the rule that erases says, of a few images of each class; nothing without a classifier."""
    classifier = classifier_behind(maps.artefact)
    if classifier is None:
        return {}
    settings = ErasureSettings(rule=ERASED, scores="raw", per="class", images=ERASED_IMAGES)
    none = ClassChoice(None, None, None, "", "")
    engine = maps.run.plan.recipe.engine
    found = erased_choices(maps.artefact, classifier, maps.dataset, settings, engine, lambda _: none, lambda: None)
    return {ERASED: [choice.value for choice in found]}


def measure(run: Path, stage: str, command: str) -> list[RuleRow]:
    """Every rule on the maps of one run."""
    maps = OpenedRun(run).maps(stage)
    images, scores = read(maps)
    classes = maps.dataset.classes
    other = [otsu(own, ScoreOptions()).value or 0.5 for own in scores]
    reached = {}
    for name, values in {**thresholds_of(scores), **by_erasing(maps)}.items():
        at = [spare if value is None else value for value, spare in zip(values, other, strict=True)]
        reached[name] = (foreground(images, at, classes), at, sum(value is None for value in values))
    start = max(reached.values(), key=lambda one: one[0])[1]
    best = max(oracle(images, start, scores, classes), *(value for value, _, _ in reached.values()))
    return [
        RuleRow(
            run.name, name, maps.method, len(images), round(value, 2), round(best, 2), round(best - value, 2),
            abstained, maps.stage.seed, command,
        )
        for name, (value, _, abstained) in reached.items()
    ]  # fmt: skip


def chosen_elsewhere(rows: Sequence[RuleRow]) -> list[RuleRow]:
    """For each kind the rule whose worst loss over the other kinds is least, as it does on this one."""
    kinds, rules = list(dict.fromkeys(r.kind for r in rows)), dict.fromkeys(r.rule for r in rows)
    found = {(r.kind, r.rule): r for r in rows}
    chosen = []
    for kind in kinds if len(kinds) > 1 else ():
        rule = min(rules, key=lambda name: max(found[other, name].loss for other in kinds if other != kind))
        own = found[kind, rule]
        chosen.append(
            RuleRow(
                kind, f"{CHOSEN}: {rule}", own.method, own.n_images, own.miou_foreground, own.oracle, own.loss,
                own.abstained, own.seed, own.command,
            )
        )  # fmt: skip
    return chosen


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write the table anew after each kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="one for each kind of data")
    parser.add_argument("--stage", default="cam", help="of maps that keep raw scores")
    parser.add_argument("--out", type=Path, default=RESULTS / "rules.csv")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows: list[RuleRow] = []
    for run in given.runs:
        command = f"python -m benchmarks.score_rules {' '.join(r.name for r in given.runs)} --stage {given.stage}"
        rows += measure(run, given.stage, command)
        write_rows(given.out, [*rows, *chosen_elsewhere(rows)])


if __name__ == "__main__":
    main()
