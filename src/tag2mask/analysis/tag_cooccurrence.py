"""Finds classes that come together or hide in a context, from the tags and from a run's prototypes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tag2mask.analysis.base import FOLDER
from tag2mask.core.arrays import rounded
from tag2mask.core.errors import ConfigError
from tag2mask.data.base import Dataset
from tag2mask.data.cooccurrence import ClassLine, Cooccurrence, PairLine, cooccurrence
from tag2mask.data.registry import data_from_words, data_settings, open_split
from tag2mask.evaluation.result_tables import write_table
from tag2mask.methods.stage_kinds import Makes
from tag2mask.pipeline.opened_run import OpenedRun
from tag2mask.pipeline.run_folder import RECIPE
from tag2mask.report.figures import draw_shares

CO_OCCURRENCE = "co-occurrence"
_PATCHES = 4


@dataclass(frozen=True, slots=True)
class PrototypeLine:
    """One prototype of a class, as a line of CSV.

    Attributes:
        name: of the class.
        prototype: side and number, as ``tag2mask prototypes`` has it. ``context`` is what lies around the class and
            does not belong to it; a ``foreground`` that shows no part of the object is context taken for the class.
        score: probability of the class that the classifier gives it, 0..1; a high one of a context is context that
            looks like the class to the classifier.
        size: feature vectors in its cluster.
    """

    name: str
    prototype: str
    score: float
    size: int


@dataclass(frozen=True, slots=True)
class FitnessReport:
    """What `analyse_cooccurrence` found and wrote.

    Attributes:
        split: the split whose tags were counted.
        found: counts and what they say.
        prototypes: the kept ones of each class, context first, highest score first; empty without a run that has some.
        files: in the order to look at them.
    """

    split: str
    found: Cooccurrence
    prototypes: tuple[PrototypeLine, ...]
    files: tuple[Path, ...]


def analyse_cooccurrence(
    words: Sequence[str], *, split: str | None = None, out: Path | None = None, root: Path | None = None
) -> FitnessReport:
    """Count which tags come together, and show the prototypes where a run has some; ground truth is not read.

    Writes ``co-occurrence.csv`` (pairs), ``co-occurrence-classes.csv``, ``co-occurrence.svg``, and for a run with
    prototypes ``co-occurrence-prototypes.csv`` and a gallery ``co-occurrence.html``.

    Args:
        words: a run folder, or a data set as for ``tag2mask doctor``: a kind or a folder, then ``key=value``.
        split: whose tags; None means the one that trains.
        out: folder for the files; None means ``analysis``, in the run folder or, for data, in the working folder.
        root: of a run whose data have moved, their folder.

    Raises:
        ConfigError: a word is not ``key=value``, a run folder is followed by one, or an unknown setting.
        DataError: the data cannot be read, or the split has no image.
        StageError: a file cannot be written.
    """
    run = _run_of(words, root)
    dataset = run.split(split or run.plan.data.train) if run else _data_of(words, split)
    found = cooccurrence((s.tags for s in dataset.samples), dataset.classes)
    out = out or (run.path / FOLDER if run else Path(FOLDER))
    files = [out / f"{CO_OCCURRENCE}{ending}" for ending in (".csv", "-classes.csv", ".svg")]
    write_table(files[0], PairLine, found.pair_lines())
    write_table(files[1], ClassLine, found.class_lines())
    draw_shares(
        found.classes,
        found.conditional,
        f"Tags that come together, {dataset.split}, {found.n_images} images (percent of a row's images)",
        files[2],
    )
    lines, gallery = _prototypes(run, out) if run else ((), ())
    return FitnessReport(dataset.split, found, lines, (*files, *gallery))


def _run_of(words: Sequence[str], root: Path | None) -> OpenedRun | None:
    """The run that the first word names, checked; None where it names data."""
    path = Path(words[0])
    if not (path / RECIPE).is_file():
        if root is not None:
            raise ConfigError(f"--root {root} belongs to a run, but {path} is not one (it has no {RECIPE})")
        return None
    if len(words) > 1:
        raise ConfigError(f"'{words[1]}' behind the run {path}: a run knows its data; give --split, or name the data")
    return OpenedRun(path, root)


def _data_of(words: Sequence[str], split: str | None) -> Dataset:
    kind, values = data_from_words(words)
    settings = data_settings(kind, values)
    return open_split(kind, settings, split or settings.train)


def _prototypes(run: OpenedRun, out: Path) -> tuple[tuple[PrototypeLine, ...], tuple[Path, ...]]:
    """The kept prototypes of the run's first finished stage of prototypes, as lines and as a gallery."""
    made = [s for s in run.stages.values() if s.kind.makes is Makes.PROTOTYPES and run.is_finished(s.name)]
    if not made:
        return (), ()
    from tag2mask.analysis.prototype_gallery import gallery_classes
    from tag2mask.report.gallery import render_gallery

    classes = gallery_classes(run, made[0], kept_only=True, patches=_PATCHES)
    page, table = out / f"{CO_OCCURRENCE}.html", out / f"{CO_OCCURRENCE}-prototypes.csv"
    lines = tuple(
        PrototypeLine(c.name, p.name, rounded(p.score), p.size)
        for c in classes
        for p in sorted(c.prototypes, key=lambda p: (p.side != "context", -p.score, p.name))
    )
    write_table(table, PrototypeLine, lines)
    render_gallery(classes, f"What each class of {run.path.name} is seen in", page, str(run.path))
    return lines, (table, page)
