"""Attempts at one reader, each with a broken file of its own, the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.fuzz.sandbox import Verdict, attempt
from benchmarks.fuzz.targets import Target


@dataclass(frozen=True, slots=True)
class Case:
    """One attempt.

    Attributes:
        number: of the attempt; with the seed it makes the same input again.
        file: name of the file that was broken.
        verdict: what came of it.
    """

    number: int
    file: str
    verdict: Verdict


def cases(target: Target, folder: Path, n: int, seed: int = 0, start: int = 0) -> Iterator[Case]:
    """Break one good file after another and read it.

    Args:
        target: the reader.
        folder: empty; good files are drawn in it, and each is put back after it was broken.
        n: number of attempts.
        seed: of the broken inputs.
        start: number of the first attempt.
    """
    folder.mkdir(parents=True, exist_ok=True)
    good = target.draw(folder)
    for number in range(start, start + n):
        rng = random.Random(f"{target.name}/{seed}/{number}")
        chosen = rng.choice(good)
        before = chosen.path.read_bytes()
        chosen.path.write_bytes(chosen.mutator(before, rng))
        try:
            verdict = attempt(partial(target.read, folder, chosen.path))
        finally:
            chosen.path.write_bytes(before)
        yield Case(number, chosen.path.name, verdict)
