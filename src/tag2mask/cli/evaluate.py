"""``tag2mask eval``: seeds of a run at other thresholds or on another split, and predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tag2mask.cli.options import Root, Run, opened
from tag2mask.cli.tables import print_seeds


def command(
    run: Run,
    stage: Annotated[list[str] | None, typer.Option(help="stage of maps or predictions; default: all")] = None,
    threshold: Annotated[list[float] | None, typer.Option(help="fixed threshold, 0..1; repeatable")] = None,
    split: Annotated[
        str | None, typer.Option(help="split with ground truth; default: the one whose maps were made")
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="also write every metric as CSV")] = None,
    root: Root = None,
) -> None:
    """Evaluate the seeds of a run: at the thresholds given and at the oracle, which looks at the ground truth.

    Predictions of segmentation networks are evaluated too, a row for each way that the recipe makes them.

    Example: tag2mask eval runs/own-data --stage lpcam --threshold 0.4 --threshold 0.5
    """
    from tag2mask.analysis.evaluate_run import evaluate_run
    from tag2mask.core.errors import command as made
    from tag2mask.evaluation.result_tables import write_results

    (found,) = opened([run], root)
    rows = evaluate_run(found, stages=stage or [], thresholds=threshold or [], split=split)
    print_seeds(rows)
    if csv is not None:
        write_results(csv, [row.result(made("eval", *found.words)) for row in rows])
