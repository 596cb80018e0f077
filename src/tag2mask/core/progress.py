"""Progress a person can follow: a bar with time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tag2mask.core.names import shown
from tag2mask.core.stopping import on_stop

LOG = logging.getLogger("tag2mask")
_LINE_EVERY = 15.0


class Counter:
    """Counts the ``total`` steps of one piece of work and logs how long the rest will take, unless ``quiet``."""

    def __init__(self, what: str, total: int, quiet: bool = False) -> None:
        self.what, self.total, self.count, self.quiet = what, total, 0, quiet
        self.started = self._said = time.monotonic()

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Count ``steps`` more; ``note`` is shown beside the count."""
        self.count += steps
        now = time.monotonic()
        if not self.quiet and (now - self._said >= _LINE_EVERY or self.count == self.total):
            self._said = now
            LOG.info("%s", self.line(now, note))

    def line(self, now: float, note: str = "") -> str:
        """One line: the work, the count, the time left (after the first step), the note."""
        left = (now - self.started) / max(self.count, 1) * (self.total - self.count)
        parts = [f"{self.what}: {self.count}/{self.total}", f"{duration(left)} left" if self.count else "", note]
        return ", ".join(p for p in parts if p)


class _Bar(Counter):
    """A counter that draws a bar."""

    def __init__(self, what: str, total: int) -> None:
        super().__init__(what, total)
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bars = Progress(
            TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )  # fmt: skip
        self._task = self._bars.add_task(shown(what), total=total, note="")
        self._bars.start()

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.count += steps
        self._bars.update(self._task, advance=steps, note=shown(note))

    def stop(self) -> None:
        """Leave the bar as it stands."""
        self._bars.stop()


@contextmanager
def progress(what: str, total: int, quiet: bool = False) -> Iterator[Counter]:
    """Count ``total`` steps of ``what``: a bar on a terminal, a line every 15 seconds elsewhere, nothing if quiet."""
    if quiet or not sys.stderr.isatty():
        yield Counter(what, total, quiet)
        return
    bar = _Bar(what, total)
    try:
        with on_stop(_show_cursor):
            yield bar
    finally:
        bar.stop()


def _show_cursor() -> None:
    """Give the terminal back as a bar found it, below the bar."""
    os.write(2, b"\x1b[?25h\n")


def duration(seconds: float) -> str:
    """Seconds in words a person reads at a glance: ``45 s``, ``12 min``, ``3 h 05 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
