"""Prints the results of ``tag2mask analyse``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tag2mask.cli.tables import say, say_files, table

if TYPE_CHECKING:
    from tag2mask.analysis.base import Analysis
    from tag2mask.analysis.mask_quality import QualityReport
    from tag2mask.analysis.tag_cooccurrence import FitnessReport, PrototypeLine
    from tag2mask.data.cooccurrence import Cooccurrence
    from tag2mask.sweep.tag_noise import NoiseResult

_PAIRS, _CONTEXTS = 15, 3


def print_analysis(found: Analysis) -> None:
    """One line for each stage, and the files."""
    lines = []
    for name, rows in found.numbers:
        values = {row.metric: row for row in rows}
        first = rows[0]
        at = "-" if first.threshold is None else f"{first.threshold:.2f}"
        cells = [_cell(values[m].value) for m in found.metrics]
        lines.append([name, first.split, str(first.n_images), str(first.seed), first.threshold_kind, at, *cells])
    say(table(["stage", "split", "images", "seed", "threshold", "at", *found.metrics], lines))
    say_files(found.files)


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if abs(value) < 1 else f"{value:.1f}"


def print_cooccurrence(report: FitnessReport) -> None:
    """Classes, the closest pairs, contexts, warnings, and the files."""
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
    say_files(report.files)


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


def print_noise(found: NoiseResult) -> None:
    """What wrong tags cost, and the files."""
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
    say_files(found.files)


def print_quality(report: QualityReport) -> None:
    """The worst images, how far the signals are right, and the files."""
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
        count = report.found.n_with_truth
        say(f"\nrank correlation with the true mIoU of {count} images (ground truth is used for this alone):")
        say(table(["signal", "spearman"], values))
        means = {r.metric: math.nan if r.value is None else r.value for r in report.numbers}
        say(f"mean mIoU of an image {means['image_miou']:.1f}, of the most doubtful {means['image_miou_worst']:.1f}")
    say_files(report.files)


def _share(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
