"""The papers' experiments by id: question, table rows, published values, the stages that give ours, and steps.

They are read from ``lpcam.yaml``, ``amn.yaml`` and ``variants.yaml`` in this folder.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tag2mask.config.plain import read_yaml
from tag2mask.core.errors import ConfigError, unknown
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
    """A number of a paper."""

    metric: str  # as in metrics.jsonl
    value: float  # in the paper's unit, percent for shares
    on: str  # the data that it was measured on, such as VOC train
    source: str  # where it stands, such as LPCAM, Table 1
    note: str = ""  # what else sets it apart, such as first weights that saw masks


@dataclass(frozen=True, slots=True)
class Variant:
    """A recipe and what is changed in it."""

    name: str  # ends the names of stages that differ from those of other variants
    recipe: str  # name of a shipped one; {data} stands for voc12 or coco14
    overrides: tuple[str, ...] = ()  # key=value on top of it; stages.NAME={…} adds a stage


@dataclass(frozen=True, slots=True)
class StageRef:
    """A stage of a variant: maps, masks or a network."""

    variant: Variant
    stage: str


@dataclass(frozen=True, slots=True)
class TableRow:
    """One line of an experiment's table."""

    name: str  # what is measured, in words
    light: StageRef | None = None  # our side of it with the light recipes; None where they have none
    papers: StageRef | None = None  # the same with the papers' recipes
    published: tuple[Published, ...] = ()  # the papers' values
    needs: str = ""  # a method that is not implemented, so that the row has no side of ours
    note: str = ""  # another reason for that, or a remark

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
    """One setting of a sweep."""

    label: str  # its symbol in the paper
    setting: str  # dotted, as on the command line
    values: tuple[str, ...]  # as texts of YAML

    def row(self, value: str) -> str:
        """Name of the row of one value."""
        return f"{self.label} = {value}"


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step adds to an experiment's table and folder."""

    rows: tuple[ResultRow, ...] = ()  # ``method`` is the name of a row
    files: tuple[Path, ...] = ()  # in the order to look at them
    lines: tuple[str, ...] = ()  # sentences below the table


@dataclass(frozen=True, slots=True)
class FinishedExperiment:
    """The input of a step: an experiment whose run is finished."""

    experiment: Experiment
    stages: Mapping[str, str]  # name of a row -> the stage that gives our side, without its seed
    recipe: Recipe | None  # the combined recipe; None where no run is needed
    done: tuple[Done, ...]  # finished stages in order
    out: Path  # folder of the experiment and of its run
    command: str  # that repeats all of it
    images: tuple[str, ...] = ()  # ids of images to show in pictures

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
    """One table, figure or claim of a paper."""

    id: str  # L1 to L13 of LPCAM, A1 to A15 of AMN
    paper: Paper
    item: str  # table, figure or section of the paper
    title: str
    question: str  # that it answers
    rows: tuple[TableRow, ...]
    metrics: tuple[str, ...] = ("miou",)  # of its table in order; iou/ stands for all with this prefix
    orders: tuple[ExpectedOrder, ...] = ()
    steps: tuple[str, ...] = ()  # measured or drawn beyond the rows' own numbers, see `load_step`
    axes: tuple[Axis, ...] = ()  # swept one after the other
    swept: TableRow | None = None  # the row whose stages are swept
    needs_ground_truth: bool = True  # whether it has no numbers without masks
    pictures: bool = False  # whether --image names images for its pictures
    notes: tuple[str, ...] = ()
    used: str = "PASCAL VOC 2012, ResNet-50 classifier"  # data and backbone of the paper's numbers

    @property
    def missing(self) -> tuple[str, ...]:
        """Methods that some rows need and that are not implemented."""
        return tuple(dict.fromkeys(row.needs for row in self.rows if row.needs))

    def refs(self, recipes: Recipes) -> dict[str, StageRef]:
        """Name of a row -> our side of it, for the rows that have one; of a sweep the swept row alone."""
        rows = self.rows if self.swept is None else (self.swept,)
        return {row.name: ref for row in rows if (ref := row.ref(recipes)) is not None}


_PAPERS: tuple[Paper, ...] = ("LPCAM", "AMN")
_Variants = Mapping[str, Mapping[str, Variant]]
"""``light`` or ``papers`` -> name -> variant."""


@cache
def experiments() -> dict[str, Experiment]:
    """All experiments of both papers, LPCAM's first."""
    variants = {
        side: {name: Variant(name, v["recipe"], tuple(_flat(v.get("overrides", [])))) for name, v in entries.items()}
        for side, entries in _read("variants").items()
    }
    return {
        name: _experiment(name, paper, entry, variants)
        for paper in _PAPERS
        for name, entry in _read(paper.lower()).items()
    }


def experiment(name: str) -> Experiment:
    """The experiment of that id, in capitals or not."""
    known = experiments()
    if name.upper() not in known:
        raise ConfigError(unknown("experiment", name, known))
    return known[name.upper()]


def _read(name: str) -> Any:
    return read_yaml(Path(str(resources.files("tag2mask.papers"))) / f"{name}.yaml", "catalogue")


def _flat(values: list[Any]) -> Iterator[str]:
    for value in values:
        if isinstance(value, list):
            yield from _flat(value)
        else:
            yield value


def _experiment(name: str, paper: Paper, entry: Mapping[str, Any], variants: _Variants) -> Experiment:
    """One entry; of a sweep every value of an axis has a row, and ``rows`` holds those with published values."""
    values = dict(entry)
    source = values.pop("source", "")
    axes = tuple(Axis(a["label"], a["setting"], tuple(a["values"])) for a in values.pop("axes", ()))
    swept = values.pop("swept", None)
    rows = {row["name"]: _row(row, source, variants) for row in values.pop("rows", ())}
    if axes:
        rows = {n: rows.get(n, TableRow(n)) for axis in axes for n in map(axis.row, axis.values)}
    orders = tuple(ExpectedOrder(*order) for order in values.pop("orders", ()))
    lists = {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
    return Experiment(
        id=name, paper=paper, rows=tuple(rows.values()), axes=axes, orders=orders,
        swept=None if swept is None else _row(swept, source, variants), **{**values, **lists},
    )  # fmt: skip


def _row(entry: Mapping[str, Any], source: str, variants: _Variants) -> TableRow:
    def ref(side: str) -> StageRef | None:
        found = entry.get(side, entry.get("ours"))
        return None if found is None else StageRef(variants[side][found[0]], found[1])

    published = tuple(_published(entry.get("published", {}), source))
    return TableRow(
        entry["name"], ref("light"), ref("papers"), published, entry.get("needs", ""), entry.get("note", "")
    )


def _published(entry: Mapping[str, Any], source: str) -> Iterator[Published]:
    for on, found in entry.items():
        for metric, value in (found if isinstance(found, dict) else {"miou": found}).items():
            number, note = value if isinstance(value, list) else (value, "")
            yield Published(metric, float(number), on, source, note)
