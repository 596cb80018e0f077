"""Broken input of every reader ends in a clear error: a few of the attempts of ``python -m benchmarks.fuzz``."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from benchmarks.fuzz import mutate
from benchmarks.fuzz.engine import Case, cases
from benchmarks.fuzz.sandbox import attempt
from benchmarks.fuzz.targets import TARGETS, Target
from tag2mask.core.errors import DataError

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="attempts are made in forked children")
QUICK, SLOW = 20, 100
_names = [t.name for t in TARGETS]


def _look(found: list[Case], target: Target) -> None:
    failed = [f"{c.number} ({c.file}): {c.verdict.outcome} {c.verdict.detail}" for c in found if c.verdict.failed]
    assert not failed, f"make one again: python -m benchmarks.fuzz {target.name} -n 1 --start NUMBER\n" + "\n".join(
        failed
    )


@pytest.mark.parametrize("target", TARGETS, ids=_names)
def test_a_few_broken_inputs_of_each_reader(target: Target, tmp_path: Path) -> None:
    found = list(cases(target, tmp_path, QUICK))
    _look(found, target)
    assert any(c.verdict.outcome == "refused" for c in found), "nothing was broken enough to be refused"


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS, ids=_names)
def test_more_broken_inputs_of_each_reader(target: Target, tmp_path: Path) -> None:
    _look(list(cases(target, tmp_path, SLOW, start=QUICK)), target)


def test_the_same_seed_breaks_a_file_in_the_same_way() -> None:
    data = b'{"a": [1, {"b": null}], "c": "text"}'
    for mutator in (mutate.flipped, mutate.json_value):
        once, again = ([mutator(data, random.Random(f"0/{i}")) for i in range(50)] for _ in range(2))
        assert once == again
        assert len(set(once)) > 20


def _refuse() -> None:
    raise DataError("photo.jpg is empty: copy it again")


def _end_by_a_signal() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def _take_memory() -> None:
    kept = bytearray(200 << 20)
    kept[:: 1 << 12] = b"x" * len(kept[:: 1 << 12])
    time.sleep(60)


def test_attempts_tell_failures_from_errors() -> None:
    assert attempt(lambda: None).outcome == "accepted"
    refused = attempt(_refuse)
    assert (refused.outcome, refused.failed) == ("refused", False)
    assert "photo.jpg is empty" in refused.detail
    raised = attempt(lambda: os.environ["NO SUCH KEY"])
    assert raised.failed
    assert "KeyError" in raised.detail
    assert attempt(_end_by_a_signal).detail == "SIGSEGV"
    assert attempt(lambda: time.sleep(60), seconds=0.1).outcome == "hang"
    assert attempt(_take_memory, memory=64 << 20).outcome == "memory"
