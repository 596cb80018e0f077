"""The page of one run or several: from its parts to what its template draws, the data of its script, and the file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tag2mask.core.errors import DataError
from tag2mask.report.charts import Bins, Chart, chart, histogram
from tag2mask.report.confusion import ConfusionView, view
from tag2mask.report.html import render
from tag2mask.report.parts import RunPart, SplitPart
from tag2mask.report.pictures import EDGE, PATTERNS, RIM, STRONG, TILE, WEAK, class_style, heat_colours, swatch_uri
from tag2mask.report.scores import Group, Headline, Mean, MethodResult, Score, groups, headlines, means


@dataclass(frozen=True, slots=True)
class ScoreTable:
    """Numbers that may be compared, the largest mIoU, shown in bold, and means of the methods with several seeds.

    There is no best where there is nothing to compare. ``trivial`` answers on as many images stand below for scale.
    """

    group: Group
    best: float | None
    several: tuple[Mean, ...]
    trivial: tuple[tuple[str, Score], ...] = ()

    @property
    def thin(self) -> bool:
        """Whether a class is thin, and IoU with a tolerance has a column."""
        return _has_thin(score for _, score in self.group.scores)


@dataclass(frozen=True, slots=True)
class SplitView:
    """One split, ready for the template; the attributes are named like what they show."""

    part: SplitPart
    headlines: tuple[Headline, ...]
    tables: tuple[ScoreTable, ...]
    chart: Chart | None
    histograms: tuple[Bins, ...]
    detailed: tuple[MethodResult, ...]
    confusions: tuple[tuple[MethodResult, ConfusionView], ...]


@dataclass(frozen=True, slots=True)
class Switch:
    """A class that can be switched off: its column, its name, a sample of its tint, and the tint in words."""

    column: int
    name: str
    uri: str
    pattern: str


@dataclass(frozen=True, slots=True)
class RunView:
    """One run, ready for the template: its splits, and the classes in its pictures; ids begin with ``anchor``."""

    anchor: str
    run: RunPart
    splits: tuple[SplitView, ...]
    switches: tuple[Switch, ...]


@dataclass(frozen=True, slots=True)
class Compared:
    """Numbers of several runs that may be compared: same images, same classes, same kind of threshold."""

    split: str
    n_images: int
    kind: str  # of the threshold
    rows: tuple[tuple[str, str, Score], ...]  # run, method and score of each
    best: float  # the largest mIoU

    @property
    def thin(self) -> bool:
        """As of `ScoreTable`."""
        return _has_thin(score for *_, score in self.rows)


@dataclass(frozen=True, slots=True)
class PageComparison:
    """What can be compared of several runs, and whether anything is left out."""

    groups: tuple[Compared, ...]
    left_out: bool


def run_view(run: RunPart, anchor: str) -> RunView:
    """Lay one run out."""
    return RunView(anchor, run, tuple(split_view(part) for part in run.parts), _switches(run))


def split_view(part: SplitPart) -> SplitView:
    """Lay one split out; every method's details come last measured first."""
    detailed = tuple(m for m in reversed(part.methods) if m.labels)
    return SplitView(
        part,
        headlines(part.methods) if part.methods else (),
        tuple(
            _table(group, part.trivial)
            for group in sorted(groups(part.methods), key=lambda group: group.kind == "oracle")
        ),
        chart([(m.name, m.curve) for m in part.methods]),
        tuple(h for m in part.methods if (h := histogram(m.name, m.optima, m.scores[0].threshold)) is not None),
        detailed,
        tuple((m, view(m.confusion, [label.name for label in m.labels])) for m in detailed if m.confusion is not None),
    )


def _has_thin(scores: Iterable[Score]) -> bool:
    return any(not math.isnan(score.tolerance) for score in scores)


def _table(group: Group, trivial: Sequence[tuple[str, Score]]) -> ScoreTable:
    known = [score.miou for _, score in group.scores if score.miou >= 0]  # not NaN
    best = max(known) if known and len(group.scores) > 1 else None
    several = tuple(mean for mean in means(group.scores) if mean.n > 1)
    scale = tuple((name, score) for name, score in trivial if score.n_images == group.n_images)
    return ScoreTable(group, best, several, scale)


def _switches(run: RunPart) -> tuple[Switch, ...]:
    panels = [panel for part in run.parts for shown in part.shown for panel in shown.panels]
    every = [layer.column for panel in panels for layer in panel.layers] + [panel.column for panel in panels]
    columns = sorted({column for column in every if column is not None})
    return tuple(Switch(c, run.classes[c], swatch_uri(c), class_style(c).pattern) for c in columns)


def comparison(runs: Sequence[RunPart]) -> PageComparison:
    """What of several runs may stand in one table: same images and classes, same kind of threshold, two runs at least.

    A run's scores of other images or kinds are left out, and that is said.
    """
    found: dict[tuple[str, str, int, str], list[tuple[int, str, str, Score]]] = {}
    for number, run in enumerate(runs):
        for split, group in ((part.split, group) for part in run.parts for group in groups(part.methods)):
            rows = [(number, run.name, name, score) for name, score in group.scores if score.miou >= 0]
            found.setdefault((group.images, split, group.n_images, group.kind), []).extend(rows)
    compared, left_out = [], False
    for (_, split, n_images, kind), rows in found.items():
        if len({number for number, *_ in rows}) < 2:
            left_out |= bool(rows)
            continue
        best = max(score.miou for *_, score in rows)
        compared.append(Compared(split, n_images, kind, tuple((r, m, s) for _, r, m, s in rows), best))
    return PageComparison(tuple(compared), left_out)


def script_data(runs: Sequence[RunPart]) -> dict[str, Any]:
    """What the page's script knows beside the pictures: the tints, the heat map's colours, the measured thresholds.

    A map's pixel is worth the place of its colour in ``ramp``, 0..255, over 255.
    """
    columns = [switch.column for run in runs for switch in _switches(run)]
    return {
        "ramp": [int(r) << 16 | int(g) << 8 | int(b) for r, g, b in heat_colours()],
        "tile": TILE,
        "patterns": {name: "".join("01"[int(cell)] for cell in tile.flat) for name, tile in PATTERNS.items()},
        "strong": STRONG,
        "weak": WEAK,
        "edge": list(EDGE),
        "rim": list(RIM),
        "classes": {c: {"rgb": list(class_style(c).rgb), "pattern": class_style(c).pattern} for c in columns},
        "runs": [
            {"id": f"r{number}", "names": list(run.classes), "thresholds": dict(run.thresholds)}
            for number, run in enumerate(runs)
        ],
    }


def render_page(runs: Sequence[RunPart], out: Path) -> None:
    """Write one HTML file, a section for each run, that needs no other file; several are compared first."""
    if not runs:
        raise DataError("a page needs at least one run")
    for run in runs:
        if not run.parts:
            raise DataError(f"a page needs at least one measured stage, but {run.name} has none; run a recipe with one")
    title = runs[0].title if len(runs) == 1 else f"{len(runs)} runs: {', '.join(run.name for run in runs)}"
    render(
        "page.html",
        out,
        title=title,
        runs=[run_view(run, f"r{number}") for number, run in enumerate(runs)],
        compared=comparison(runs) if len(runs) > 1 else None,
        data=script_data(runs),
    )
