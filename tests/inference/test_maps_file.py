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
from tag2mask.inference.raw_scores import cells_by_score, halved
from tests.helpers.refused import refused

MAPS = torch.tensor([[[0.0, 0.25, 1.0], [0.5, 0.75, 0.125]]])
RAW = torch.tensor([[[0.125, 0.25, 0.875], [0.5, 0.75, 0.375]]])


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


def test_raw_scores_come_back_from_half_the_rows_and_columns(tmp_path: Path) -> None:
    absent = torch.zeros(4, 251, dtype=torch.int64)
    absent[0, 7], absent[2, 250] = 70_000, 3
    raw = RAW.repeat_interleave(2, 1).repeat_interleave(2, 2)[:, :3, :5]
    maps = ActivationMaps((3,), torch.zeros_like(raw), raw, absent)
    write_maps(tmp_path / "a.npz", maps, (11, 19), "key")
    found = read_maps(tmp_path / "a.npz").maps
    check_maps(found, (11, 19), 4, "'a'")
    assert found.raw is not None
    assert found.absent is not None
    expected = torch.nn.functional.interpolate(RAW[None], (4, 6), mode="bilinear", align_corners=False)[0, :, :3, :5]
    assert float((found.raw - expected).abs().max()) <= (0.875 - 0.125) / 127 / 2 + 1e-6
    assert torch.equal(found.absent, absent)
    assert maps_key(tmp_path / "a.npz") == "key"
    flat = torch.full_like(RAW, 0.3)
    write_maps(tmp_path / "b.npz", ActivationMaps((3,), MAPS, flat), (7, 11), "key")
    same = read_maps(tmp_path / "b.npz").maps.raw
    assert same is not None
    torch.testing.assert_close(same, flat), "a map of one value"


@pytest.mark.parametrize(("seed", "shape"), [(0, (3, 40, 31)), (1, (1, 1, 1)), (2, (0, 5, 4))])
def test_any_smooth_raw_scores_come_back_nearly(tmp_path: Path, seed: int, shape: tuple[int, int, int]) -> None:
    """A plane that rises evenly comes back within half a step, away from the rims."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = (torch.arange(n) / 100 for n in shape[1:])
    slopes = torch.rand(shape[0], 2, 1, 1, generator=generator)
    raw = slopes[:, 0] * rows[:, None] + slopes[:, 1] * columns
    classes = tuple(range(len(raw)))
    write_maps(
        tmp_path / "a.npz", ActivationMaps(classes, torch.zeros(shape), raw), (4 * shape[1], 4 * shape[2]), "key"
    )
    found = read_maps(tmp_path / "a.npz").maps.raw
    assert found is not None
    assert found.shape == raw.shape
    for own, other in zip(raw, found, strict=True):
        middle = (own - other)[1:-2, 1:-2].abs()
        assert float(middle.max() if middle.numel() else 0) <= float(own.max() - own.min()) / 254 + 1e-6


def test_a_file_with_raw_scores_takes_at_most_half_more(tmp_path: Path) -> None:
    """Smooth maps of 500 x 375 pixels, one of twenty classes present."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(20, 1, 24, 32, generator=generator)
    scores = torch.nn.functional.interpolate(coarse, (94, 125), mode="bilinear")[:, 0]
    units = torch.sigmoid(scores / 4)
    absent = cells_by_score(halved(units))
    absent[3] = 0
    maps = scores[3:4].relu() / scores[3].max()
    write_maps(tmp_path / "plain.npz", ActivationMaps((3,), maps), (375, 500), "0" * 64)
    write_maps(tmp_path / "raw.npz", ActivationMaps((3,), maps, units[3:4], absent), (375, 500), "0" * 64)
    plain, raw = ((tmp_path / name).stat().st_size for name in ("plain.npz", "raw.npz"))
    assert raw <= 1.5 * plain, (raw, plain)


def test_resizing_keeps_raw_scores() -> None:
    found = ActivationMaps((3,), MAPS, RAW).resize(4, 6)
    expected = torch.nn.functional.interpolate(RAW[None], (4, 6), mode="bilinear", align_corners=False)[0]
    assert found.raw is not None
    assert torch.equal(found.raw, expected)
    assert ActivationMaps((3,), MAPS).resize(4, 6).raw is None


@pytest.mark.parametrize(
    "raw", [RAW[..., :2], torch.full_like(RAW, math.nan), torch.full_like(RAW, math.inf), RAW - 0.5]
)
def test_raw_scores_that_do_not_fit_are_refused(raw: torch.Tensor) -> None:
    with refused(DataError, "'a'", f"shape {tuple(raw.shape)}", "remove the file and rerun"):
        check_maps(ActivationMaps((3,), MAPS, raw), (7, 11), 4, "'a'")


def test_a_file_whose_raw_scores_are_no_numbers_is_damaged(tmp_path: Path) -> None:
    write_maps(tmp_path / "a.npz", ActivationMaps((3,), MAPS), (7, 11), "key")
    with np.load(tmp_path / "a.npz") as arrays:
        raw = {
            "raw": np.array(["x"]),
            "raw_range": np.zeros((1, 2), np.float32),
            "absent": np.zeros((1, 0, 251), np.uint8),
        }
        write_arrays(tmp_path / "b.npz", {**arrays, **raw})
    with pytest.raises(DamagedError, match="'raw' has type <U1"):
        read_maps(tmp_path / "b.npz")
    assert maps_key(tmp_path / "b.npz") is None


def test_raw_scores_of_other_maps_are_damaged(tmp_path: Path) -> None:
    write_maps(tmp_path / "a.npz", ActivationMaps((3,), MAPS, RAW), (7, 11), "key")
    with np.load(tmp_path / "a.npz") as arrays:
        write_arrays(tmp_path / "b.npz", {**arrays, "raw": np.ones(5, np.uint8)})
    with refused(DamagedError, "b.npz", "raw scores", "remove it and run again"):
        read_maps(tmp_path / "b.npz")
