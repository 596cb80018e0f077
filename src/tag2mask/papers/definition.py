"""What an experiment of the papers is: its question, its rows, the published values, and the stages that give ours."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tag2mask.core.names import base_name

if TYPE_CHECKING:
    from tag2mask.config.recipe import Recipe
    from tag2mask.evaluation.result_tables import ResultRow
    from tag2mask.pipeline.session import Done

Recipes = Literal["light", "voc12", "coco14"]
"""Which recipes give our numbers: the light ones of own data, or those with the papers' numbers on VOC or COCO."""

Size = Literal["full", "small"]

VOC, COCO = "PASCAL VOC 2012", "MS COCO 2014"
"""Data of the papers."""


@dataclass(frozen=True, slots=True)
class Published:
    """A number of a paper.

    Attributes:
        metric: as in ``metrics.jsonl``.
        value: in the paper's unit, percent for shares.
        on: the data that it was measured on, such as ``VOC train``.
        place: where it stands, such as ``LPCAM, Table 1``.
        note: what else sets it apart, such as first weights that saw masks.
    """

    metric: str
    value: float
    on: str
    place: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Variant:
    """A recipe and what is changed in it.

    Attributes:
        name: short; ends the names of stages that differ from those of other variants.
        recipe: name of a shipped recipe; ``{data}`` stands for ``voc12`` or ``coco14``.
        words: ``key=value`` on top of it; ``stages.NAME={…}`` adds a stage.
    """

    name: str
    recipe: str
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """A stage of a variant: maps, masks or a network."""

    variant: Variant
    stage: str


@dataclass(frozen=True, slots=True)
class Row:
    """One line of an experiment's table.

    Attributes:
        name: what is measured, in words.
        light: our side of it with the light recipes; None where they have none.
        papers: the same with the papers' recipes.
        published: the papers' values.
        needs: a method that is not there yet, without which the row has no side of ours.
        note: why else the row has none, or what is to be known of it.
    """

    name: str
    light: Place | None = None
    papers: Place | None = None
    published: tuple[Published, ...] = ()
    needs: str = ""
    note: str = ""

    def place(self, recipes: Recipes) -> Place | None:
        """Our side of the row with these recipes."""
        found = self.light if recipes == "light" else self.papers
        if found is None:
            return None
        return replace(found, variant=replace(found.variant, recipe=found.variant.recipe.format(data=recipes)))


@dataclass(frozen=True, slots=True)
class Order:
    """Which row the paper finds above which; shown as yes or no, never asserted."""

    above: str
    below: str
    metric: str = "miou"


@dataclass(frozen=True, slots=True)
class Axis:
    """One setting of a sweep.

    Attributes:
        label: its symbol in the paper.
        setting: dotted, as on the command line.
        values: as texts of YAML.
    """

    label: str
    setting: str
    values: tuple[str, ...]

    def row(self, value: str) -> str:
        """Name of the row of one value."""
        return f"{self.label} = {value}"


@dataclass(frozen=True, slots=True)
class Found:
    """What a step adds to an experiment.

    Attributes:
        rows: numbers; ``method`` is the name of a row.
        files: in the order to look at them.
        lines: sentences for the table's foot.
    """

    rows: tuple[ResultRow, ...] = ()
    files: tuple[Path, ...] = ()
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ran:
    """What a step works on.

    Attributes:
        experiment: the experiment.
        stages: name of a row -> the stage of the run that is our side of it, without its seed.
        recipe: the combined recipe; None for an experiment that needs no run.
        done: finished stages of the run in order.
        out: folder of the experiment, which is the run folder too.
        command: that makes all of it again.
        images: ids of images that pictures have to show.
    """

    experiment: Experiment
    stages: Mapping[str, str]
    recipe: Recipe | None
    done: tuple[Done, ...]
    out: Path
    command: str
    images: tuple[str, ...] = ()

    def made(self, stage: str) -> list[Done]:
        """A stage of the run, once for each seed."""
        return [d for d in self.done if d.stage.base_name == stage]

    def row_of(self, stage: str) -> str:
        """The row that a stage, with or without its seed, is our side of; the stage's name where it is of none."""
        name = base_name(stage)
        return next((row for row, mine in self.stages.items() if mine == name), name)


Step = Callable[[Ran], Found]


def load_step(name: str) -> Step:
    """The function that ``module:function`` names in this folder; torch comes with it, so it is loaded when it runs."""
    module, _, function = name.partition(":")
    step: Step = getattr(importlib.import_module(f"tag2mask.papers.steps.{module}"), function)
    return step


@dataclass(frozen=True, slots=True)
class Experiment:
    """One table, figure or claim of a paper.

    Attributes:
        id: ``L1`` to ``L13`` of LPCAM, ``A1`` to ``A15`` of AMN.
        paper: ``LPCAM`` or ``AMN``.
        item: where it stands in the paper.
        title: in a few words.
        question: that it answers.
        rows: of its table.
        metrics: columns of its table in order; ``iou/`` stands for all that begin so.
        orders: which row the paper finds above which.
        steps: what is measured or drawn beyond the rows' own numbers, each as `load_step` takes it.
        axes: settings that are swept, one after the other, at the row `swept`.
        swept: its places are what is swept.
        needs_truth: whether it says nothing without masks.
        pictures: whether images can be named for its pictures.
        notes: what a reader has to know.
        used: data and backbone of the paper's numbers.
    """

    id: str
    paper: Literal["LPCAM", "AMN"]
    item: str
    title: str
    question: str
    rows: tuple[Row, ...]
    metrics: tuple[str, ...] = ("miou",)
    orders: tuple[Order, ...] = ()
    steps: tuple[str, ...] = ()
    axes: tuple[Axis, ...] = ()
    swept: Row | None = None
    needs_truth: bool = True
    pictures: bool = False
    notes: tuple[str, ...] = field(default=())
    used: str = f"{VOC}, ResNet-50 classifier"

    @property
    def missing(self) -> tuple[str, ...]:
        """Methods that some rows wait for."""
        return tuple(dict.fromkeys(row.needs for row in self.rows if row.needs))

    def places(self, recipes: Recipes) -> dict[str, Place]:
        """Name of a row -> our side of it, for the rows that have one; for a sweep what is swept."""
        rows = self.rows if self.swept is None else (self.swept,)
        found = {row.name: row.place(recipes) for row in rows}
        return {name: place for name, place in found.items() if place is not None}
