"""The commands behind published tables: which of them may be rerun, in what form, and the numbers they left."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.reproduce.published_tables import PublishedNumber, of_metrics, read_table
from tag2mask.core.errors import ConfigError, StageError
from tag2mask.core.stopping import on_stop
from tag2mask.evaluation.result_tables import METRICS, read_metrics

_VERBS = ("run", "sweep", "experiment", "analyse")
_BENCHMARK = re.compile(r"benchmarks\.[a-z][a-z0-9_]*")
_SHELL = frozenset({"&&", "||", ";", "|", "&", ">", ">>", "<"})
_SAME_NUMBER = ("data.root=", "engine.")
"""Settings that say where data lies and how it is computed: the numbers stay."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command that may be rerun.

    Attributes:
        text: as in the table.
        words: without the folder it wrote to; the first is ``tag2mask`` or ``python``.
    """

    text: str
    words: tuple[str, ...]

    @property
    def is_run(self) -> bool:
        """Whether it is ``tag2mask run``, which leaves its numbers as ``metrics.jsonl``."""
        return self.words[:2] == ("tag2mask", "run")

    @property
    def is_analysis(self) -> bool:
        """Whether it is ``tag2mask analyse``, which looks at the finished run that it names."""
        return self.words[:2] == ("tag2mask", "analyse")

    @property
    def is_benchmark(self) -> bool:
        """Whether it is ``python -m benchmarks.NAME``, which writes one CSV."""
        return self.words[0] == "python"


def accept(text: str, where: str) -> Command:
    """Check that a command is one that may be rerun; it is never given to a shell.

    Args:
        text: ``tag2mask run``, ``tag2mask sweep``, ``tag2mask experiment run``, ``tag2mask analyse`` or ``python -m
            benchmarks.NAME``, and what follows.
        where: the row, for the error text.

    Raises:
        ConfigError: it is anything else.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ConfigError(f"{where}: the command '{text}' cannot be read ({error})") from error
    verb = words[1] if words[:1] == ["tag2mask"] and len(words) > 2 else ""
    ours = verb in _VERBS and (verb != "experiment" or words[2] == "run")
    bench = words[:2] == ["python", "-m"] and len(words) > 2 and _BENCHMARK.fullmatch(words[2]) is not None
    if not (ours or bench) or _SHELL & set(words):
        raise ConfigError(
            f"{where}: '{text}' is not rerun; only tag2mask run, tag2mask sweep, tag2mask experiment run, "
            "tag2mask analyse and python -m benchmarks.NAME are, one command and no shell. Choose other rows with "
            "--row column=value"
        )
    return Command(text, tuple(_without_out(words)))


def _without_out(words: Sequence[str]) -> list[str]:
    kept: list[str] = []
    skip = False
    for word in words:
        if not skip and word != "--out" and not word.startswith("--out="):
            kept.append(word)
        skip = word == "--out" and not skip
    return kept


def check_overrides(overrides: Sequence[str]) -> None:
    """Refuse overrides that would make other numbers.

    Raises:
        ConfigError: one is neither ``data.root`` nor of the engine.
    """
    for word in overrides:
        if "=" not in word or not word.startswith(_SAME_NUMBER):
            raise ConfigError(
                f"'{word}' would make another number than the table's; only data.root=FOLDER and engine.… may be given"
            )


def rerun(command: Command, overrides: Sequence[str], out: Path) -> str:
    """Run a command in another process; its standard output goes to ``<out>.log``.

    Args:
        command: an accepted one.
        overrides: added to a command of tag2mask that makes a run.
        out: folder of its own; of a benchmark the CSV ``<out>.csv``.

    Returns:
        Why it failed, empty where it did not.

    Raises:
        ConfigError: a benchmark that is not below the current folder.
        StageError: the process cannot be started.
    """
    if command.is_benchmark:
        module = Path(*command.words[2].split(".")).with_suffix(".py")
        if not module.is_file():
            raise ConfigError(f"{module} is not here: run python -m benchmarks.reproduce in the repository's root")
        words = [*command.words[1:], "--out", f"{out}.csv"]
    else:
        added = () if command.is_analysis else overrides
        words = ["-m", "tag2mask", *command.words[1:], *added, "--out", str(out)]
    try:
        with (
            out.with_name(f"{out.name}.log").open("wb") as log,
            subprocess.Popen([sys.executable, *words], stdout=log) as process,
            on_stop(process.terminate),
        ):
            code = process.wait()
    except OSError as error:
        raise StageError(f"cannot run '{command.text}': {error}") from error
    if code < 0:
        return f"the command was killed by signal {-code}" + (", perhaps for want of memory" if code == -9 else "")
    return f"the command ended with exit code {code}" if code else ""


def collect(command: Command, out: Path) -> list[PublishedNumber]:
    """The numbers that a command has left: in ``metrics.jsonl``, or in the CSVs that are tables of results.

    Raises:
        StageError: its metrics cannot be read.
        DataError: a line of a table does not fit.
    """
    if command.is_run:
        path = out / METRICS
        return of_metrics(read_metrics(path), command.text) if path.is_file() else []
    paths = [out.with_name(f"{out.name}.csv")] if command.is_benchmark else sorted(out.glob("*.csv"))
    tables = (read_table(path, required=False) for path in paths if path.is_file())
    return [row for table in tables for row in table]
