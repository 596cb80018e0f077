"""Reading arrays from several threads at once."""

from __future__ import annotations

import gc
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from tag2mask.core.files import read_arrays, write_arrays


class Litter:
    """A circle whose collection lets another thread go on, in the midst of whatever this one does."""

    def __init__(self) -> None:
        self.itself = self

    def __del__(self) -> None:
        time.sleep(0)


def test_arrays_are_read_by_several_threads_while_rubbish_is_collected(tmp_path: Path) -> None:
    """Python 3.11's ``ast``, with which numpy reads a header, fails where two threads are in it at once."""
    path, expected = tmp_path / "maps.npz", np.arange(6, dtype=np.float16).reshape(2, 3)
    write_arrays(path, {f"a{number}": expected for number in range(4)})

    def read(_: int) -> bool:
        same = []
        for _round in range(60):
            Litter()
            same += [np.array_equal(array, expected) for array in read_arrays(path).values()]
        return all(same)

    before = gc.get_threshold(), sys.getswitchinterval()
    gc.set_threshold(1, 1, 1)
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(read, range(24)))
    finally:
        gc.set_threshold(*before[0])
        sys.setswitchinterval(before[1])
