"""Making a published table again: the commands behind it, run anew, and whether their numbers agree."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tag2mask.core.errors import ConfigError, DamagedError, StageError
from tag2mask.core.files import file_hash, read_json, write_json
from tag2mask.core.locks import exclusive
from tag2mask.evaluation.result_tables import write_table
from tag2mask.experiments.commands import Command, accept, check_overrides, collect, run_again
from tag2mask.experiments.published import TableRow, choose, read_table
from tag2mask.experiments.verdicts import TOLERANCE, Judged, judge, with_spread
from tag2mask.sweep.run import prepare, share_store

LOG = logging.getLogger("tag2mask")
MARK, TABLE = "reproduce.json", "reproduce.csv"
_AGREE = ("equal", "within", "time")


@dataclass(frozen=True, slots=True)
class Reproduction:
    """What `reproduce` found.

    Attributes:
        path: folder of the new runs.
        rows: every chosen row of the table beside the number made again.
        file: the same as CSV.
    """

    path: Path
    rows: tuple[Judged, ...]
    file: Path

    @property
    def agrees(self) -> bool:
        """Whether every number was made again and is within its tolerance."""
        return all(row.verdict in _AGREE for row in self.rows)


def reproduce(
    table: Path,
    *,
    rows: Sequence[str] = (),
    overrides: Sequence[str] = (),
    out: Path | None = None,
    reuse: bool = False,
    tolerance: float = TOLERANCE,
) -> Reproduction:
    """Run the commands behind a table of results in a new folder and compare the numbers.

    Relative paths in a command are taken from the current folder, as where it was run first.

    Args:
        table: a CSV with the columns of `evaluation.result_tables.ResultRow`; others, and ``tolerance``, may be there.
        rows: ``column=value`` filters; all rows where empty. Only the commands of these are run.
        overrides: ``data.root=…`` and ``engine.…`` for every command.
        out: a new folder; ``runs/reproduce-<table>`` where None. One that was interrupted goes on.
        reuse: use the store beside the folder; else a fresh one, so that every number is really made again.
        tolerance: points that a number may differ by, or more where its seeds deviate more; a column ``tolerance`` of
            the table counts before both.

    Raises:
        ConfigError: no row is left, a command that is not run again, or an override that changes numbers.
        DataError: the table cannot be read.
        StageError: the folder holds something else, or a finished reproduction.
    """
    if not 0 <= tolerance <= 100:
        raise ConfigError(f"tolerance = {tolerance}; expected points of percent, 0..100")
    check_overrides(overrides)
    chosen = choose(with_spread(read_table(table), tolerance), rows, table)
    texts = dict.fromkeys(row.result.command for row in chosen)
    where = {
        text: next(f"line {row.line} of {table}" for row in chosen if row.result.command == text) for text in texts
    }
    commands = [accept(text, where[text]) for text in texts]
    out = out or Path("runs") / f"reproduce-{table.absolute().parent.name}-{table.stem}"
    prepare(out, MARK, "reproduction")
    with exclusive(out / "lock", f"the reproduction {out}"):
        mark = {"table": file_hash(table), "commands": list(texts), "overrides": list(overrides), "reuse": reuse}
        _begin(out, mark)
        if reuse:
            share_store(out)
        judged = _judged(commands, chosen, overrides, out)
        write_table(out / TABLE, Judged, judged)
        write_json(out / MARK, {**mark, "finished": True})
    return Reproduction(out, tuple(judged), out / TABLE)


def _begin(out: Path, mark: dict[str, object]) -> None:
    """Mark the folder as this reproduction's, or go on with it.

    Raises:
        StageError: it is of another table, or finished: its numbers would only be looked up.
    """
    try:
        known = read_json(out / MARK) if (out / MARK).is_file() else None
    except DamagedError as error:
        LOG.warning("%s; it is written again", error)
        known = None
    if known is not None and known != {**mark, "finished": False}:
        state = "is finished" if isinstance(known, dict) and known.get("finished") else "is of other rows or settings"
        raise StageError(f"the reproduction in {out} {state}; name another folder with --out, or remove this one")
    write_json(out / MARK, {**mark, "finished": False})


def _judged(
    commands: Sequence[Command], chosen: Sequence[TableRow], overrides: Sequence[str], out: Path
) -> list[Judged]:
    judged: list[Judged] = []
    for number, command in enumerate(commands, start=1):
        LOG.info("command %d of %d: %s", number, len(commands), command.text)
        folder = out / f"command-{number}"
        failure = run_again(command, overrides, folder)
        made = collect(command, folder)
        mine = [row for row in chosen if row.result.command == command.text]
        judged += [judge(row, made, failure) for row in mine]
    return sorted(judged, key=lambda row: row.line)
