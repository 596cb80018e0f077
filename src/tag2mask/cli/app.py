"""``tag2mask``: the verbs, and how their errors reach the user."""

from __future__ import annotations

import logging
import re
import signal
import sys
from pathlib import Path
from traceback import extract_tb
from typing import Any

import typer
import typer.core

from tag2mask.cli import (
    analyse,
    compare,
    cp,
    demo,
    doctor,
    evaluate,
    experiment,
    export,
    ls,
    pack,
    predict,
    prototypes,
    report,
    run,
    show,
    store,
    sweep,
)
from tag2mask.core import stopping
from tag2mask.core.errors import ConfigError, DataError, Tag2MaskError
from tag2mask.core.names import printable, shortened
from tag2mask.core.processes.ranks import failed, rank
from tag2mask.core.resources import wait_asleep


class _Words(typer.core.TyperGroup):
    """The verbs; refuses words that mean nothing to any of them, and reports files that end too early."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Refuse an empty word (a variable without a value; a path it would be the current folder) and NUL."""
        for number, word in enumerate(args, start=1):
            if not word or _EMPTY_OPTION.fullmatch(word):
                raise ConfigError(f"word {number} of the command, '{word}', has no value; was a variable not set?")
            if "\0" in word:
                raise ConfigError(f"word {number} of the command, '{shortened(word)}', holds a NUL; leave it out")
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run a verb; an ``EOFError`` is reported here, since typer would say "Aborted!" as after a Ctrl-D."""
        try:
            return super().invoke(ctx)
        except EOFError as error:
            frame = extract_tb(error.__traceback__)[-1]
            raise DataError(
                f"a file ends before it should ({error or 'no more bytes'}; found in {Path(frame.filename).name}, line "
                f"{frame.lineno}). Copy the files that the command reads anew; `tag2mask doctor` lists broken photos"
            ) from error


app = typer.Typer(
    cls=_Words,
    name="tag2mask",
    help="Pixel masks from image tags. Begin with: tag2mask demo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for name, module in {
    "run": run, "demo": demo, "doctor": doctor, "eval": evaluate, "predict": predict, "prototypes": prototypes,
    "report": report, "sweep": sweep, "compare": compare, "export": export, "pack": pack, "store": store, "ls": ls,
    "show": show,
    "cp": cp,
}.items():  # fmt: skip
    app.command(name)(module.command)
app.add_typer(analyse.app, name="analyse")
app.add_typer(experiment.app, name="experiment")


_EMPTY_OPTION = re.compile(r"-[-a-z]+=")
_FROM_THE_BEGINNING = frozenset(
    {"doctor", "eval", "report", "compare", "export", "pack", "store", "ls", "show", "cp", "analyse"}
)
"""Verbs that look or write in one go; all others resume."""


class _Lines(logging.Formatter):
    """Messages as they are; warnings and errors say that they are."""

    def format(self, record: logging.LogRecord) -> str:
        text = printable(super().format(record))
        return text if record.levelno <= logging.INFO else f"{record.levelname.lower()}: {text}"


def _listen() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(_Lines("%(message)s"))
    logger = logging.getLogger("tag2mask")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO if rank() == 0 else logging.ERROR)
    logger.propagate = False


def main() -> None:
    """Run the command line; a user's mistake ends with its text and exit code 2, never with a traceback."""
    _listen()
    stopping.listen(_last_words)
    wait_asleep()
    try:
        app()
    except Tag2MaskError as error:
        sys.stderr.write(f"error: {printable(str(error))}\n")
        failed()
        sys.exit(error.exit_code)
    except OSError as error:  # no right to read or write, a name too long, a disk full or gone: no fault of the program
        about = f": '{shortened(error.filename)}'" if error.filename is not None else ""
        sys.stderr.write(f"error: {error.strerror or error}{about}; check the name and the rights of what is named\n")
        failed()
        sys.exit(Tag2MaskError.exit_code)
    except (KeyboardInterrupt, SystemExit) as error:
        if not _stopped(error):
            raise
        failed()
        sys.stderr.write(_last_words(signal.SIGINT))
        sys.exit(130)


def _last_words(number: int) -> str:
    """The line of a process that is to stop."""
    if number == signal.SIGINT:
        return "stopped; what was made is kept, the same command resumes\n"
    if sys.argv[1:] and sys.argv[1] in _FROM_THE_BEGINNING:
        return "stopped; nothing is half-written, the same command begins anew\n"
    return "stopped; the same command resumes\n"


def _stopped(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an exit: typer turns it into one."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


if __name__ == "__main__":
    main()
