"""Rerun the commands behind a table of results and say for each number whether it agrees (exit code 0 or 2).

python -m benchmarks.reproduce results/toy.csv
python -m benchmarks.reproduce results/voc-animals/seeds.csv data.root=VOC2012 --row metric=miou

Without --reuse the runs get a fresh store, so that every number is computed anew. On the machine and the versions that
made them the numbers come out equal; elsewhere within the tolerance: a column 'tolerance' of the table, else
--tolerance or the deviation over the number's seeds, whichever is larger. Only commands of tag2mask (run, sweep,
experiment run, analyse) and python -m benchmarks.NAME are run; paths in them are taken from the current folder. An
analysis is rerun on the finished run that it names; that run is not rerun.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.reproduce.commands import Command, accept, check_overrides, collect, rerun
from benchmarks.reproduce.published_tables import PublishedNumber, choose, read_table
from benchmarks.reproduce.verdicts import TOLERANCE, Judged, judge, with_spread
from tag2mask.cli.tables import table as text_table
from tag2mask.core.errors import ConfigError, DamagedError, StageError, Tag2MaskError
from tag2mask.core.files import file_hash, read_json, write_json
from tag2mask.core.locks import exclusive
from tag2mask.evaluation.result_tables import write_table
from tag2mask.sweep.run import prepare, share_store

LOG = logging.getLogger("tag2mask")
MARK, TABLE = "reproduce.json", "reproduce.csv"
_AGREE = ("equal", "within", "time")
_SHOWN = 40
_HEADLINES = ("miou", "map", "coverage")


@dataclass(frozen=True, slots=True)
class Reproduction:
    """What `reproduce` found.

    Attributes:
        path: folder of the new runs.
        rows: every chosen row of the table beside the rerun number.
        file: the same as CSV.
    """

    path: Path
    rows: tuple[Judged, ...]
    file: Path

    @property
    def agrees(self) -> bool:
        """Whether every number was computed again and is within its tolerance."""
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

    Args:
        table: a CSV with the columns of `evaluation.result_tables.ResultRow`; others, and ``tolerance``, may be there.
        rows: ``column=value`` filters; empty for all rows. Only the commands of these are run.
        overrides: ``data.root=…`` and ``engine.…`` for every command.
        out: a new folder; None for ``runs/reproduce-<table>``. An interrupted one resumes.
        reuse: use the store beside the folder instead of a fresh one.
        tolerance: points that a number may differ by, or more where its seeds deviate more; a column ``tolerance`` of
            the table counts before both.

    Raises:
        ConfigError: no row is left, a command that is not rerun, or an override that changes numbers.
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
    """Mark the folder as this reproduction's, or resume it; one that is finished is refused."""
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
    commands: Sequence[Command], chosen: Sequence[PublishedNumber], overrides: Sequence[str], out: Path
) -> list[Judged]:
    judged: list[Judged] = []
    for number, command in enumerate(commands, start=1):
        LOG.info("command %d of %d: %s", number, len(commands), command.text)
        folder = out / f"command-{number}"
        failure = rerun(command, overrides, folder)
        made = collect(command, folder)
        mine = [row for row in chosen if row.result.command == command.text]
        judged += [judge(row, made, failure) for row in mine]
    return sorted(judged, key=lambda row: row.line)


def main(words: Sequence[str] | None = None) -> int:
    """Reproduce the table that the command line names; the exit code, 2 where a number does not agree."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.reproduce", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("table", type=Path, help="a CSV such as results/voc-animals/seeds.csv")
    parser.add_argument("overrides", nargs="*", help="data.root=FOLDER and engine.… where these differ")
    parser.add_argument("--row", action="append", default=[], help="column=value of the rows to rerun; default: all")
    parser.add_argument("--out", type=Path, help="new folder; default: runs/reproduce-<table>")
    parser.add_argument("--reuse", action="store_true", help="use the store beside the folder, not a fresh one")
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, help="points a number may differ by")
    given = parser.parse_intermixed_args(words)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        found = reproduce(
            given.table, rows=given.row, overrides=given.overrides, out=given.out, reuse=given.reuse,
            tolerance=given.tolerance,
        )  # fmt: skip
    except Tag2MaskError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    _print(found.rows)
    print(f"\nfolder: {found.path}\n{found.file}")
    return 0 if found.agrees else 2


def _print(rows: Sequence[Judged]) -> None:
    """What does not agree, the headline numbers, and the count of each verdict."""
    differing = [r for r in rows if r.verdict in {"differs", "missing"}]
    shown = [*differing, *(r for r in rows if r not in differing and r.metric in _HEADLINES)][:_SHOWN]
    lines = [
        [
            str(r.line), r.method, r.split, r.threshold_kind, str(r.seed), r.metric, _number(r.published),
            _number(r.made), "-" if r.difference is None else f"{r.difference:+.4f}", f"{r.tolerance:g}", r.verdict,
            r.note,
        ]
        for r in shown
    ]  # fmt: skip
    head = ["line", "method", "split", "threshold", "seed", "metric", "published", "made", "difference", "tolerance"]
    if lines:
        print(text_table([*head, "verdict", "note"], lines))
    counts = {verdict: sum(r.verdict == verdict for r in rows) for verdict in dict.fromkeys(r.verdict for r in rows)}
    words = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    print(f"\n{len(rows)} numbers: {words}. " + ("The table agrees." if not differing else "The table does not agree."))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


if __name__ == "__main__":
    sys.exit(main())
