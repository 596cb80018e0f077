"""Verbs of ``tag2mask analyse`` that ask whether data is fit and masks are usable."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tag2mask.cli.tables import say, table

if TYPE_CHECKING:
    from tag2mask.analysis.mask_quality import QualityReport
    from tag2mask.analysis.tag_cooccurrence import FitnessReport, PrototypeLine
    from tag2mask.data.cooccurrence import Cooccurrence
    from tag2mask.sweep.tag_noise import NoiseResult

_Run = Annotated[Path, typer.Argument(help="run folder")]
_Out = Annotated[Path | None, typer.Option(help="folder for the files; default: analysis in the run folder")]

_PAIRS, _CONTEXTS = 15, 3


def co_occurrence(
    words: Annotated[
        list[str], typer.Argument(metavar="RUN | DATA...", help="a run folder, or data as for 'tag2mask doctor'")
    ],
    split: Annotated[str | None, typer.Option(help="whose tags; default: the split that trains")] = None,
    out: Annotated[
        Path | None, typer.Option(help="folder for the files; default: analysis, in the run folder for a run")
    ] = None,
) -> None:
    """Say from the tags alone which class hides in which context, and what that may spoil.

    Writes pairs and classes as CSV and a heat map; for a run with prototypes also a gallery of these.

    Example: tag2mask analyse co-occurrence photos tags=tags.csv
    """
    from tag2mask.analysis.tag_cooccurrence import analyse_cooccurrence

    _print_fitness(analyse_cooccurrence(words, split=split, out=out))


def tag_noise(
    recipe: Annotated[str, typer.Argument(help="a name that 'tag2mask ls' shows, or a .yaml file")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value, such as data.root=photos")] = None,
    kind: Annotated[list[str] | None, typer.Option(help="drop or flip, may be given again; default: both")] = None,
    level: Annotated[
        list[float] | None, typer.Option(help="share of wrong tags, may be given again; default: 0.05, 0.1, 0.2")
    ] = None,
    noise_seed: Annotated[int, typer.Option(min=0, help="of the draw")] = 0,
    stage: Annotated[
        list[str] | None, typer.Option(help="measuring stage to make, with all that it reads; default: all")
    ] = None,
    metric: Annotated[str, typer.Option(help="that is drawn; map for data without a truth")] = "miou",
    out: Annotated[Path | None, typer.Option(help="OUT.csv and folders OUT-KIND; default: runs/tag-noise-NAME")] = None,
) -> None:
    """Run a recipe with tags dropped or flipped on purpose, and say what it costs against the clean run.

    Every level trains anew. Maps are made for the tags as given; truth and held-out tags stay right.

    Example: tag2mask analyse tag-noise own-data data.root=photos --level 0.1 --stage lpcam-seeds
    """
    from tag2mask.core.ranks import rank
    from tag2mask.sweep.tag_noise import KINDS, LEVELS, measure_tag_noise

    found = measure_tag_noise(
        recipe, *(overrides or []), kinds=kind or KINDS, levels=level or LEVELS, seed=noise_seed, only=stage or [],
        metric=metric, out=out,
    )  # fmt: skip
    if rank() == 0:
        _print_damage(found)
    if found.failed:
        raise typer.Exit(2)


def quality(
    run: _Run,
    stage: Annotated[
        str | None, typer.Option(help="of masks, or of maps that are cut; default: the last of masks, else of maps")
    ] = None,
    worst: Annotated[int, typer.Option(min=1, help="how many images to list and draw")] = 12,
    images: Annotated[int | None, typer.Option(min=2, help="how many to judge, evenly spaced; default: all")] = None,
    classifier: Annotated[
        bool, typer.Option("--classifier", help="also ask the classifier about each mask; takes forward passes")
    ] = False,
    out: _Out = None,
) -> None:
    """Judge each mask of a run without its truth, and list the worst for a look.

    Where there is a truth, it also says how far the order of each signal is that of the true IoU.

    Example: tag2mask analyse quality runs/photos --worst 20
    """
    from tag2mask.analysis.mask_quality import analyse_quality

    _print_quality(analyse_quality(run, stage=stage, worst=worst, images=images, classifier=classifier, out=out))


def _print_fitness(report: FitnessReport) -> None:
    from tag2mask.data.tag_remarks import remarks

    found = report.found
    say(f"{report.split}: {found.n_images} images, {found.untagged} without tags\n")
    classes = [
        [c.name, str(c.images), f"{c.share:.3f}", str(c.alone), c.companion or "-", _share(c.companion_share)]
        for c in found.class_lines()
    ]
    say(table(["class", "images", "share", "alone", "most often with", "p"], classes))
    _print_pairs(found)
    if report.prototypes:
        _print_contexts(report.prototypes)
    warnings = remarks(found)
    say()
    for remark in warnings:
        say(f"warning [{remark.kind}] {remark.text}\n    {remark.remedy}")
    if not warnings:
        say("nothing in the tags that would spoil a classifier")
    _print_files(report.files)


def _print_pairs(found: Cooccurrence) -> None:
    pairs = found.pair_lines()
    lines = [
        [p.a, p.b, f"{p.images_both}/{p.images_a}", f"{p.p_b_given_a:.3f}", f"{p.lift:.2f}", _share(p.phi)]
        for p in pairs[:_PAIRS]
    ]
    if lines:
        say(f"\nthe {len(lines)} closest of {len(pairs)} pairs: images of a class that also show another")
        say(table(["class", "with", "images", "p(with|class)", "lift", "phi"], lines))


def _print_contexts(prototypes: tuple[PrototypeLine, ...]) -> None:
    say("\ncontext prototypes that look most like their class to the classifier (pictures in the gallery):")
    shown: dict[str, list[str]] = {}
    for line in prototypes:
        if line.prototype.startswith("context"):
            shown.setdefault(line.name, []).append(f"{line.prototype} ({line.score:.2f})")
    say(table(["class", "context"], [[name, ", ".join(found[:_CONTEXTS])] for name, found in shown.items()]))


def _print_damage(found: NoiseResult) -> None:
    lines = [
        [
            d.noise, f"{d.level:g}", str(d.removed), str(d.added), d.metric, d.method, d.split, d.threshold_kind,
            f"{d.value:.2f}", f"{d.change:+.2f}",
        ]
        for d in found.lines
    ]  # fmt: skip
    say(table(["noise", "level", "gone", "new", "metric", "method", "split", "threshold", "value", "change"], lines))
    for command, why in found.failed:
        say(f"failed: {command}: {why}")
    _print_files(found.files)


def _print_quality(report: QualityReport) -> None:
    names = report.found.names
    lines = [
        [i.id, _share(i.score), *(_share(v) for v in i.signals), "-" if math.isnan(i.miou) else f"{i.miou:.1f}"]
        for i in report.worst
    ]
    say(f"{report.stage}, {report.found.split}: the {len(lines)} most doubtful of {len(report.found.images)} images")
    say(table(["image", "score", *names, "miou"], lines))
    values = [
        [r.metric.partition("/")[2], f"{r.value:.3f}"]
        for r in report.numbers
        if "/" in r.metric and r.value is not None
    ]
    if values:
        say(f"\nrank correlation with the true mIoU of {report.found.n_with_truth} images (truth used for this alone):")
        say(table(["signal", "spearman"], values))
        means = {r.metric: math.nan if r.value is None else r.value for r in report.numbers}
        say(f"mean mIoU of an image {means['image_miou']:.1f}, of the most doubtful {means['image_miou_worst']:.1f}")
    _print_files(report.files)


def _print_files(files: tuple[Path, ...]) -> None:
    say()
    for path in files:
        say(str(path))


def _share(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
