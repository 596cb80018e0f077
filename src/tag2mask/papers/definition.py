"""Classes of a paper's experiment: question, table rows, published values, the stages that give ours, and its steps.

The entries are data, in ``lpcam.yaml`` and ``amn.yaml``; `tag2mask.papers.catalogue` reads them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
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
Paper = Literal["LPCAM", "AMN"]


@dataclass(frozen=True, slots=True)
class Published:
    """A number of a paper.

    Attributes:
        metric: as in ``metrics.jsonl``.
        value: in the paper's unit, percent for shares.
        on: the data that it was measured on, such as ``VOC train``.
        source: where it stands, such as ``LPCAM, Table 1``.
        note: what else sets it apart, such as first weights that saw masks.
    """

    metric: str
    value: float
    on: str
    source: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Variant:
    """A recipe and what is changed in it.

    Attributes:
        name: short; ends the names of stages that differ from those of other variants.
        recipe: name of a shipped recipe; ``{data}`` stands for ``voc12`` or ``coco14``.
        overrides: ``key=value`` on top of it; ``stages.NAME={…}`` adds a stage.
    """

    name: str
    recipe: str
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StageRef:
    """A stage of a variant: maps, masks or a network."""

    variant: Variant
    stage: str


@dataclass(frozen=True, slots=True)
class TableRow:
    """One line of an experiment's table.

    Attributes:
        name: what is measured, in words.
        light: our side of it with the light recipes; None where they have none.
        papers: the same with the papers' recipes.
        published: the papers' values.
        needs: a method that is not implemented, so that the row has no side of ours.
        note: another reason for that, or a remark.
    """

    name: str
    light: StageRef | None = None
    papers: StageRef | None = None
    published: tuple[Published, ...] = ()
    needs: str = ""
    note: str = ""

    def ref(self, recipes: Recipes) -> StageRef | None:
        """Our side of the row with these recipes."""
        found = self.light if recipes == "light" else self.papers
        if found is None:
            return None
        return replace(found, variant=replace(found.variant, recipe=found.variant.recipe.format(data=recipes)))


@dataclass(frozen=True, slots=True)
class ExpectedOrder:
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
class StepResult:
    """What a step adds to an experiment's table and folder.

    Attributes:
        rows: numbers; ``method`` is the name of a row.
        files: in the order to look at them.
        lines: sentences below the table.
    """

    rows: tuple[ResultRow, ...] = ()
    files: tuple[Path, ...] = ()
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FinishedExperiment:
    """The input of a step: an experiment whose run is finished.

    Attributes:
        experiment: the experiment.
        stages: name of a row -> the stage of the run that gives our side, without its seed.
        recipe: the combined recipe; None for an experiment that needs no run.
        done: finished stages of the run in order.
        out: folder of the experiment, which is the run folder too.
        command: that repeats all of it.
        images: ids of images to show in pictures.
    """

    experiment: Experiment
    stages: Mapping[str, str]
    recipe: Recipe | None
    done: tuple[Done, ...]
    out: Path
    command: str
    images: tuple[str, ...] = ()

    def made(self, stage: str) -> list[Done]:
        """The finished instances of a stage, one for each seed."""
        return [d for d in self.done if d.stage.base_name == stage]

    def row_of(self, stage: str) -> str:
        """The row whose side a stage gives, named with or without its seed; the stage's name if there is none."""
        name = base_name(stage)
        return next((row for row, mine in self.stages.items() if mine == name), name)


Step = Callable[[FinishedExperiment], StepResult]


def load_step(name: str) -> Step:
    """The function that ``module:function`` names in ``papers/steps``, imported (with torch) when it is needed."""
    module, _, function = name.partition(":")
    step: Step = getattr(importlib.import_module(f"tag2mask.papers.steps.{module}"), function)
    return step


@dataclass(frozen=True, slots=True)
class Experiment:
    """One table, figure or claim of a paper.

    Attributes:
        id: ``L1`` to ``L13`` of LPCAM, ``A1`` to ``A15`` of AMN.
        paper: ``LPCAM`` or ``AMN``.
        item: table, figure or section of the paper.
        title: in a few words.
        question: that it answers.
        rows: of its table.
        metrics: of its table in order; ``iou/`` stands for all with this prefix.
        orders: which row the paper finds above which.
        steps: what is measured or drawn beyond the rows' own numbers, as `load_step` takes it.
        axes: settings that are swept, one after the other.
        swept: the row whose stages are swept.
        needs_ground_truth: whether it has no numbers without masks.
        pictures: whether ``--image`` names images for its pictures.
        notes: for the reader of the table.
        used: data and backbone of the paper's numbers.
    """

    id: str
    paper: Paper
    item: str
    title: str
    question: str
    rows: tuple[TableRow, ...]
    metrics: tuple[str, ...] = ("miou",)
    orders: tuple[ExpectedOrder, ...] = ()
    steps: tuple[str, ...] = ()
    axes: tuple[Axis, ...] = ()
    swept: TableRow | None = None
    needs_ground_truth: bool = True
    pictures: bool = False
    notes: tuple[str, ...] = ()
    used: str = "PASCAL VOC 2012, ResNet-50 classifier"

    @property
    def missing(self) -> tuple[str, ...]:
        """Methods that some rows need and that are not implemented."""
        return tuple(dict.fromkeys(row.needs for row in self.rows if row.needs))

    def refs(self, recipes: Recipes) -> dict[str, StageRef]:
        """Name of a row -> our side of it, for the rows that have one; of a sweep the swept row alone."""
        rows = self.rows if self.swept is None else (self.swept,)
        return {row.name: ref for row in rows if (ref := row.ref(recipes)) is not None}
