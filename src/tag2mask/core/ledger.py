"""The ledger: which supervision an artefact has seen, carried down the chain of stages."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tag2mask.core.errors import ConfigError, LedgerError, unknown

KINDS = (
    "tags",
    "saliency",
    "self-supervised",
    "text",
    "promptable-masks",
    "pixel-masks",
    "pixel-masks:init",
    "pixel-masks:threshold",
)
_THRESHOLD = re.compile(r"pixel-masks:threshold\((\d+)\)")


def parse(entries: Iterable[str]) -> frozenset[str]:
    """Check ledger entries such as ``tags`` or ``pixel-masks:threshold(100)`` and return them as a set.

    Raises:
        ConfigError: an entry is of no known kind.
    """
    found = frozenset(entries)
    for entry in sorted(found):
        if entry not in KINDS[:-1] and not _THRESHOLD.fullmatch(entry):
            raise ConfigError(unknown("supervision", entry, (*KINDS[:-1], "pixel-masks:threshold(n)")))
    return found


def check(ledger: Iterable[str], allowed: Iterable[str], stage: str) -> None:
    """Refuse supervision that is not allowed.

    Raises:
        LedgerError: ``ledger`` holds an entry that ``allowed`` does not.
    """
    extra = sorted(parse(ledger) - parse(allowed))
    if extra:
        raise LedgerError(
            f"stage '{stage}' would use {', '.join(extra)}, but the recipe's allow_supervision is "
            f"[{', '.join(sorted(allowed))}]. If that is meant, add it: "
            f"allow_supervision=[{','.join(sorted({*allowed, *extra}))}]"
        )
