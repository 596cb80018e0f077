"""``tag2mask compare``: measured stages of finished runs on the same images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tag2mask.cli.options import Root, opened
from tag2mask.cli.tables import say, say_files, table

if TYPE_CHECKING:
    from tag2mask.compare.tables import CompareLine, ImageLine, PairLines


def command(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="run folders; the first is the baseline")],
    stage: Annotated[
        list[str] | None,
        typer.Option(help="measured stage of each run; again: one for each run, or the stages of one run"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="folder; default: comparison in the first run's folder")] = None,
    images: Annotated[int, typer.Option(min=0, help="largest gains and losses that are drawn, of each")] = 3,
    resamples: Annotated[int, typer.Option(min=1, help="of the bootstrap over images")] = 10_000,
    root: Root = None,
) -> None:
    """Compare seeds, masks or predictions of runs: difference of mIoU with its 95 % interval, classes, seeds, images.

    Nothing is rerun: stored maps are cut at the thresholds that the runs measured, and like is compared with
    like. The interval comes from resampled images, the same ones for both sides; a deviation (±) from the seeds.
    Images on whose masks a threshold was chosen are left out on all sides.

    Example: tag2mask compare runs/a runs/b --stage lpcam-seeds

    Example: tag2mask compare runs/demo --stage cam-seeds --stage lpcam-seeds
    """
    from tag2mask.compare.compare import compare_runs

    found = compare_runs(opened(runs, root), stages=stage or [], out=out, images=images, resamples=resamples)
    _print_lines([pair.line for pair in found.pairs])
    first: set[tuple[str, str]] = set()
    for pair in found.pairs:
        if (pair.line.first, pair.line.second) not in first:  # the kinds after the first are in the files
            first.add((pair.line.first, pair.line.second))
            _print_details(pair, max(images, 1))
    say_files(found.files)


def _print_lines(lines: list[CompareLine]) -> None:
    head = ["first", "second", "split", "images", "seeds", "threshold", "mIoU", "mIoU 2", "difference", "95 % interval"]
    rows = [
        [
            line.first,
            line.second,
            line.split,
            str(line.n_images),
            line.first_seeds if line.first_seeds == line.second_seeds else f"{line.first_seeds} | {line.second_seeds}",
            line.threshold_kind,
            _spread(line.first_miou, line.first_sd, ""),
            _spread(line.second_miou, line.second_sd, ""),
            _spread(line.difference, line.difference_sd, "+"),
            f"{line.low:+.2f} .. {line.high:+.2f}",
            f"{line.sign_changes:.3f}",
        ]
        for line in lines
    ]
    say(table([*head, "sign changes"], rows))
    _print_foreground(lines)
    for line in lines:
        if line.first_ledger != line.second_ledger:
            say(f"note: {line.first} has seen {line.first_ledger}; {line.second} has seen {line.second_ledger}")


def _print_foreground(lines: list[CompareLine]) -> None:
    """The same lines by the classes without the background, and trivial answers for scale."""
    head = ["first", "second", "threshold", "fg", "fg 2", "difference", "95 % interval", "f1", "f1 2"]
    thin = any(line.first_iou_2px is not None or line.second_iou_2px is not None for line in lines)
    head += ["iou@2px", "iou@2px 2"] if thin else []
    rows = [
        [
            line.first,
            line.second,
            line.threshold_kind,
            f"{line.first_miou_foreground:.2f}",
            f"{line.second_miou_foreground:.2f}",
            f"{line.difference_foreground:+.2f}",
            f"{line.low_foreground:+.2f} .. {line.high_foreground:+.2f}",
            f"{line.first_f1_foreground:.2f}",
            f"{line.second_f1_foreground:.2f}",
            *(("-" if v is None else f"{v:.2f}" for v in (line.first_iou_2px, line.second_iou_2px)) if thin else ()),
        ]
        for line in lines
    ]
    say("\n" + table(head, rows))
    say("fg, f1: mean IoU and F1 over the classes without the background")
    scale = {
        f"{line.split}: all background {line.all_background_miou:.1f} mIoU; one random own tag an image "
        f"{line.random_tag_miou:.1f}, fg {line.random_tag_miou_foreground:.1f}, f1 {line.random_tag_f1_foreground:.1f}"
        for line in lines
    }
    say("\n".join(f"for scale, {text}" for text in sorted(scale)))


def _spread(value: float, sd: float | None, sign: str) -> str:
    return f"{value:{sign}.2f}" + ("" if sd is None else f" ± {sd:.2f}")


def _print_details(pair: PairLines, count: int) -> None:
    line = pair.line
    say(f"\n{line.second} against {line.first}, threshold: {line.threshold_kind}")
    rows = [
        [c.label, f"{c.first_iou:.1f}", f"{c.second_iou:.1f}", f"{c.difference:+.1f}", f"{c.low:+.1f} .. {c.high:+.1f}"]
        for c in pair.classes
    ]
    say(table(["label", "IoU", "IoU 2", "difference", "95 % interval"], rows))
    known = [i for i in pair.images if i.difference == i.difference]  # NaN is not itself
    say("largest gains:  " + _images([i for i in known if i.difference > 0][:count]))
    say("largest losses: " + _images([i for i in reversed(known) if i.difference < 0][:count]))


def _images(lines: list[ImageLine]) -> str:
    return ", ".join(f"{i.image} ({i.difference:+.1f})" for i in lines) or "none"
