"""AMN's limitation in numbers: classes that come together (AMN, section 5.5); boundaries are measured by the run."""

from __future__ import annotations

from tag2mask.data.cooccurrence import PairLine, cooccurrence
from tag2mask.evaluation.result_tables import write_table
from tag2mask.experiments.experiment import Found, Ran
from tag2mask.pipeline.evaluate_run import open_split
from tag2mask.pipeline.plan import make_plan

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
