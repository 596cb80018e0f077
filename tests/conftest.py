"""What holds for every test: no network, one thread, no download; in this process and in those it starts."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

_TESTS = Path(__file__).resolve().parent
_PATHS = [str(_TESTS / "offline"), str(_TESTS.parent / "src"), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(filter(None, _PATHS)))
os.environ["HF_HUB_OFFLINE"] = "1"
# One thread, set before torch is loaded: sums are then added in one order, so that results are equal bit for bit,
# and test processes beside each other do not fight for the cores.
os.environ["OMP_NUM_THREADS"] = "1"

from tests.offline import sitecustomize  # noqa: E402, F401  importing it forbids the network here


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """A test that computes in several threads leaves one to the next."""
    yield
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def no_waiting_for_the_disk() -> Iterator[None]:
    """Nobody cuts the power of a test: its hundreds of small files need not be on the disk before it goes on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield
