"""What clustering costs beside the training of the classifier (LPCAM, section 4.1), from the manifests of the run."""

from __future__ import annotations

from tag2mask.data.cooccurrence import PairLine, cooccurrence
from tag2mask.evaluation.result_tables import ResultRow, write_table
from tag2mask.papers.definition import FinishedExperiment, StepResult
from tag2mask.pipeline.evaluate_run import open_split
from tag2mask.pipeline.plan import make_plan
from tag2mask.pipeline.session import Done

CLUSTERING, TRAINING = "clustering", "training of the classifier"
"""Names of the rows of L12."""


def cost(run: FinishedExperiment) -> StepResult:
    """Seconds of both stages as they were made, and their ratio; the seconds of a store are those of its making."""
    rows: list[ResultRow] = []
    pairs = zip(run.made(run.stages[CLUSTERING]), run.made(run.stages[TRAINING]), strict=True)
    for prototypes, classifier in pairs:
        rows += [_row(run, CLUSTERING, prototypes, "seconds", prototypes.manifest.seconds)]
        rows += [_row(run, TRAINING, classifier, "seconds", classifier.manifest.seconds)]
        ratio = prototypes.manifest.seconds / classifier.manifest.seconds
        rows += [_row(run, CLUSTERING, prototypes, "relative_cost", ratio)]
    return StepResult(tuple(rows))


def _row(run: FinishedExperiment, name: str, done: Done, metric: str, value: float) -> ResultRow:
    split = _split(run, done)
    number = round(value, 4)
    return ResultRow(name, split, done.manifest.n_images, "none", None, metric, number, done.stage.seed, run.command)


def _split(run: FinishedExperiment, done: Done) -> str:
    assert run.recipe is not None
    own = getattr(done.stage.settings, "split", None)
    return str(own or run.recipe.data[done.stage.kind.split])


_SHOWN = 3


def hidden(run: FinishedExperiment) -> StepResult:
    """Write which tags come together in the training split, and say it of the most inseparable pairs.

    Raises:
        DataError: the data cannot be read.
    """
    assert run.recipe is not None
    plan = make_plan(run.recipe)
    tags = open_split(plan, plan.data.train)
    pairs = cooccurrence((s.tags for s in tags.samples), tags.classes).pair_lines()
    path = run.out / "co-occurrence.csv"
    write_table(path, PairLine, pairs)
    lines = [
        f"{pair.b} is in {100 * pair.p_b_given_a:.0f} % of the {pair.images_a} images of {pair.a}, {pair.lift:.1f} "
        "times as often as by chance"
        for pair in pairs[:_SHOWN]
    ]
    return StepResult(files=(path,), lines=tuple(lines))
