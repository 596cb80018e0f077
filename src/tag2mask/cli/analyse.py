"""``tag2mask analyse``: how much the threshold matters to maps, whether data is fit, whether masks are usable."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tag2mask.cli.analyse_output import print_analysis, print_cooccurrence, print_noise, print_quality
from tag2mask.cli.options import Overrides, Recipe, Root, Run, Runs, fixed_thresholds, opened, part_of, sizes

app = typer.Typer(
    help="How much the threshold matters to maps, whether data is fit, whether masks are usable.\n\n"
    "Example: tag2mask analyse threshold-curve runs/demo",
    no_args_is_help=True,
    rich_markup_mode=None,
)
_Stage = Annotated[list[str] | None, typer.Option(help="stage of maps, repeatable; default: all")]
_Split = Annotated[str | None, typer.Option(help="split with ground truth; default: the one whose maps were made")]
_Out = Annotated[Path | None, typer.Option(help="folder for the files; default: analysis in the run folder")]


@app.command("optimum-threshold")
def optimum_threshold(
    run: Run, stage: _Stage = None, split: _Split = None, out: _Out = None, root: Root = None
) -> None:
    """Find the best threshold of each image against its ground truth, and how far it is from the global one.

    Writes numbers overall and per class, a line for each image, a histogram, and pictures of the images that lose most.

    Example: tag2mask analyse optimum-threshold runs/demo --stage cam --stage lpcam
    """
    from tag2mask.analysis.map_thresholds import analyse_thresholds

    print_analysis(analyse_thresholds(*opened([run], root), stages=stage or [], split=split, out=out))


@app.command("threshold-curve")
def threshold_curve(
    runs: Runs, stage: _Stage = None, split: _Split = None, out: _Out = None, root: Root = None
) -> None:
    """Draw mIoU over thresholds for several maps in one figure, with two numbers for how robust they are.

    Example: tag2mask analyse threshold-curve runs/a runs/b --stage cam --stage lpcam
    """
    from tag2mask.analysis.map_thresholds import analyse_curves

    print_analysis(analyse_curves(opened(runs, root), stages=stage or [], split=split, out=out))


@app.command("imbalance")
def imbalance(run: Run, stage: _Stage = None, split: _Split = None, out: _Out = None, root: Root = None) -> None:
    """Measure, on each image, the spread of the activation inside the object and its gap to the background.

    Example: tag2mask analyse imbalance runs/demo
    """
    from tag2mask.analysis.map_thresholds import analyse_activation

    print_analysis(analyse_activation(*opened([run], root), stages=stage or [], split=split, out=out))


@app.command("absent-classes")
def absent_classes(
    run: Run,
    stage: Annotated[list[str] | None, typer.Option(help="stage of AMN's maps, repeatable")] = None,
    images: Annotated[int, typer.Option(min=1, help="how many, evenly spaced over the split")] = 100,
    split: Annotated[str | None, typer.Option(help="split; default: the one whose maps were made")] = None,
    out: _Out = None,
    root: Root = None,
) -> None:
    """Measure how active AMN's absent classes are under the right tags, and what a wrong tag changes.

    Needs no ground truth. Pictures show the images whose absent class is most active in the first stage.

    Example: tag2mask analyse absent-classes runs/photos --stage amn-lpcam-maps
    """
    from tag2mask.analysis.absent_classes import analyse_tags

    print_analysis(analyse_tags(*opened([run], root), stages=stage or [], images=images, split=split, out=out))


@app.command("boundary")
def boundary(
    run: Run,
    stage: Annotated[
        list[str] | None, typer.Option(help="of masks, predictions or cut maps, repeatable; default: all")
    ] = None,
    share: Annotated[float, typer.Option(help="width of the band as a share of the image's diagonal")] = 0.02,
    out: _Out = None,
    root: Root = None,
) -> None:
    """Measure how well masks follow the true boundaries: Boundary IoU, and mIoU of the pixels close to them.

    Example: tag2mask analyse boundary runs/photos --stage masks
    """
    from tag2mask.analysis.mask_quality import analyse_boundaries

    print_analysis(analyse_boundaries(*opened([run], root), stages=stage or [], share=share, out=out))


@app.command("threshold-rules")
def threshold_rules(
    runs: Runs,
    stage: _Stage = None,
    other: Annotated[str | None, typer.Option(help="maps to measure agreement with; default: fewer scales")] = None,
    fixed: Annotated[list[str] | None, typer.Option(help="STAGE=THRESHOLD beside the run's own; repeatable")] = None,
    images: Annotated[int, typer.Option(min=0, help="for the classifier's rules; 0: leave these out")] = 100,
    part: Annotated[str | None, typer.Option(help="i/k: the i-th of k parts of the images; default: all")] = None,
    split: _Split = None,
    out: _Out = None,
    root: Root = None,
) -> None:
    """Measure what thresholds from the maps alone lose to the oracle: every rule, for all, per class, per image.

    Example: tag2mask analyse threshold-rules runs/demo --stage cam --fixed cam=0.25
    """
    from tag2mask.analysis.threshold_rules import RuleOptions, analyse_rules

    options = RuleOptions(other, fixed_thresholds(fixed or []), images, part_of(part), split)
    print_analysis(analyse_rules(opened(runs, root), stages=stage or [], options=options, out=out))


@app.command("few-masks")
def few_masks(
    run: Run,
    n: Annotated[str, typer.Option(help="masks of a draw; several separated by commas")] = "5,10,20",
    draws: Annotated[int, typer.Option(min=1, help="times that masks are drawn")] = 200,
    stage: _Stage = None,
    split: _Split = None,
    out: _Out = None,
    root: Root = None,
) -> None:
    """Measure what a threshold chosen on n masks loses to the oracle, over many random draws of n.

    Example: tag2mask analyse few-masks runs/demo --n 5,10,20
    """
    from tag2mask.analysis.few_masks import analyse_few

    print_analysis(analyse_few(*opened([run], root), n=sizes(n), draws=draws, stages=stage or [], split=split, out=out))


@app.command("co-occurrence")
def co_occurrence(
    words: Annotated[
        list[str], typer.Argument(metavar="RUN | DATA...", help="a run folder, or data as for 'tag2mask doctor'")
    ],
    split: Annotated[str | None, typer.Option(help="whose tags; default: the split that trains")] = None,
    out: Annotated[
        Path | None, typer.Option(help="folder for the files; default: analysis, in the run folder for a run")
    ] = None,
    root: Root = None,
) -> None:
    """Say from the tags alone which class hides in which context, and what that may spoil.

    Writes pairs and classes as CSV and a heat map; for a run with prototypes also a gallery of these.

    Example: tag2mask analyse co-occurrence photos tags=tags.csv
    """
    from tag2mask.analysis.tag_cooccurrence import analyse_cooccurrence

    print_cooccurrence(analyse_cooccurrence(words, split=split, out=out, root=root))


@app.command("tag-noise")
def tag_noise(
    recipe: Recipe,
    overrides: Overrides = None,
    kind: Annotated[list[str] | None, typer.Option(help="drop or flip, repeatable; default: both")] = None,
    level: Annotated[
        list[float] | None, typer.Option(help="share of wrong tags, repeatable; default: 0.05, 0.1, 0.2")
    ] = None,
    noise_seed: Annotated[int, typer.Option(min=0, help="of the draw")] = 0,
    stage: Annotated[
        list[str] | None, typer.Option(help="measuring stage to make, with all that it reads; default: all")
    ] = None,
    metric: Annotated[str, typer.Option(help="drawn in the figure; map for data without ground truth")] = "miou",
    out: Annotated[Path | None, typer.Option(help="OUT.csv and folders OUT-KIND; default: runs/tag-noise-NAME")] = None,
) -> None:
    """Run a recipe with tags dropped or flipped on purpose, and say what it costs against the clean run.

    Every level trains anew. Maps are made for the tags as given; ground truth and held-out tags stay right.

    Example: tag2mask analyse tag-noise own-data data.root=photos --level 0.1 --stage lpcam-seeds
    """
    from tag2mask.core.processes.ranks import rank
    from tag2mask.sweep.tag_noise import LEVELS, NOISE_KINDS, measure_tag_noise

    found = measure_tag_noise(
        recipe, *(overrides or []), kinds=kind or NOISE_KINDS, levels=level or LEVELS, seed=noise_seed,
        only=stage or [], metric=metric, out=out,
    )  # fmt: skip
    if rank() == 0:
        print_noise(found)
    if found.failed:
        raise typer.Exit(2)


@app.command("quality")
def quality(
    run: Run,
    stage: Annotated[
        str | None, typer.Option(help="of masks, or of maps that are cut; default: the last of masks, else of maps")
    ] = None,
    worst: Annotated[int, typer.Option(min=1, help="how many images to list and draw")] = 12,
    images: Annotated[int | None, typer.Option(min=2, help="how many to assess, evenly spaced; default: all")] = None,
    classifier: Annotated[
        bool, typer.Option("--classifier", help="also run the classifier on parts of each image: forward passes")
    ] = False,
    out: _Out = None,
    root: Root = None,
) -> None:
    """Assess each mask of a run without ground truth, and list the worst for a look.

    Where there is ground truth, it also says how far the order of each signal is that of the true IoU.

    Example: tag2mask analyse quality runs/photos --worst 20
    """
    from tag2mask.analysis.mask_quality import analyse_quality

    (found,) = opened([run], root)
    print_quality(analyse_quality(found, stage=stage, worst=worst, images=images, classifier=classifier, out=out))
