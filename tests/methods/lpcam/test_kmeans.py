"""Spherical k-means against brute force, scikit-learn and a float64 reference; memory, ties, shards, gallery."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tag2mask.core.errors import ConfigError, WeightsError
from tag2mask.methods.lpcam.kmeans import Clusters, spherical_kmeans
from tag2mask.methods.lpcam.vectors import Rows, nearest_rows
from tests.helpers.refused import refused


def blobs(count: int = 600, dim: int = 16, groups: int = 5, seed: int = 0, noise: float = 0.3) -> Tensor:
    """Non-negative vectors of very different lengths around some directions."""
    generator = torch.Generator().manual_seed(seed)
    middles = torch.rand(groups, dim, generator=generator)
    which = torch.randint(groups, (count,), generator=generator)
    vectors = (middles[which] + noise * torch.randn(count, dim, generator=generator)).relu()
    return vectors * (0.1 + 10 * torch.rand(count, 1, generator=generator))


def cost_of(vectors: Tensor, labels: Tensor) -> float:
    """Sum of 1 - cosine to the best direction of each cluster, in float64."""
    units = F.normalize(vectors.double(), dim=1)
    sums = [units[labels == c].sum(0) for c in set(labels.tolist()) if c >= 0]
    return float((labels >= 0).sum() - sum(s.norm() for s in sums))


def check_consistent(vectors: Tensor, found: Clusters) -> None:
    """Labels are the nearest directions, centres the raw means, sizes the counts, and the cost never rises."""
    units = F.normalize(vectors.double(), dim=1)
    alive = vectors.norm(dim=1) > 0
    similar = units @ found.directions.double().T
    best = similar.max(1).values
    torch.testing.assert_close(similar[alive, found.labels[alive]], best[alive], atol=1e-5, rtol=0)
    assert (found.labels[~alive] == -1).all()
    for c, centre in enumerate(found.centres):
        members = vectors[found.labels == c]
        assert int(found.sizes[c]) == len(members) > 0
        torch.testing.assert_close(centre.double(), members.double().mean(0), atol=1e-5, rtol=1e-5)
    steps = itertools.pairwise(found.costs)
    assert all(later <= before + 1e-6 * int(alive.sum()) for before, later in steps), found.costs
    assert found.costs[-1] == pytest.approx(float((1 - best[alive]).sum()), abs=1e-6 * int(alive.sum()))


@pytest.mark.parametrize("k", [1, 2, 5, 12])
def test_the_result_is_consistent_and_the_cost_never_rises(k: int) -> None:
    vectors = blobs()
    found = spherical_kmeans(vectors, k, tolerance=0, max_iterations=200)
    assert found.centres.shape == (k, 16)
    assert found.converged
    check_consistent(vectors, found)


def test_equals_brute_force_on_a_tiny_set() -> None:
    vectors = blobs(count=8, dim=3, groups=3, noise=0.2)
    best = min(cost_of(vectors, torch.tensor(labels)) for labels in itertools.product(range(3), repeat=8))
    tries = [spherical_kmeans(vectors, 3, seed=seed, tolerance=0).costs[-1] for seed in range(10)]
    assert min(tries) == pytest.approx(best, abs=1e-5)
    assert all(t >= best - 1e-5 for t in tries)


def test_finds_well_separated_directions_whatever_the_lengths() -> None:
    generator = torch.Generator().manual_seed(3)
    which = torch.arange(300) % 3
    vectors = (torch.eye(3)[which] + 0.05 * torch.rand(300, 3, generator=generator)) * torch.logspace(-3, 3, 300)[
        :, None
    ]
    found = spherical_kmeans(vectors, 3)
    assert sorted(found.sizes.tolist()) == [100, 100, 100]
    for c in range(3):
        assert len(set(found.labels[which == c].tolist())) == 1


def test_the_cost_is_that_of_scikit_learn_from_the_same_start() -> None:
    cluster = pytest.importorskip("sklearn.cluster")
    vectors = blobs(count=2000, dim=24, groups=6, noise=0.2)
    units = F.normalize(vectors.double(), dim=1)
    start = units[:6]
    theirs = cluster.KMeans(6, init=start.numpy(), n_init=1, max_iter=300, tol=0).fit(units.numpy())
    ours = spherical_kmeans(vectors, 6, start=start.float(), tolerance=0, max_iterations=300)
    assert ours.costs[-1] <= cost_of(vectors, torch.from_numpy(theirs.labels_).long()) * 1.001


def test_one_iteration_by_hand() -> None:
    vectors = torch.tensor([[2.0, 0.0], [3.0, 1.0], [0.0, 5.0], [1.0, 9.0]])
    found = spherical_kmeans(vectors, 2, start=torch.tensor([[1.0, 0.0], [0.0, 7.0]]), max_iterations=1)
    assert found.labels.tolist() == [0, 0, 1, 1]
    assert found.centres.tolist() == [[2.5, 0.5], [0.5, 7.0]]
    assert found.costs[0] == pytest.approx((1 - 3 / 10**0.5) + (1 - 9 / 82**0.5), abs=1e-6)


def test_scaling_each_row_changes_no_label() -> None:
    vectors = blobs()
    scaled = vectors * torch.tensor(2.0) ** torch.randint(
        -6, 7, (len(vectors), 1), generator=torch.Generator().manual_seed(5)
    )
    assert torch.equal(spherical_kmeans(vectors, 5).labels, spherical_kmeans(scaled, 5).labels)


def test_the_same_seed_gives_the_same_bits_and_another_another_start() -> None:
    vectors = blobs()
    first, second = spherical_kmeans(vectors, 7, seed=4), spherical_kmeans(vectors, 7, seed=4)
    assert torch.equal(first.centres, second.centres)
    assert first.costs == second.costs
    assert spherical_kmeans(vectors, 7, seed=5).costs[0] != first.costs[0]


def test_kmeans_plus_plus_takes_each_far_group_once() -> None:
    vectors = torch.eye(6).repeat_interleave(50, 0)
    for seed in range(20):
        assert sorted(spherical_kmeans(vectors, 6, seed=seed, max_iterations=1).sizes.tolist()) == [50] * 6


def test_zero_vectors_belong_to_no_cluster() -> None:
    vectors = blobs(count=200)
    holed = torch.cat([torch.zeros(3, 16), vectors, torch.zeros(4, 16)])
    found = spherical_kmeans(holed, 4)
    assert found.labels[:3].tolist() == [-1] * 3
    assert int(found.sizes.sum()) == 200
    check_consistent(holed, found)


def test_fewer_vectors_than_clusters(caplog: pytest.LogCaptureFixture) -> None:
    vectors = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    with caplog.at_level("WARNING", logger="tag2mask"):
        found = spherical_kmeans(vectors, 12)
    assert sorted(found.centres.tolist()) == [[0.0, 1.0], [1.0, 0.0]]
    assert "2 distinct directions instead of the 12 clusters wanted" in caplog.text


def test_copies_of_one_vector_make_one_cluster() -> None:
    found = spherical_kmeans(torch.tensor([[0.3, 0.7, 0.1]]).repeat(50, 1) * torch.rand(50, 1).add(0.5), 5)
    assert found.sizes.tolist() == [50]
    assert found.costs[-1] == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("vectors", [torch.zeros(0, 8), torch.zeros(5, 8)])
def test_nothing_to_cluster(vectors: Tensor, caplog: pytest.LogCaptureFixture) -> None:
    found = spherical_kmeans(vectors, 3)
    assert found.centres.shape == (0, 8)
    assert found.labels.tolist() == [-1] * len(vectors)
    assert "no vectors to cluster" in caplog.text


def test_an_empty_cluster_goes_to_the_worst_served_vector() -> None:
    vectors = torch.tensor([[1.0, 0, 0]] * 10 + [[1.0, 0.1, 0]] * 10 + [[0.5, 0, 1.0]])
    start = torch.tensor([[1.0, 0, 0], [-1.0, 0, 0]])
    found = spherical_kmeans(vectors, 2, start=start, tolerance=0)
    assert found.sizes.tolist() == [20, 1]
    assert found.centres[1].tolist() == [0.5, 0, 1.0]
    check_consistent(vectors, found)


def test_the_cap_stops_it() -> None:
    found = spherical_kmeans(blobs(count=2000, noise=1.0), 12, max_iterations=2, tolerance=0)
    assert len(found.costs) == 3
    assert not found.converged


def test_a_loose_tolerance_stops_earlier_at_a_cost_within_it() -> None:
    vectors = blobs(count=2000, noise=1.0)
    loose = spherical_kmeans(vectors, 8, tolerance=0.05)
    tight = spherical_kmeans(vectors, 8, tolerance=0)
    assert len(loose.costs) < len(tight.costs)
    before, last = loose.costs[-3], loose.costs[-2]
    assert before - last <= 0.05 * before


def test_memory_and_storage_change_no_bit(tmp_path: Path) -> None:
    half = blobs(count=3000, dim=700).half()
    path = tmp_path / "vectors"
    half.numpy().tofile(path)
    mapped = np.memmap(path, np.float16, "r", shape=(3000, 700))
    whole = spherical_kmeans(half, 5, memory_mb=1000)
    for vectors in (half, half.numpy(), mapped, mapped[:]):
        streamed = spherical_kmeans(vectors, 5, memory_mb=0)
        assert torch.equal(whole.centres, streamed.centres)
        assert whole.costs == streamed.costs


def test_chunks_cover_all_rows_once_and_in_order() -> None:
    vectors = torch.arange(5000.0 * 700).reshape(5000, 700)
    pieces = list(Rows(vectors, 0).chunks())
    assert len(pieces) > 2
    assert torch.equal(torch.cat([chunk for _, chunk in pieces]), vectors)
    assert [start for start, _ in pieces] == [0, *np.cumsum([len(chunk) for _, chunk in pieces])[:-1].tolist()]


def test_nearest_rows_are_those_of_a_full_sort() -> None:
    vectors = torch.cat([blobs(count=300), torch.zeros(2, 16)])
    centres = vectors[:3]
    indices, similar = nearest_rows(vectors, centres, top=6)
    expected = F.normalize(centres.double(), dim=1) @ F.normalize(vectors.double(), dim=1).T
    torch.testing.assert_close(similar.double(), expected.sort(descending=True).values[:, :6], atol=1e-6, rtol=0)
    torch.testing.assert_close(expected.gather(1, indices), similar.double(), atol=1e-6, rtol=0)
    assert indices[:, 0].tolist() == [0, 1, 2]


def test_nearest_rows_leave_zero_vectors_out() -> None:
    indices, _ = nearest_rows(torch.tensor([[0.0, 0.0], [-1.0, 0.0]]), torch.tensor([[1.0, 0.0]]), top=8)
    assert indices.tolist() == [[1]]


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_vectors_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(WeightsError, match="feature vector 1 is NaN or infinite"):
        spherical_kmeans(torch.tensor([[1.0, 0.0], [bad, 0.0]]), 1)


def test_wrong_arguments_are_refused() -> None:
    vectors = torch.rand(5, 3)
    with refused(ConfigError, "k = 0", "max_iterations = 100", "1 or more"):
        spherical_kmeans(vectors, 0)
    with pytest.raises(ConfigError, match=r"start has shape \(2, 4\), expected \(k, D\) = \(2, 3\)"):
        spherical_kmeans(vectors, 2, start=torch.rand(2, 4))
    with refused(ConfigError, "matrix (N, D)", "got shape (5,)"):
        spherical_kmeans(vectors[:, 0], 2)
