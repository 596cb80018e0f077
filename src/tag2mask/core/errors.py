"""The exceptions of tag2mask: one small tree, each with a message a user can act on.

A message names the argument, the value, what was expected, and, where there is one, the command that fixes it.
The command line prints it without a traceback and exits with ``Tag2MaskError.exit_code``.
"""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Iterable

from tag2mask.core.names import LONGEST, shortened


class Tag2MaskError(Exception):
    """Base class of all errors a user can fix."""

    exit_code = 2


class DataError(Tag2MaskError):
    """Images, tags, masks or splits that cannot be read as the data set says."""


class NothingShownError(DataError):
    """Ground truth without a pixel of any class, on which no mIoU is defined and no threshold is best."""


class ConfigError(Tag2MaskError):
    """A recipe, setting or override that does not fit its schema."""


class WeightsError(Tag2MaskError):
    """Weights that do not belong to the network that should load them."""


class LedgerError(Tag2MaskError):
    """Supervision that the recipe's ``allow_supervision`` does not list."""


class StageError(Tag2MaskError):
    """A stage, store or run folder that is not what a run needs."""


class DamagedError(StageError):
    """A file of the program's own that does not hold what was written: it counts as not made."""


class TrainingError(Tag2MaskError):
    """A training that cannot continue, such as one with a NaN loss."""


def nothing_shown(where: str = "the ground truth") -> NothingShownError:
    """The error for a ground truth that shows no class, which ``where`` names."""
    return NothingShownError(
        f"{where} shows no class, so there is no mIoU. If the masks hold 0 and 255 only and 255 is your object, "
        f"write 1, or give 'data.mask_values={{255: 1}}'; tag2mask doctor looks at the masks"
    )


def nearest(name: str, valid: Iterable[str]) -> str | None:
    """The valid name closest in spelling to ``name``, or None where nothing is close."""
    found = difflib.get_close_matches(name[:LONGEST], list(valid), n=1, cutoff=0.5)
    return found[0] if found else None


def unknown(what: str, name: str, valid: Iterable[str]) -> str:
    """Error text for an unknown name of a ``what``, such as a recipe: the nearest valid name first, then all."""
    names = sorted(valid, key=_in_order)
    near = nearest(name, names)
    hint = f"; did you mean '{near}'?" if near else "."
    return f"unknown {what} '{shortened(name)}'{hint} Known: {', '.join(names)}"


def _in_order(name: str) -> list[tuple[int, str]]:
    """Sorts numbers in names by their value: A2 before A10."""
    return [(int(part) if part.isdecimal() else -1, part) for part in re.split(r"([0-9]+)", name)]


def command(*words: object) -> str:
    """A command of tag2mask as one types it: ``tag2mask run 'my recipe.yaml' --out 'runs/my photos'``."""
    return quoted("tag2mask", *words)


def quoted(*words: object) -> str:
    """Words as one types them into a shell: those with blanks, brackets, quotes and the like in quotes."""
    return shlex.join(map(str, words))
