"""Writes the tables of the pages from the CSVs in ``results/``, so that no number in them is typed by hand.

A page holds, on lines of their own, a marker and its end; what stands between is replaced::

    <!-- table: results/voc-animals/seeds.csv columns=method,n_images metrics=miou,fp where=threshold_kind:oracle -->
    <!-- /table -->

``columns`` are shown as they are. With ``metrics``, rows that agree in ``columns`` become one line with a cell for each
metric: the value, or mean ± standard deviation (number of seeds) where several seeds give one. ``where`` keeps the rows
whose column has that value (several columns: ``where=split:train,threshold_kind:oracle``; one of several values:
``where=method:cam|lpcam``). ``digits`` sets the decimals of metrics (1). ``f1_foreground``, where a CSV is older than
it, is worked out of the IoUs of its classes: F1 of one class is 2 IoU / (1 + IoU).

The settings of a kind of stage, with their defaults, are a table too, read from its schema::

    <!-- settings: cam -->
    <!-- /settings -->

Run ``python docs/make_tables.py`` from the repository's root.
"""

from __future__ import annotations

import csv
import json
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tag2mask.core.errors import ConfigError, unknown
from tag2mask.evaluation.background import Background
from tag2mask.evaluation.metrics import BACKGROUND
from tag2mask.methods.registry import stage_kind

ROOT = Path(__file__).resolve().parent.parent
PAGES = tuple(str(path.relative_to(ROOT)) for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))))
"""Every page that may hold tables, from the repository's root."""
_BLOCK = re.compile(
    r"^<!-- (?P<what>table|settings): (?P<spec>[^\n]*?) -->\n(?P<body>.*?)(?P<end>^<!-- /(?P=what) -->$)",
    re.DOTALL | re.MULTILINE,
)
_MARKER = re.compile(r"^<!-- /?(?:table|settings)\b", re.MULTILINE)
F1 = "f1_foreground"
_KEYS = ("columns", "metrics", "where", "digits")


@dataclass(frozen=True, slots=True)
class Table:
    """What a marker asks for.

    Attributes:
        path: the CSV, from the repository's root.
        columns: columns shown as they are.
        metrics: values of the CSV's column ``metric`` that get a column each; empty for a plain table.
        where: column and the value it must have, or several with ``|`` between them.
        digits: decimals of the metrics.
    """

    path: str
    columns: tuple[str, ...]
    metrics: tuple[str, ...] = ()
    where: tuple[tuple[str, str], ...] = ()
    digits: int = 1


def parse(spec: str) -> Table:
    """Read a marker's text.

    Raises:
        ConfigError: a key that is not known, or no columns.
    """
    path, *options = spec.split()
    values = dict(option.partition("=")[::2] for option in options)
    for key in values:
        if key not in _KEYS:
            raise ConfigError(unknown(f"key in the marker of {path}:", key, _KEYS))
    if not values.get("columns"):
        raise ConfigError(f"the marker of {path} has no columns=...")
    where = [pair.partition(":")[::2] for pair in values.get("where", "").split(",") if pair]
    metrics = [name for name in values.get("metrics", "").split(",") if name]
    columns = tuple(values["columns"].split(","))
    return Table(path, columns, tuple(metrics), tuple(where), int(values.get("digits", "1")))


def render(table: Table, root: Path) -> str:
    """The Markdown of one table, with the commands that made it below.

    Raises:
        ConfigError: the CSV or a column is absent, no row is left, or thresholds of several kinds would be mixed.
    """
    rows = _selected(table, root)
    kinds = sorted({row["threshold_kind"] for row in rows if "threshold_kind" in row})
    if len(kinds) > 1:
        raise ConfigError(
            f"the table of {table.path} mixes thresholds of the kinds {', '.join(kinds)}, which cannot be compared; "
            f"choose one: where=threshold_kind:{kinds[0]}"
        )
    lines = _pivoted(table, rows) if table.metrics else [[row[c] for c in table.columns] for row in rows]
    head = [*table.columns, *table.metrics]
    text = [_line(head), _line(["---"] * len(head)), *map(_line, lines)]
    commands = dict.fromkeys(row["command"] for row in rows if row.get("command"))
    return "\n".join([*text, *(f"\nMade by `{command}`." for command in commands)]) + "\n"


def fill(page: str, root: Path) -> str:
    """A page's text with every table written anew.

    Raises:
        ConfigError: a marker without its end, or what `parse` and `render` raise.
    """
    if len(_MARKER.findall(page)) != 2 * len(_BLOCK.findall(page)):
        raise ConfigError(
            "a '<!-- table: ... -->' has no '<!-- /table -->' of its own on a line after it, or the reverse "
            "(settings alike)"
        )

    def written(block: re.Match[str]) -> str:
        spec = block["spec"]
        text = render(parse(spec), root) if block["what"] == "table" else settings_table(spec)
        return f"<!-- {block['what']}: {spec} -->\n\n{text}\n{block['end']}"

    return _BLOCK.sub(written, page)


def settings_table(kind: str) -> str:
    """The Markdown of a stage's settings: names as a recipe has them, defaults, and what they are.

    Args:
        kind: of stage. The settings of its ``backbone``, the same for every kind, are in docs/backbones.md.

    Raises:
        ConfigError: there is no such kind.
    """
    lines = [_line(["setting", "default", "what it is"]), _line(["---"] * 3)]
    return "\n".join([*lines, *(_line(cells) for cells in _fields(stage_kind(kind).settings, ""))]) + "\n"


def _fields(schema: type[BaseModel], prefix: str) -> Iterator[list[str]]:
    """A line for each setting; those of a part follow in its place, under dotted names."""
    for name, field in schema.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel) and inner is not Background and name != "backbone":
            yield from _fields(inner, f"{prefix}{name}.")
        else:
            yield [f"`{prefix}{name}`", _default(field), field.description or ""]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "–"
    value: Any = field.get_default(call_default_factory=True)
    if isinstance(value, Background):
        return f"`{value.kind}`"
    if isinstance(value, BaseModel):
        set_ = {key: getattr(value, key) for key in value.model_fields_set}
        return ", ".join(f"`{key}={_plain(v)}`" for key, v in set_.items()) or "its defaults"
    return f"`{_plain(value)}`"


def _plain(value: Any) -> str:
    """A value as a recipe has it."""
    return value if isinstance(value, str) else json.dumps(value)


def main() -> None:
    """Write the tables of every page."""
    for name in PAGES:
        page = ROOT / name
        page.write_text(fill(page.read_text(encoding="utf-8"), ROOT), encoding="utf-8")


def _selected(table: Table, root: Path) -> list[dict[str, str]]:
    path = root / table.path
    if not path.is_file():
        raise ConfigError(f"{table.path} is absent: run what measures it, or take its marker out of the page")
    with path.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        names = reader.fieldnames or []
        needed = [*table.columns, *(name for name, _ in table.where), *(("metric", "value") if table.metrics else ())]
        for name in needed:
            if name not in names:
                raise ConfigError(unknown(f"column of {table.path}", name, names))
        every = list(reader)
        rows = [row for row in every if all(row[name] in value.split("|") for name, value in table.where)]
    if F1 in table.metrics and not any(row["metric"] == F1 for row in rows):
        rows += _f1_rows(rows)
    if not rows:
        raise ConfigError(f"no row of {table.path} has {', '.join(f'{n} {v}' for n, v in table.where) or 'a value'}")
    return rows


def _f1_rows(rows: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """A row of the mean F1 of the foreground classes for each set of their IoUs, undefined ones left out."""
    ious: dict[tuple[str, ...], list[float]] = {}
    first: dict[tuple[str, ...], Mapping[str, str]] = {}
    for row in rows:
        metric, _, label = row["metric"].partition("/")
        if metric == "iou" and label != BACKGROUND and row["value"]:
            key = tuple(value for name, value in row.items() if name not in ("metric", "value"))
            ious.setdefault(key, []).append(float(row["value"]))
            first.setdefault(key, row)
    f1s = {key: statistics.fmean(200 * iou / (100 + iou) for iou in values) for key, values in ious.items()}
    return [{**first[key], "metric": F1, "value": f"{value:.4f}"} for key, value in f1s.items()]


def _pivoted(table: Table, rows: Sequence[Mapping[str, str]]) -> list[list[str]]:
    lines: dict[tuple[str, ...], dict[str, dict[str, str]]] = {}
    for row in rows:
        if row["metric"] in table.metrics:
            key = tuple(row[c] for c in table.columns)
            by_seed = lines.setdefault(key, {}).setdefault(row["metric"], {})
            if row.get("seed", "") in by_seed:
                raise ConfigError(
                    f"{table.path} has two values of {row['metric']} with one seed for {', '.join(key)}; "
                    "name the column that tells them apart in columns=... or where=..."
                )
            by_seed[row.get("seed", "")] = row["value"]
    for metric in table.metrics:
        if not any(metric in line for line in lines.values()):
            raise ConfigError(unknown(f"metric of {table.path}", metric, {row["metric"] for row in rows}))
    return [
        [*key, *(_cell(list(line.get(m, {}).values()), table.digits) for m in table.metrics)]
        for key, line in lines.items()
    ]


def _cell(texts: Sequence[str], digits: int) -> str:
    values = [float(text) for text in texts if text]
    if not values:
        return "–"
    mean = f"{statistics.fmean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{digits}f} ({len(values)})"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    main()
