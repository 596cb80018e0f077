"""Cost of clustering beside the training of the classifier (L12), and tags that come together (A15)."""

from __future__ import annotations

from tag2mask.core.arrays import rounded
from tag2mask.data.cooccurrence import PairLine, cooccurrence
from tag2mask.evaluation.result_tables import ResultRow, write_table
from tag2mask.papers.definition import FinishedExperiment, StepResult
from tag2mask.pipeline.opened_run import OpenedRun

CLUSTERING, TRAINING = "clustering", "training of the classifier"
"""Names of the rows of L12."""

_SHOWN = 3


def cost(run: FinishedExperiment) -> StepResult:
    """Seconds that both stages took when they were computed, from their manifests, and their ratio."""
    opened, rows = OpenedRun(run.out), []
    pairs = zip(run.made(run.stages[CLUSTERING]), run.made(run.stages[TRAINING]), strict=True)
    for prototypes, classifier in pairs:
        seconds, training = prototypes.manifest.seconds, classifier.manifest.seconds
        for name, done, metric, value in (
            (CLUSTERING, prototypes, "seconds", seconds),
            (TRAINING, classifier, "seconds", training),
            (CLUSTERING, prototypes, "relative_cost", seconds / training),
        ):
            split, n_images = opened.split_of(done.stage), done.manifest.n_images
            row = (name, split, n_images, "none", None, metric, rounded(value), done.stage.seed, run.command)
            rows.append(ResultRow(*row))
    return StepResult(tuple(rows))


def hidden(run: FinishedExperiment) -> StepResult:
    """Write how often tags of the training split come together, and name the most inseparable pairs."""
    opened = OpenedRun(run.out)
    tags = opened.split(opened.plan.data.train)
    pairs = cooccurrence((s.tags for s in tags.samples), tags.classes).pair_lines()
    path = run.out / "co-occurrence.csv"
    write_table(path, PairLine, pairs)
    lines = [
        f"{pair.b} is in {100 * pair.p_b_given_a:.0f} % of the {pair.images_a} images of {pair.a}, {pair.lift:.1f} "
        "times as often as by chance"
        for pair in pairs[:_SHOWN]
    ]
    return StepResult(files=(path,), lines=tuple(lines))
