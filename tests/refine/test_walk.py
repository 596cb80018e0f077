"""The random walk against dense float64 matrices made pair by pair; its invariants, its edge cases, its errors."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from numpy.polynomial import chebyshev
from numpy.typing import NDArray
from torch import Tensor

import tag2mask
from benchmarks.common import peak_memory
from tag2mask.core.errors import ConfigError, DataError
from tag2mask.refine import transition as transition_module
from tag2mask.refine.transition import paths, transition, transition_of_matrix, transition_of_pairs
from tag2mask.refine.walk import _walk, mixture, random_walk, walk
from tests.helpers.refused import refused

Array = NDArray[np.float64]


def draw(height: int, width: int, count: int = 2, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Float64 maps in [0, 1] (K, h, w) and an edge map with weak, strong and certain boundaries (h, w)."""
    generator = torch.Generator().manual_seed(seed)
    edge = torch.rand(height, width, generator=generator, dtype=torch.float64) ** 3
    edge[torch.rand(height, width, generator=generator) < 0.03] = 1
    return torch.rand(count, height, width, generator=generator, dtype=torch.float64), edge


def propagate(maps: Tensor, edge: Tensor) -> Tensor:
    """The walk alone, without the factor 1 - edge."""
    return walk(maps, transition(edge, 5, 10))


def on_the_way(start: tuple[int, int], end: tuple[int, int]) -> list[tuple[int, int]]:
    """Cells of the bounding box of two cells that are nearer than 1 to the line through them."""
    (y0, x0), (y1, x1) = start, end
    box = [
        (y, x)
        for y in range(min(y0, y1), max(y0, y1) + 1)
        for x in range(min(x0, x1), max(x0, x1) + 1)
    ]  # fmt: skip
    length = math.hypot(y1 - y0, x1 - x0)
    return [(y, x) for y, x in box if abs((y1 - y0) * (x - x0) - (x1 - x0) * (y - y0)) / length < 1]


def dense(edge: Tensor, radius: int, beta: float) -> Array:
    """T (h w, h w), one pair of cells after the other."""
    cells = [(y, x) for y in range(edge.shape[0]) for x in range(edge.shape[1])]
    values = edge.tolist()
    matrix = np.eye(len(cells))
    for i, p in enumerate(cells):
        for j, q in enumerate(cells):
            if p != q and math.dist(p, q) < radius:
                matrix[i, j] = (1 - max(values[y][x] for y, x in on_the_way(p, q))) ** beta
    matrix /= matrix.sum(0)
    return matrix


def walked(maps: Tensor, matrix: Array, log2_steps: int) -> Array:
    """maps T^(2^log2_steps) by squaring."""
    for _ in range(log2_steps):
        matrix = matrix @ matrix
    spread: Array = np.asarray(maps.numpy().reshape(len(maps), -1) @ matrix).reshape(maps.shape)
    return spread


def far(found: Tensor, expected: Array) -> float:
    """Largest difference as a share of the largest value."""
    return float(np.abs(found.double().numpy() - expected).max() / np.abs(expected).max())


def test_the_paths_of_a_radius_are_those_of_a_half_plane() -> None:
    assert [len(paths(radius)) for radius in (2, 3, 5, 10)] == [4, 12, 34, 152]
    rows = [(0, 1), (0, 2), *[(dy, dx) for dy in (1, 2) for dx in (-2, -1, 0, 1, 2)]]
    assert [(path.dy, path.dx) for path in paths(3)] == rows
    both = {(path.dy, path.dx) for path in paths(10)} | {(-path.dy, -path.dx) for path in paths(10)}
    assert both == {(y, x) for y in range(-9, 10) for x in range(-9, 10) if 0 < y * y + x * x < 100}


def test_the_cells_of_a_path_by_hand() -> None:
    cells = {(path.dy, path.dx): path.cells for path in paths(6)}
    assert cells[0, 3] == ((0, 0), (0, 1), (0, 2), (0, 3))
    assert cells[1, 1] == ((0, 0), (0, 1), (1, 0), (1, 1))  # the corners are 0.71 from the diagonal
    assert cells[3, -2] == ((0, -1), (0, 0), (1, -1), (1, 0), (2, -2), (2, -1), (3, -2), (3, -1))
    assert (2, 0) not in cells[3, 4]  # 8 / 5 away
    assert (0, 1) in cells[3, 4]  # 3 / 5 away


def test_the_cells_of_every_path_are_those_nearer_than_one() -> None:
    for path in paths(10):
        assert list(path.cells) == on_the_way((0, 0), (path.dy, path.dx))


@pytest.mark.parametrize(
    ("height", "width", "radius", "beta", "log2_steps"),
    [
        (11, 13, 5, 10, 8),
        (9, 12, 5, 10, 0),
        (9, 12, 5, 10, 1),
        (12, 7, 5, 2.5, 3),
        (10, 11, 2, 4, 10),
        (8, 13, 7, 1, 5),
        (4, 3, 5, 10, 8),  # smaller than the radius
        (3, 3, 10, 3, 8),
        (1, 17, 5, 10, 8),
        (17, 1, 5, 10, 8),
        (1, 1, 5, 10, 8),
    ],
)
def test_the_walk_is_that_of_the_dense_matrix(
    height: int, width: int, radius: int, beta: float, log2_steps: int
) -> None:
    maps, edge = draw(height, width)
    edge[0, 0] = 0.25  # a 1 x 1 grid keeps something
    matrix = dense(edge, radius, beta)
    found = random_walk(maps, edge, radius, beta, log2_steps)
    assert found.shape == maps.shape
    assert far(found, walked(maps * (1 - edge), matrix, log2_steps)) < 1e-10
    assert far(walk(maps, transition(edge, radius, beta), log2_steps), walked(maps, matrix, log2_steps)) < 1e-10


def test_a_lone_cell_that_spreads_over_the_whole_image_is_exact_too() -> None:
    """The hardest map for the bound: its maximum falls by a factor of hundreds."""
    edge = torch.full((21, 24), 0.05, dtype=torch.float64)
    maps = torch.zeros(1, 21, 24, dtype=torch.float64)
    maps[0, 0, 0] = 1
    expected = walked(maps, dense(edge, 5, 10), 8)
    assert expected.max() < 0.01
    assert far(propagate(maps, edge), expected) < 1e-9


def test_it_is_256_plain_products() -> None:
    maps, edge = draw(14, 15, count=3)
    matrix = dense(edge, 5, 10)
    spread = (maps * (1 - edge)).numpy().reshape(3, -1)
    for _ in range(256):
        spread = spread @ matrix
    assert far(random_walk(maps, edge), spread.reshape(maps.shape)) < 1e-10


def test_the_transition_matrix_has_columns_of_sum_one_and_at_most_69_entries() -> None:
    _, edge = draw(12, 14)
    single = torch.eye(168, dtype=torch.float64).view(168, 12, 14)
    matrix = walk(single, transition(edge, 5, 10), 0).reshape(168, 168)
    torch.testing.assert_close(matrix, torch.from_numpy(dense(edge, 5, 10)), atol=1e-14, rtol=0)
    torch.testing.assert_close(matrix.sum(0), torch.ones(168, dtype=torch.float64), atol=1e-14, rtol=0)
    assert int((matrix > 0).sum(0).max()) <= 69
    free = walk(single, transition(torch.zeros_like(edge), 5, 10), 0).reshape(168, 168)
    assert int((free > 0).sum(0).max()) == 69
    assert float(free[6 * 14 + 7, 6 * 14 + 7]) == pytest.approx(1 / 69)


@pytest.mark.parametrize(("height", "width", "radius"), [(5, 9, 5), (6, 1, 5), (1, 1, 10), (7, 4, 5), (3, 40, 3)])
def test_the_sparse_matrix_is_a_valid_one(height: int, width: int, radius: int) -> None:
    _, edge = draw(height, width)
    made = transition(edge, radius, 10).matrix
    parts = (made.crow_indices(), made.col_indices(), made.values())
    torch.sparse_csr_tensor(*parts, made.shape, check_invariants=True)
    rows = made.values().view(made.shape[0], -1)
    torch.testing.assert_close(rows.sum(1), torch.ones(len(rows), dtype=torch.float64))


def test_strips_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    maps, edge = draw(9, 11)
    whole = random_walk(maps, edge)
    monkeypatch.setattr(transition_module, "STRIP", 37)
    torch.testing.assert_close(random_walk(maps, edge), whole, atol=1e-14, rtol=0)


@pytest.mark.parametrize("steps", [1, 2, 4, 16, 256, 4096])
def test_the_mixture_is_the_power(steps: int) -> None:
    weights = mixture(steps)
    points = np.cos(np.linspace(0, np.pi, 2001))
    assert math.fsum(weights) == pytest.approx(1, abs=1e-15)
    assert min(weights) >= 0
    assert np.abs(chebyshev.chebval(points, weights) - points**steps).max() < 2e-12
    assert len(weights) - 1 == {1: 1, 2: 2, 4: 4, 16: 16, 256: 112, 4096: 456}[steps]


def test_a_constant_map_stays_constant() -> None:
    maps, edge = draw(20, 30)
    maps[:, :, :14] = 0.7  # closed off from the rest, so that the range of the map does not hold it at 0.7
    edge[:, 14] = 1
    found = propagate(maps, edge)[:, :, :14]
    torch.testing.assert_close(found, torch.full_like(found, 0.7), atol=2e-12, rtol=0)


def test_rounding_does_not_leave_the_range_of_a_map() -> None:
    _, edge = draw(20, 30)
    constant = torch.full((1, 20, 30), 0.7, dtype=torch.float64)
    assert torch.equal(propagate(constant, edge), constant)


def test_the_walk_turns_and_flips_with_the_image() -> None:
    maps, edge = draw(13, 18)
    found = random_walk(maps, edge)
    for axes in ((0,), (1,), (0, 1)):
        flipped = random_walk(maps.flip([a + 1 for a in axes]), edge.flip(axes))
        torch.testing.assert_close(flipped.flip([a + 1 for a in axes]), found, atol=1e-12, rtol=0)
    turned = random_walk(maps.mT, edge.T)
    torch.testing.assert_close(turned.mT, found, atol=1e-12, rtol=0)


def test_the_walk_is_linear_and_each_map_walks_alone() -> None:
    maps, edge = draw(10, 16, count=9)
    found = random_walk(maps, edge)
    mixed = random_walk((3 * maps[0] - 2 * maps[1])[None], edge)
    torch.testing.assert_close(mixed[0], 3 * found[0] - 2 * found[1], atol=1e-10, rtol=0)
    for number in range(9):
        torch.testing.assert_close(random_walk(maps[number : number + 1], edge)[0], found[number], atol=1e-12, rtol=0)


def test_what_lies_around_does_not_matter_behind_certain_boundaries() -> None:
    """A wall of edge 1 keeps everything on its side, and both sides walk as images of their own."""
    maps, edge = draw(12, 21)
    edge[:, 10] = 1
    found = propagate(maps, edge)
    torch.testing.assert_close(found[..., :10], propagate(maps[..., :10], edge[:, :10]), atol=1e-12, rtol=0)
    torch.testing.assert_close(found[..., 11:], propagate(maps[..., 11:], edge[:, 11:]), atol=1e-12, rtol=0)
    torch.testing.assert_close(found[..., 10], maps[..., 10], atol=1e-12, rtol=0)
    maps[..., :10] = 0
    assert float(propagate(maps, edge)[..., :10].abs().max()) == 0


def test_edge_one_everywhere_gives_no_nan() -> None:
    maps, _ = draw(7, 8)
    edge = torch.ones(7, 8, dtype=torch.float64)
    torch.testing.assert_close(propagate(maps, edge), maps, atol=1e-12, rtol=0)
    assert torch.equal(random_walk(maps, edge), torch.zeros_like(maps))


def test_no_maps_give_no_maps() -> None:
    _, edge = draw(5, 6)
    assert random_walk(edge.new_zeros(0, 5, 6), edge).shape == (0, 5, 6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_result_has_the_type_of_the_maps_and_is_computed_in_float64(dtype: torch.dtype) -> None:
    maps, edge = draw(9, 9)
    maps, edge = maps.to(dtype), edge.to(dtype)
    found = random_walk(maps, edge)
    assert found.dtype == dtype
    exact = walked(maps.double() * (1 - edge.double()), dense(edge.double(), 5, 10), 8)
    torch.testing.assert_close(found, torch.from_numpy(exact).to(dtype), atol=1e-10, rtol=torch.finfo(dtype).eps)


def test_inputs_are_left_as_they_are_and_may_need_gradients() -> None:
    maps, edge = draw(6, 7)
    before = maps.clone(), edge.clone()
    found = random_walk(maps.requires_grad_(), edge.requires_grad_())
    assert not found.requires_grad
    assert torch.equal(maps, before[0])
    assert torch.equal(edge, before[1])


def test_lists_of_images_of_any_sizes() -> None:
    images = [draw(5, 9, 2, seed=1), draw(8, 3, 1, seed=2), draw(4, 4, 0, seed=3)]
    found = random_walk([m for m, _ in images], [e for _, e in images], log2_steps=4)
    assert [f.shape for f in found] == [(2, 5, 9), (1, 8, 3), (0, 4, 4)]
    for f, (maps, edge) in zip(found, images, strict=True):
        assert torch.equal(f, random_walk(maps, edge, log2_steps=4))
    assert random_walk([], []) == []


def test_it_is_a_public_name_and_warns_of_nothing() -> None:
    maps, edge = draw(3, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(tag2mask.random_walk(maps, edge), random_walk(maps, edge))


def features(height: int, width: int) -> Tensor:
    """(D, h, w) float64 of two regions with noise."""
    drawn = torch.rand(3, height, width, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    drawn[0, :, width // 2 :] += 2
    return drawn


def alike(found: Tensor, p: tuple[int, int], q: tuple[int, int]) -> float:
    """PSA's affinity of two cells: exp of minus the mean distance of their features."""
    (y0, x0), (y1, x1) = p, q
    return math.exp(-float((found[:, y0, x0] - found[:, y1, x1]).abs().mean()))


def feature_pairs(found: Tensor, radius: int) -> Tensor:
    """(P, h, w) of the features' affinity, NaN for pairs that leave the image."""
    height, width = found.shape[1:]
    pairs = torch.full((len(paths(radius)), height, width), math.nan, dtype=found.dtype)
    for number, path in enumerate(paths(radius)):
        for y, x in np.ndindex(height, width):
            other = (y + path.dy, x + path.dx)
            if other[0] < height and 0 <= other[1] < width:
                pairs[number, y, x] = alike(found, (y, x), other)
    return pairs


@pytest.mark.parametrize(("height", "width", "radius"), [(9, 11, 5), (6, 3, 5), (1, 8, 3)])
def test_an_affinity_of_feature_distances_is_walked_as_by_its_dense_matrix(
    height: int, width: int, radius: int
) -> None:
    found, (maps, _) = features(height, width), draw(height, width)
    cells = list(np.ndindex(height, width))
    matrix = np.array([[alike(found, p, q) if math.dist(p, q) < radius else 0.0 for q in cells] for p in cells])
    expected = maps.numpy().reshape(2, -1) @ np.linalg.matrix_power(matrix / matrix.sum(0), 256)
    spread = walk(maps, transition_of_pairs(feature_pairs(found, radius), radius))
    assert far(spread, expected.reshape(maps.shape)) < 1e-10


def test_an_affinity_of_any_two_cells_is_walked_too() -> None:
    maps, _ = draw(7, 9)
    drawn = torch.rand(63, 63, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    attention = (drawn @ drawn.T).softmax(1)
    attention = attention + attention.T
    matrix = attention.numpy().copy()
    np.fill_diagonal(matrix, 1)
    expected = maps.numpy().reshape(2, -1) @ np.linalg.matrix_power(matrix / matrix.sum(0), 4)
    spread = walk(maps, transition_of_matrix(attention, 7, 9), log2_steps=2)
    assert far(spread, expected.reshape(maps.shape)) < 1e-10


def test_a_boundary_map_is_one_of_the_affinities_bit_for_bit() -> None:
    """The pairs of a boundary map, given as pairs, make its very matrix."""
    _, edge = draw(8, 10)
    kept = (1 - edge) ** 10
    pairs = torch.full((34, 8, 10), math.nan, dtype=torch.float64)
    for number, path in enumerate(paths(5)):
        for y, x in np.ndindex(8, 10):
            if y + path.dy < 8 and 0 <= x + path.dx < 10:
                pairs[number, y, x] = min(float(kept[y + dy, x + dx]) for dy, dx in path.cells)
    given, made = transition_of_pairs(pairs, 5).matrix, transition(edge, 5, 10).matrix
    assert torch.equal(given.values(), made.values())
    assert torch.equal(given.col_indices(), made.col_indices())


def test_all_pairs_inside_an_image_count() -> None:
    """PSA's grid of 56 x 56 cells has 99128 pairs nearer than 5."""
    made = transition_of_pairs(torch.ones(34, 56, 56, dtype=torch.float64), 5)
    inside = made.frame.image(made.matrix.values().view(made.frame.count, -1))
    assert int((inside > 0).sum()) == 2 * 99128 + 56 * 56


def test_a_wrong_affinity_is_refused() -> None:
    maps, ones = torch.zeros(1, 2, 3), torch.ones(4, 2, 3)
    step = transition_of_pairs(ones, 2)
    for bad, message in [
        (ones[:3], r"pairs has shape \(3, 2, 3\), expected \(4, h, w\) for radius 2"),
        (-ones, "pairs is NaN, infinite or negative at 11 places"),
    ]:
        with pytest.raises(DataError, match=message):
            transition_of_pairs(bad, 2)
    for square, message in [
        (torch.ones(5, 5), r"affinity has shape \(5, 5\), expected \(6, 6\)"),
        (torch.rand(6, 6, generator=torch.Generator().manual_seed(0)), "affinity differs from its transpose"),
        (torch.full((6, 6), math.nan), "affinity is NaN, infinite or negative at 36 places"),
    ]:
        with pytest.raises(DataError, match=message):
            transition_of_matrix(square, 2, 3)
    with refused(DataError, "maps has shape (1, 3, 3)", "expected (K, h, w)", "the affinity's grid"):
        walk(torch.zeros(1, 3, 3), step)
    with pytest.raises(ConfigError, match="log2_steps is 21"):
        walk(maps, step, 21)


NAN = torch.tensor([[0.5, math.nan], [0.5, 0.5]])


@pytest.mark.parametrize(
    ("maps", "edge", "message"),
    [
        (
            torch.zeros(1, 2, 2),
            torch.tensor([[0.5, 1.5], [-0.25, 0]]),
            "edge has values … -0.25 to 1.5 … expected",
        ),
        (torch.zeros(1, 2, 2), torch.tensor([[0.5, math.inf], [0, 0]]), "edge has values … from 0 to inf"),
        (torch.zeros(1, 2, 2), NAN, "edge is NaN … 1 of 4 cells … expected probabilities"),
        (NAN[None], torch.zeros(2, 2), "maps is NaN … 1 of 4 places"),
        (torch.zeros(1, 2, 3), torch.zeros(3, 2), "maps has shape (1, 2, 3) … edge (3, 2) … expected"),
        (torch.zeros(2, 2), torch.zeros(2, 2), "expected (K, h, w) … (h, w) of one grid"),
        (torch.zeros(1, 2, 2), torch.zeros(1, 2, 2), "edge (1, 2, 2), expected"),
        (torch.zeros(1, 0, 2), torch.zeros(0, 2), "with a cell or more"),
        (torch.zeros(1, 2, 2).int(), torch.zeros(2, 2), "maps is torch.int32 … edge torch.float32 … expected float"),
        (torch.zeros(0, 2, 2), torch.full((2, 2), 2.0), "edge has values from 2 to 2"),
    ],
)
def test_bad_input_is_refused(maps: Tensor, edge: Tensor, message: str) -> None:
    with refused(DataError, message):
        random_walk(maps, edge)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"radius": 1}, "radius is 1, … a whole number … 2 or more"),
        ({"radius": 5.0}, "radius is 5.0, … a whole number"),
        ({"beta": 0}, "beta is 0, … a finite number above 0"),
        ({"beta": math.nan}, "beta is nan"),
        ({"beta": math.inf}, "beta is inf"),
        ({"log2_steps": -1}, "log2_steps is -1, … from 0 to 20"),
        ({"log2_steps": 21}, "log2_steps is 21"),
        ({"log2_steps": 8.0}, "log2_steps is 8.0"),
    ],
)
@pytest.mark.parametrize("count", [0, 1])
def test_bad_settings_are_refused(settings: dict[str, Any], message: str, count: int) -> None:
    with refused(ConfigError, message):
        random_walk(torch.zeros(count, 2, 2), torch.zeros(2, 2), **settings)


def test_lists_that_do_not_match_are_refused() -> None:
    maps, edge = draw(3, 3)
    with refused(DataError, "maps has 2 images", "edge has 1 images", "expected"):
        random_walk([maps, maps], [edge])
    with refused(DataError, "maps has one tensor", "edge has 1 images"):
        random_walk(maps, [edge])  # type: ignore[call-overload]


@pytest.mark.slow
def test_a_large_image_needs_little_memory() -> None:
    """2000 x 1500 pixels: a dense T would have 141 GB."""
    maps, edge = draw(375, 500)
    random_walk(maps[:, :9, :9], edge[:9, :9])  # libraries load at the first use
    try:
        highest = peak_memory(lambda: random_walk(maps, edge, log2_steps=4))
    except OSError as error:
        pytest.skip(str(error))
    assert highest < 350 << 20


def test_float32_as_used_on_a_cuda_device_is_exact_enough() -> None:
    maps, edge = draw(40, 50, count=3)
    found = _walk(maps.float(), edge.float(), 5, 10, 8)
    assert found.dtype == torch.float32
    assert far(found, propagate(maps, edge).numpy()) < 1e-3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cuda_device_agrees_in_float32() -> None:
    maps, edge = draw(40, 50, count=3)
    found = random_walk(maps.float().cuda(), edge.float().cuda())
    assert found.device.type == "cuda"
    assert far(found.cpu(), random_walk(maps, edge).numpy()) < 1e-3
