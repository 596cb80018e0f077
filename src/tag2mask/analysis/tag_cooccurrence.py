"""Is the data fit for this? Which class hides in which context: from the tags, and from a run's prototypes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tag2mask.analysis.map_thresholds import FOLDER
from tag2mask.core.errors import ConfigError
from tag2mask.core.manifest import MANIFEST
from tag2mask.data.base import DataSettings
from tag2mask.data.cooccurrence import ClassLine, Cooccurrence, PairLine, cooccurrence
from tag2mask.data.registry import data_from_words, data_settings, open_split
from tag2mask.evaluation.result_tables import write_table
from tag2mask.methods.stage_kinds import Makes
from tag2mask.pipeline.evaluate_run import finished
from tag2mask.pipeline.keys import keys_of
from tag2mask.pipeline.plan import Plan, make_plan
from tag2mask.pipeline.run_folder import RECIPE, RunFolder
from tag2mask.report.figures import draw_shares

CO_OCCURRENCE = "co-occurrence"
_DIGITS = 4
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


def analyse_cooccurrence(words: Sequence[str], *, split: str | None = None, out: Path | None = None) -> FitnessReport:
    """Count which tags come together, and show the prototypes where a run has some; no truth is looked at.

    Writes ``co-occurrence.csv`` (pairs), ``co-occurrence-classes.csv``, ``co-occurrence.svg``, and for a run with
    prototypes ``co-occurrence-prototypes.csv`` and a gallery ``co-occurrence.html``.

    Args:
        words: a run folder, or a data set as for ``tag2mask doctor``: a kind or a folder, then ``key=value``.
        split: whose tags; the one that trains where None.
        out: folder for the files; ``analysis`` in the run folder, or in the working folder for data.

    Raises:
        ConfigError: a word is no ``key=value``, a run folder is followed by one, or an unknown setting.
        DataError: the data cannot be read, or the split has no image.
        StageError: a file cannot be written.
    """
    run, plan = _run_of(words)
    kind, settings = (plan.data_kind, plan.data) if plan else _data_of(words)
    dataset = open_split(kind, settings, split or settings.train)
    found = cooccurrence((s.tags for s in dataset.samples), dataset.classes)
    out = out or (run / FOLDER if run else Path(FOLDER))
    files = [out / f"{CO_OCCURRENCE}{ending}" for ending in (".csv", "-classes.csv", ".svg")]
    write_table(files[0], PairLine, found.pair_lines())
    write_table(files[1], ClassLine, found.class_lines())
    draw_shares(
        found.classes,
        found.conditional,
        f"Tags that come together, {dataset.split}, {found.n_images} images (percent of a row's images)",
        files[2],
    )
    lines, gallery = _shown(run, plan, out) if run and plan else ((), ())
    return FitnessReport(dataset.split, found, lines, (*files, *gallery))


def _run_of(words: Sequence[str]) -> tuple[Path | None, Plan | None]:
    """The run that the first word names, checked; (None, None) where it is no run."""
    run = Path(words[0])
    if not (run / RECIPE).is_file():
        return None, None
    if len(words) > 1:
        raise ConfigError(f"'{words[1]}' behind the run {run}: a run knows its data; give --split, or name the data")
    return run, make_plan(RunFolder.existing(run).recipe())


def _data_of(words: Sequence[str]) -> tuple[str, DataSettings]:
    kind, values = data_from_words(words)
    return kind, data_settings(kind, values)


def _shown(run: Path, plan: Plan, out: Path) -> tuple[tuple[PrototypeLine, ...], tuple[Path, ...]]:
    """The kept prototypes of the run's first finished stage of prototypes, as lines and as a gallery."""
    folder = RunFolder.existing(run)
    made = [
        s for s in plan.stages if s.kind.makes is Makes.PROTOTYPES and (folder.artefact(s.name) / MANIFEST).is_file()
    ]
    if not made:
        return (), ()
    from tag2mask.analysis.prototype_gallery import gallery_classes
    from tag2mask.report.gallery import render_gallery

    artefact = finished(folder, plan, made[0], keys_of(folder.store.root))
    classes = gallery_classes(plan, made[0], artefact, kept_only=True, patches=_PATCHES)
    page, table = out / f"{CO_OCCURRENCE}.html", out / f"{CO_OCCURRENCE}-prototypes.csv"
    lines = tuple(
        PrototypeLine(c.name, p.name, round(p.score, _DIGITS), p.size)
        for c in classes
        for p in sorted(c.prototypes, key=lambda p: (p.side != "context", -p.score, p.name))
    )
    write_table(table, PrototypeLine, lines)
    render_gallery(classes, f"What each class of {run.name} is seen in", page, str(run))
    return lines, (table, page)
