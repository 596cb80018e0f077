"""The papers' experiments by id, read from ``lpcam.yaml``, ``amn.yaml`` and ``variants.yaml`` in this folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from tag2mask.config.plain import read_yaml
from tag2mask.core.errors import ConfigError, unknown
from tag2mask.papers.definition import (
    Axis,
    ExpectedOrder,
    Experiment,
    Paper,
    Published,
    StageRef,
    TableRow,
    Variant,
)

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
