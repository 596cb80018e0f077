"""The permutohedral lattice: published values of single points, and a slow lattice written with a dictionary."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tag2mask.core.errors import DataError
from tag2mask.refine.crf.lattice import build_lattice, elevate, first_keys, simplex
from tests.helpers.refused import refused

Floats = NDArray[np.float64]


def slow_filter(features: Floats, values: Floats) -> Floats:
    """Splat, blur and slice one point at a time: corners in a dictionary by their coordinates, float64."""
    d, n = features.shape
    scales = [np.sqrt(2 / 3) * (d + 1) / np.sqrt(k * (k + 1)) for k in range(1, d + 1)]
    corners: list[list[tuple[tuple[int, ...], float]]] = []
    for i in range(n):
        c = [f * s for f, s in zip(features[:, i], scales, strict=True)]
        e = [sum(c)] + [sum(c[j:]) - j * c[j - 1] for j in range(1, d + 1)]
        g = [round(v / (d + 1)) * (d + 1) for v in e]
        residual = [a - b for a, b in zip(e, g, strict=True)]
        rank = [
            sorted(range(d + 1), key=lambda k: (-residual[k], k)).index(j) + sum(g) // (d + 1) for j in range(d + 1)
        ]
        for j in range(d + 1):
            step = (d + 1) * ((rank[j] < 0) - (rank[j] > d))
            rank[j], g[j] = rank[j] + step, g[j] + step
        y = sorted(((e[j] - g[j]) / (d + 1) for j in range(d + 1)), reverse=True)
        b = [y[d] + 1 - y[0]] + [y[d - p] - y[d - p + 1] for p in range(1, d + 1)]
        corners.append(
            [(tuple(g[j] + r - (d + 1) * (rank[j] > d - r) for j in range(d + 1)), b[r]) for r in range(d + 1)]
        )
    table: dict[tuple[int, ...], Floats] = defaultdict(lambda: np.zeros(values.shape[1]))
    for own, value in zip(corners, values, strict=True):
        for key, weight in own:
            table[key] = table[key] + weight * value
    for axis in range(d + 1):
        move = [1 - (d + 1) * (j == axis) for j in range(d + 1)]
        old = dict(table)
        for key, value in old.items():
            sides = (tuple(k + s * m for k, m in zip(key, move, strict=True)) for s in (1, -1))
            table[key] = value + 0.5 * sum(old.get(side, np.zeros(values.shape[1])) for side in sides)
    alpha = 1 / (1 + 2.0**-d)
    return np.array([alpha * sum(w * table[k] for k, w in own) for own in corners])


@pytest.mark.parametrize(
    ("point", "base", "rank", "weights"),
    [
        ((0.3, 0.7), (0, 0, 0), (0, 1, 2), (0.12679, 0.52679, 0.34641)),
        ((1.0, -0.5), (1, -1, 0), (2, 1, 0), (0.07735, 0.84530, 0.07735)),
        (
            (1.7, 0.4, 3.1, 2.2, 5.9),
            (3, 1, 2, -1, -1, -4),
            (2, 1, 4, 3, 0, 5),
            (0.32953, 0.14279, 0.34396, 0.03754, 0.03701, 0.10917),
        ),
    ],
)
def test_published_simplices(
    point: tuple[float, ...], base: tuple[int, ...], rank: tuple[int, ...], weights: tuple[float, ...]
) -> None:
    found = simplex(elevate(torch.tensor(point)[:, None]))
    assert found[0][:, 0].tolist() == list(base[:-1])
    assert [found[1][:, 0].tolist().index(j) for j in range(len(rank))] == list(rank)
    np.testing.assert_allclose(found[2][0], weights, atol=1e-5)


def test_published_coordinates() -> None:
    np.testing.assert_allclose(elevate(torch.tensor([[0.3], [0.7]]))[:, 0], (1.21962, 0.18038, -1.4), atol=1e-5)
    found = elevate(torch.tensor([1.7, 0.4, 3.1, 2.2, 5.9])[:, None])[:, 0]
    np.testing.assert_allclose(found, (18.76014, 6.98219, 10.47116, -5.46509, -4.36280, -26.38560), atol=1e-5)


@pytest.mark.parametrize(("d", "spread"), [(1, 3.0), (2, 4.0), (3, 2.0), (5, 1.0), (5, 4.0)])
def test_a_slow_lattice_with_a_dictionary_gives_the_same(d: int, spread: float) -> None:
    rng = np.random.default_rng(d)
    features = rng.normal(0, spread, (d, 60))
    features[:, 30:40] = features[:, 20:30]  # pixels of equal features share every corner
    values = rng.normal(size=(60, 3))
    found = build_lattice(torch.from_numpy(features).float()).filter(torch.from_numpy(values).float())
    np.testing.assert_allclose(found, slow_filter(features.astype(np.float32).astype(float), values), atol=2e-5)


def test_published_row_sums() -> None:
    y, x = np.mgrid[:6, :7]
    image = np.stack([40 * x + 10 * y, 20 * x + 30 * y, 15 * x * y + 90], -1) % 256
    space = np.stack([x.ravel(), y.ravel()])
    for features, size, sums in (
        (space / 3, 13, (13.43587, 23.90236)),
        (np.concatenate([space / 8, image.reshape(-1, 3).T / 30]), 229, (1.25046, 0.95492)),
    ):
        lattice = build_lattice(torch.from_numpy(features).float())
        assert lattice.size == size
        found = lattice.filter(torch.ones(42, 1))[:, 0]
        np.testing.assert_allclose(found[[0, 3 * 7 + 3]], sums, atol=1e-4)


def test_weights_sum_to_one_and_corners_are_counted() -> None:
    features = torch.randn(5, 500, generator=torch.Generator().manual_seed(0)) * 3
    lattice = build_lattice(features)
    torch.testing.assert_close(lattice.weights.sum(1), torch.ones(500), atol=1e-5, rtol=0)
    assert torch.unique(lattice.corners).tolist() == list(range(lattice.size))
    assert lattice.starts.tolist()[-2:] == [3000, 3000]
    # a neighbour's neighbour on the other side is the point itself
    here = torch.arange(lattice.size)
    for axis in lattice.neighbours:
        up = axis[: lattice.size, 0].long()
        met = up < lattice.size
        assert torch.equal(axis[up[met], 1].long(), here[met])


def test_several_images_share_no_point() -> None:
    features = torch.randn(2, 40, generator=torch.Generator().manual_seed(1))
    image_of = torch.arange(2).repeat_interleave(40)
    both = build_lattice(torch.cat([features, features], 1), image_of)
    alone = build_lattice(features)
    assert both.size == 2 * alone.size
    values = torch.randn(80, 2, generator=torch.Generator().manual_seed(2))
    expected = torch.cat([alone.filter(values[:40]), alone.filter(values[40:])])
    torch.testing.assert_close(both.filter(values), expected, atol=1e-6, rtol=0)


def test_keys_too_long_to_pack_are_sorted_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    features = torch.randn(3, 200, generator=torch.Generator().manual_seed(3)) * 2
    packed = build_lattice(features)
    values = torch.ones(200, 1)
    span = first_keys(simplex(elevate(features))[0], None)[2]
    monkeypatch.setattr("tag2mask.refine.crf.lattice._BITS", span.bit_length() + 3)  # room for keys, not for pixels
    unpacked = build_lattice(features)
    assert torch.equal(unpacked.corners, packed.corners)
    assert torch.equal(unpacked.pixels, packed.pixels)
    assert torch.equal(unpacked.filter(values), packed.filter(values))


def test_too_many_pixels_for_32_bits_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tag2mask.refine.crf.lattice._MOST", 600)
    assert build_lattice(torch.zeros(2, 199)).size == 3
    with refused(DataError, "200 pixels", "dense CRF", "fewer than 200"):
        build_lattice(torch.zeros(2, 200))
