"""``tag2mask analyse``: how much the threshold matters to maps, whether data is fit, whether masks are usable."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tag2mask.cli import fitness
from tag2mask.cli.rules import fixed_thresholds, part_of, sizes
from tag2mask.cli.tables import say, table

if TYPE_CHECKING:
    from tag2mask.analysis.map_thresholds import Analysis

app = typer.Typer(
    help="How much the threshold matters to maps, whether data is fit, whether masks are usable.\n\n"
    "Example: tag2mask analyse threshold-curve runs/demo",
    no_args_is_help=True,
    rich_markup_mode=None,
)
_Run = Annotated[Path, typer.Argument(help="run folder")]
_Stage = Annotated[list[str] | None, typer.Option(help="stage of maps, may be given again; all where left out")]
_Split = Annotated[str | None, typer.Option(help="split with a truth; default: the one whose maps were made")]
_Out = Annotated[Path | None, typer.Option(help="folder for the files; default: analysis in the run folder")]


@app.command("optimum-threshold")
def optimum_threshold(run: _Run, stage: _Stage = None, split: _Split = None, out: _Out = None) -> None:
    """Find the best threshold of each image against its truth, and how far it is from the global one.

    Writes numbers overall and per class, a line for each image, a histogram, and pictures of the images that lose most.

    Example: tag2mask analyse optimum-threshold runs/demo --stage cam --stage lpcam
    """
    from tag2mask.analysis.map_thresholds import analyse_thresholds

    found = analyse_thresholds(run, stages=stage or [], split=split, out=out)
    _print(found, ("miou", "miou_own", "optimum_mean", "optimum_sd", "optimum_distance", "optimum_near"))


@app.command("threshold-curve")
def threshold_curve(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="run folders on the same images")],
    stage: _Stage = None,
    split: _Split = None,
    out: _Out = None,
) -> None:
    """Draw mIoU over thresholds for several maps in one figure, with two numbers for how robust they are.

    Example: tag2mask analyse threshold-curve runs/a runs/b --stage cam --stage lpcam
    """
    from tag2mask.analysis.map_thresholds import analyse_curves
    from tag2mask.evaluation.robustness import MEAN

    found = analyse_curves(runs, stages=stage or [], split=split, out=out)
    _print(found, ("miou", "plateau_width", "plateau_low", "plateau_high", MEAN))


@app.command("imbalance")
def imbalance(run: _Run, stage: _Stage = None, split: _Split = None, out: _Out = None) -> None:
    """Measure, on each image, the spread of the activation inside the object and its gap to the background.

    Example: tag2mask analyse imbalance runs/demo
    """
    from tag2mask.analysis.map_thresholds import analyse_activation
    from tag2mask.evaluation.robustness import MEASURES

    _print(analyse_activation(run, stages=stage or [], split=split, out=out), MEASURES)


@app.command("absent-classes")
def absent_classes(
    run: _Run,
    stage: Annotated[list[str] | None, typer.Option(help="stage of AMN's maps, may be given again")] = None,
    images: Annotated[int, typer.Option(min=1, help="how many, evenly spaced over the split")] = 100,
    split: Annotated[str | None, typer.Option(help="split; default: the one whose maps were made")] = None,
    out: _Out = None,
) -> None:
    """Measure how active AMN's absent classes are under the right tags, and what a wrong tag changes.

    Needs no truth. Pictures show the images whose absent class is most active in the first stage.

    Example: tag2mask analyse absent-classes runs/photos --stage amn-lpcam-maps
    """
    from tag2mask.analysis.absent_classes import analyse_tags
    from tag2mask.evaluation.absent_classes import MEASURES

    _print(analyse_tags(run, stages=stage or [], images=images, split=split, out=out), MEASURES)


@app.command("boundary")
def boundary(
    run: _Run,
    stage: Annotated[
        list[str] | None, typer.Option(help="of masks, predictions or cut maps, may be given again; default: all")
    ] = None,
    share: Annotated[float, typer.Option(help="width of the band as a share of the image's diagonal")] = 0.02,
    out: _Out = None,
) -> None:
    """Measure how well masks follow the truth's boundaries: Boundary IoU, and mIoU of the pixels close to them.

    Example: tag2mask analyse boundary runs/photos --stage masks
    """
    from tag2mask.analysis.boundary_quality import analyse_boundaries

    found = analyse_boundaries(run, stages=stage or [], share=share, out=out)
    _print(found, ("miou", "boundary_iou", "trimap_miou/3", "trimap_miou/10", "trimap_miou/40"))


app.command("co-occurrence")(fitness.co_occurrence)
app.command("tag-noise")(fitness.tag_noise)
app.command("quality")(fitness.quality)


@app.command("threshold-rules")
def threshold_rules(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="run folders on the same images")],
    stage: _Stage = None,
    other: Annotated[str | None, typer.Option(help="maps to measure agreement with; default: fewer scales")] = None,
    fixed: Annotated[list[str] | None, typer.Option(help="STAGE=THRESHOLD beside the run's own, repeatable")] = None,
    images: Annotated[int, typer.Option(min=0, help="to ask the classifier about; 0: leave its rules out")] = 100,
    part: Annotated[str | None, typer.Option(help="i/k: the i-th of k parts of the images; default: all")] = None,
    split: _Split = None,
    out: _Out = None,
) -> None:
    """Measure what thresholds from the maps alone lose to the oracle: every rule, for all, per class, per image.

    Example: tag2mask analyse threshold-rules runs/demo --stage cam --fixed cam=0.25
    """
    from tag2mask.analysis.threshold_rules import LOSS, Asked, analyse_rules

    asked = Asked(other, fixed_thresholds(fixed or []), images, part_of(part), split)
    _print(analyse_rules(runs, stages=stage or [], asked=asked, out=out), ("miou", LOSS))


@app.command("few-masks")
def few_masks(
    run: _Run,
    n: Annotated[str, typer.Option(help="masks of a draw; several separated by commas")] = "5,10,20",
    draws: Annotated[int, typer.Option(min=1, help="times that masks are drawn")] = 200,
    stage: _Stage = None,
    split: _Split = None,
    out: _Out = None,
) -> None:
    """Measure what a threshold chosen on n masks loses to the oracle, over many random draws of n.

    Example: tag2mask analyse few-masks runs/demo --n 5,10,20
    """
    from tag2mask.analysis.few_masks import MEASURES, analyse_few

    _print(analyse_few(run, n=sizes(n), draws=draws, stages=stage or [], split=split, out=out), MEASURES)


def _print(found: Analysis, metrics: tuple[str, ...]) -> None:
    """One line for each stage, and the files."""
    lines = []
    for name, rows in found.numbers:
        values = {row.metric: row for row in rows}
        first = rows[0]
        at = "-" if first.threshold is None else f"{first.threshold:.2f}"
        cells = [_cell(values[m].value) for m in metrics]
        lines.append([name, first.split, str(first.n_images), str(first.seed), first.threshold_kind, at, *cells])
    say(table(["stage", "split", "images", "seed", "threshold", "at", *metrics], lines))
    say()
    for path in found.files:
        say(str(path))


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if abs(value) < 1 else f"{value:.1f}"
