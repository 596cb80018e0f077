"""Reading arrays: from several threads at once, and from files that are damaged or claim what they do not hold."""

from __future__ import annotations

import gc
import io
import sys
import time
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tag2mask.core import arrays
from tag2mask.core.arrays import beside_another, nan_mean, percent, ratio, read_arrays, rounded, write_arrays
from tag2mask.core.errors import StageError
from tag2mask.core.files import read_json, reason
from tag2mask.inference.maps_file import maps_key, read_maps
from tests.helpers.refused import refused


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


def with_header(path: Path, header: str, data: bytes = b"") -> Path:
    """An npz whose one array is described by ``header``."""
    text = header.encode() + b" " * (-(len(header) + 11) % 64) + b"\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("maps.npy", b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data)
    return path


@pytest.mark.parametrize(
    "shape", ["(1152921504606846976,)", "(99999999999,)", "(-1, 3)", "(" * 300 + ")" * 300, "9" * 5000, "None"]
)
@pytest.mark.parametrize("kind", ["<f2", "<U0", "V0", "O", "x"])
def test_headers_that_claim_the_impossible_cost_an_error(shape: str, kind: str, tmp_path: Path) -> None:
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}"
    path = with_header(tmp_path / "maps.npz", header)
    with refused(StageError, "cannot read", "maps.npz", "Remove it", "run again"):
        read_arrays(path)


def test_an_archive_that_unpacks_to_more_than_allowed_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "maps.npz"
    write_arrays(path, {"maps": np.zeros(1000, np.float16), "key": np.asarray("k")})
    monkeypatch.setattr(arrays, "MOST_BYTES", 2000)
    with refused(StageError, "maps.npz", "says that it holds", "Remove it"):
        read_arrays(path)
    assert maps_key(path) is None


@pytest.mark.parametrize("content", [b"", b"PK", b"\x93NUMPY\x01\x00", b"\x80\x04]q\x00."])
def test_other_files_are_reported(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "maps.npz"
    path.write_bytes(content)
    with pytest.raises(StageError, match="cannot read .*maps.npz"):
        read_arrays(path)
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    path.write_bytes(buffer.getvalue())  # of one array: no npz
    with pytest.raises(StageError, match="cannot read .*maps.npz"):
        read_arrays(path)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("maps", np.zeros((1, 2, 2), np.int8)), ("maps", np.zeros((2, 2), np.float16)), ("classes", np.zeros(1)),
        ("size", np.full(2, np.nan)), ("size", np.zeros(3, np.int32)), ("size", np.asarray(4)), ("key", np.zeros(2)),
        ("maps", np.asarray("maps")),
    ],
)  # fmt: skip
def test_arrays_of_another_form_are_no_maps(name: str, array: NDArray[Any], tmp_path: Path) -> None:
    whole: dict[str, NDArray[Any]] = {
        "maps": np.zeros((1, 2, 2), np.float16), "classes": np.zeros(1, np.int16), "size": np.full(2, 8, np.int32),
        "key": np.asarray("k"),
    }  # fmt: skip
    write_arrays(tmp_path / "maps.npz", whole)
    assert read_maps(tmp_path / "maps.npz").size == (8, 8)
    write_arrays(tmp_path / "maps.npz", {**whole, name: array})
    with refused(StageError, "no maps", f"'{name}' has type", "remove it", "run again"):
        read_maps(tmp_path / "maps.npz")


def test_json_that_is_nested_too_deep_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[" * 200_000)
    with pytest.raises(StageError, match="cannot read .*a.json"):
        read_json(tmp_path / "a.json")


def test_reasons_are_one_line() -> None:
    assert reason(ValueError("first.\n second")) == "first"
    assert reason(EOFError()) == "EOFError"
    assert reason(OSError(2, "No such file", "x")) == "No such file"


def test_nothing_of_nothing_is_nan_and_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(ratio([1, 0, 3], [2, 0, 4]), [0.5, np.nan, 0.75])
        np.testing.assert_array_equal(percent([[1, 2], [0, 0]], [[4], [0]]), [[25, 50], [np.nan, np.nan]])
        assert float(percent(1, 8)) == 12.5
        assert np.isnan(float(percent(0, 0)))


def test_the_mean_is_over_what_is_known_along_an_axis() -> None:
    values = [[1.0, np.nan, 4.0], [np.nan, np.nan, 2.0]]
    np.testing.assert_array_equal(nan_mean(values), [2.5, 2.0])
    np.testing.assert_array_equal(nan_mean(values, axis=0), [1.0, np.nan, 3.0])


def test_tables_hold_four_decimals() -> None:
    assert [rounded(v) for v in (0.123456, np.float64(2) / 3, 7)] == [0.1235, 0.6667, 7.0]
    assert np.isnan(rounded(float("nan")))


def test_pixels_beside_another_value() -> None:
    labels = np.array([[0, 0, 1], [0, 0, 0], [255, 0, 0]], np.uint8)
    assert beside_another(labels).tolist() == [[False, True, True], [True, False, True], [True, True, False]]
    assert not beside_another(np.ones((1, 1), np.uint8)).any()
