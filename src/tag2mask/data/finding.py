"""What is found wrong with a data set, in the form that the doctor prints and a run repeats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem.

    Attributes:
        kind: ``open`` (a split that does not open), ``image``, ``mask``, ``stem`` (two files with one name), ``split``
            (ids in two splits), ``class`` (without images, or in all), ``name`` (class names that look like several, or
            like each other), ``tags`` (mask and tags disagree), ``together`` (one class always comes with another),
            ``truth`` (missing masks), ``file`` (files that are not read) or ``size`` (large images).
        severity: an error stops a run or spoils it, a warning may, a note is for information.
        ids: what it is about: image ids, split names or class names.
        text: what was found.
        remedy: what to do.
    """

    kind: str
    severity: Literal["error", "warning", "note"]
    ids: tuple[str, ...]
    text: str
    remedy: str

    def lines(self) -> str:
        """Kind, the first of the ids, text and remedy, on two lines."""
        about = ", ".join(self.ids[:5]) + (f" and {len(self.ids) - 5} more" if len(self.ids) > 5 else "")
        return f"[{self.kind}] {about + ': ' if about else ''}{self.text}\n    {self.remedy}"
