"""What clustering costs beside the training of the classifier (LPCAM, section 4.1), from the manifests of the run."""

from __future__ import annotations

from tag2mask.data.cooccurrence import PairLine, cooccurrence
from tag2mask.evaluation.result_tables import ResultRow, write_table
from tag2mask.papers.chains import CLUSTERING, TRAINING
from tag2mask.papers.definition import Found, Ran
from tag2mask.pipeline.evaluate_run import open_split
from tag2mask.pipeline.plan import make_plan
from tag2mask.pipeline.session import Done


def cost(ran: Ran) -> Found:
    """Seconds of both stages as they were made, and their ratio; the seconds of a store are those of its making."""
    rows: list[ResultRow] = []
    pairs = zip(ran.made(ran.stages[CLUSTERING]), ran.made(ran.stages[TRAINING]), strict=True)
    for prototypes, classifier in pairs:
        rows += [_row(ran, CLUSTERING, prototypes, "seconds", prototypes.manifest.seconds)]
        rows += [_row(ran, TRAINING, classifier, "seconds", classifier.manifest.seconds)]
        ratio = prototypes.manifest.seconds / classifier.manifest.seconds
        rows += [_row(ran, CLUSTERING, prototypes, "relative_cost", ratio)]
    return Found(tuple(rows))


def _row(ran: Ran, name: str, done: Done, metric: str, value: float) -> ResultRow:
    split = _split(ran, done)
    number = round(value, 4)
    return ResultRow(name, split, done.manifest.n_images, "none", None, metric, number, done.stage.seed, ran.command)


def _split(ran: Ran, done: Done) -> str:
    assert ran.recipe is not None
    return str(make_plan(ran.recipe).split_of(done.stage))


_SHOWN = 3


def hidden(ran: Ran) -> Found:
    """Write which tags come together in the training split, and say it of the most inseparable pairs.

    Raises:
        DataError: the data cannot be read.
    """
    assert ran.recipe is not None
    plan = make_plan(ran.recipe)
    tags = open_split(plan, plan.data.train)
    pairs = cooccurrence((s.tags for s in tags.samples), tags.classes).pair_lines()
    path = ran.out / "co-occurrence.csv"
    write_table(path, PairLine, pairs)
    lines = [
        f"{pair.b} is in {100 * pair.p_b_given_a:.0f} % of the {pair.images_a} images of {pair.a}, {pair.lift:.1f} "
        "times as often as by chance"
        for pair in pairs[:_SHOWN]
    ]
    return Found(files=(path,), lines=tuple(lines))
