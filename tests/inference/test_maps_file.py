"""Files of maps: raw scores may lie beside the maps, and files without them are what they always were."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tag2mask.core.arrays import write_arrays
from tag2mask.core.errors import DamagedError, DataError
from tag2mask.core.types import ActivationMaps
from tag2mask.inference.maps_file import check_maps, maps_key, read_maps, write_maps
from tests.helpers.refused import refused

MAPS = torch.tensor([[[0.0, 0.25, 1.0], [0.5, 0.75, 0.125]]])
RAW = torch.tensor([[[-7.5, 0.25, 4096.0], [0.5, -0.75, 0.0]]])


def test_maps_without_raw_scores_are_written_as_ever(tmp_path: Path) -> None:
    write_maps(tmp_path / "new.npz", ActivationMaps((3,), MAPS), (7, 11), "key")
    arrays: dict[str, NDArray[Any]] = {
        "maps": MAPS.numpy().astype(np.float16),
        "classes": np.array([3], np.int16),
        "size": np.array([7, 11], np.int32),
        "key": np.array("key"),
    }
    write_arrays(tmp_path / "old.npz", arrays)
    assert (tmp_path / "new.npz").read_bytes() == (tmp_path / "old.npz").read_bytes()
    found = read_maps(tmp_path / "old.npz")
    assert (found.size, found.key, found.maps.classes, found.maps.raw) == ((7, 11), "key", (3,), None)
    assert torch.equal(found.maps.maps, MAPS)


@pytest.mark.parametrize(("largest", "stored"), [(4096.0, np.float16), (1e6, np.float32)])
def test_raw_scores_come_back(tmp_path: Path, largest: float, stored: type[np.floating]) -> None:
    raw = RAW.clone()
    raw[0, 0, 2] = largest
    write_maps(tmp_path / "a.npz", ActivationMaps((3,), MAPS, raw), (7, 11), "key")
    found = read_maps(tmp_path / "a.npz").maps
    check_maps(found, (7, 11), 4, "'a'")
    assert found.raw is not None
    assert torch.equal(found.raw, raw)
    assert torch.equal(found.maps, MAPS)
    assert maps_key(tmp_path / "a.npz") == "key"
    with np.load(tmp_path / "a.npz") as arrays:
        assert (arrays["raw"].dtype, arrays["maps"].dtype) == (stored, np.float16)


def test_resizing_keeps_raw_scores() -> None:
    found = ActivationMaps((3,), MAPS, RAW).resize(4, 6)
    expected = torch.nn.functional.interpolate(RAW[None], (4, 6), mode="bilinear", align_corners=False)[0]
    assert found.raw is not None
    assert torch.equal(found.raw, expected)
    assert ActivationMaps((3,), MAPS).resize(4, 6).raw is None


@pytest.mark.parametrize("raw", [RAW[..., :2], torch.full_like(RAW, math.nan), torch.full_like(RAW, math.inf)])
def test_raw_scores_that_do_not_fit_are_refused(raw: torch.Tensor) -> None:
    with refused(DataError, "'a'", f"shape (1, 2, {raw.shape[2]})", "remove the file and rerun"):
        check_maps(ActivationMaps((3,), MAPS, raw), (7, 11), 4, "'a'")


def test_a_file_whose_raw_scores_are_no_numbers_is_damaged(tmp_path: Path) -> None:
    write_maps(tmp_path / "a.npz", ActivationMaps((3,), MAPS), (7, 11), "key")
    with np.load(tmp_path / "a.npz") as arrays:
        write_arrays(tmp_path / "b.npz", {**arrays, "raw": np.array(["x"])})
    with pytest.raises(DamagedError, match="'raw' has type <U1"):
        read_maps(tmp_path / "b.npz")
    assert maps_key(tmp_path / "b.npz") is None
