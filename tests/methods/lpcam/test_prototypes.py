"""Collecting vectors (eq. 2), scoring and selecting centres (eqs. 3, 4), and prototypes on disk."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tag2mask.core.errors import ConfigError, StageError, WeightsError
from tag2mask.core.types import Prototypes, PrototypeSet
from tag2mask.methods.lpcam import vectors as vectors_module
from tag2mask.methods.lpcam.collect import Collector, collect, subsample
from tag2mask.methods.lpcam.kmeans import Clusters, spherical_kmeans
from tag2mask.methods.lpcam.prototypes import (
    Clustering,
    Rules,
    Scorer,
    build_class,
    drop_by_hand,
    select_context,
    select_foreground,
)
from tag2mask.methods.lpcam.prototypes_file import load_prototypes, save_prototypes
from tests.helpers.refused import refused

# --- collecting ---------------------------------------------------------------------------------------------------


def image(index: int, size: tuple[int, int] = (3, 4), dim: int = 5) -> tuple[Tensor, Tensor]:
    """Features whose numbers tell their place, and a CAM four times as large."""
    rows, columns = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    features = torch.stack([torch.full_like(rows, index), rows, columns, *[torch.ones_like(rows)] * (dim - 3)]).float()
    generator = torch.Generator().manual_seed(index)
    return features, torch.rand(size[0] * 4, size[1] * 4, generator=generator)


def test_subsampling_takes_index_floor_of_i_times_ratio() -> None:
    maps = torch.arange(7 * 10).reshape(7, 10)
    expected = [[int(maps[i * 7 // 3, j * 10 // 4]) for j in range(4)] for i in range(3)]
    assert subsample(maps, 3, 4).tolist() == expected
    assert subsample(maps, 9, 10).tolist() == [maps[i * 7 // 9].tolist() for i in range(9)]


def test_eq_2_divides_at_tau_and_every_row_knows_its_place() -> None:
    pairs = [image(i) for i in range(6)]
    with collect(pairs, 0.5) as (foreground, context):
        for side, inside in ((foreground, True), (context, False)):
            assert side.vectors.dtype == np.float16
            expected = [
                (i, r, c)
                for i, (features, cam) in enumerate(pairs)
                for r in range(features.shape[1])
                for c in range(features.shape[2])
                if bool(cam[4 * r, 4 * c] >= 0.5) == inside
            ]
            assert [tuple(o) for o in side.origins.tolist()] == expected
            assert [tuple(v) for v in side.vectors[:, :3].astype(int).tolist()] == expected
    assert len(foreground.origins) + len(context.origins) == 72


def test_a_value_of_exactly_tau_is_foreground() -> None:
    cam = torch.tensor([[0.25, 0.2499, 0.0, 1.0]])
    with collect([(torch.rand(2, 1, 4), cam)], 0.25) as (foreground, context):
        assert foreground.origins[:, 2].tolist() == [0, 3]
        assert context.origins[:, 2].tolist() == [1, 2]


def test_files_lie_in_the_folder_are_announced_and_go(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "scratch"
    with caplog.at_level("INFO", logger="tag2mask"), Collector(0.5, folder, name="cat", images=6) as collector:
        for i in range(6):
            collector.add(i, *image(i))
        foreground, _ = collector.finish()
        assert isinstance(foreground.vectors, np.memmap)
        (inside,) = folder.iterdir()
        assert sum(f.stat().st_size for f in inside.iterdir()) == 72 * 5 * 2
        text = caplog.messages[0]
    assert text.startswith("feature vectors of cat take about 0.0 MB of disk in ")
    assert list(folder.iterdir()) == []


def test_files_go_after_an_error_too(tmp_path: Path) -> None:
    def pairs() -> Iterator[tuple[Tensor, Tensor]]:
        yield image(0)
        raise KeyError("decoder")

    with pytest.raises(KeyError, match="decoder"), collect(pairs(), 0.5, tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_sample_has_the_size_set_no_files_and_rows_of_the_whole(tmp_path: Path) -> None:
    pairs = [image(i) for i in range(40)]
    with collect(pairs, 0.5) as (whole, _):
        known = {tuple(o) for o in whole.origins.tolist()}
    with collect(pairs, 0.5, tmp_path, max_vectors=50, seed=3) as (foreground, context):
        assert foreground.vectors.shape == context.vectors.shape == (50, 5)
        origins = [tuple(o) for o in foreground.origins.tolist()]
        assert origins == sorted(set(origins))
        assert set(origins) <= known
        assert [tuple(v) for v in foreground.vectors[:, :3].astype(int).tolist()] == origins
        assert list(tmp_path.iterdir()) == []
    with collect(pairs, 0.5, max_vectors=50, seed=3) as (again, _):
        assert again.origins.tolist() == foreground.origins.tolist()
    with collect(pairs, 0.5, max_vectors=50, seed=4) as (other, _):
        assert other.origins.tolist() != foreground.origins.tolist()


def test_a_sample_larger_than_the_whole_is_the_whole() -> None:
    pairs = [image(i) for i in range(5)]
    with collect(pairs, 0.5) as whole, collect(pairs, 0.5, max_vectors=1000) as sample:
        for a, b in zip(whole, sample, strict=True):
            assert np.array_equal(a.vectors, b.vectors)
            assert np.array_equal(a.origins, b.origins)


def test_the_sample_is_uniform() -> None:
    hits = np.zeros(20)
    for seed in range(400):
        sink = vectors_module.SampleSink(1, 5, seed)
        for i in range(20):
            sink.append(np.full((1, 1), i, np.float16), np.full((1, 3), i, np.int32))
        hits[sink.finish().origins[:, 0]] += 1
    assert hits.sum() == 2000
    # each row: binomial(400, 1/4), mean 100, standard deviation 8.7; five of these either way
    assert abs(hits - 100).max() < 44


def test_no_image_and_an_empty_side_are_sound() -> None:
    with collect([], 0.5) as (foreground, context):
        assert len(foreground.vectors) == len(context.vectors) == 0
    with collect([(torch.rand(2, 2, 2), torch.zeros(8, 8))], 0.5) as (foreground, context):
        assert foreground.vectors.shape == (0, 2)
        assert context.vectors.shape == (4, 2)


def test_a_full_disk_is_reported_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 100}))
    with (
        refused(StageError, "0.0 MB of disk", "0.0 MB are free", "Make room, or set"),
        Collector(0.5, tmp_path, images=6) as collector,
    ):
        collector.add(0, *image(0))
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_is_reported() -> None:
    sink = vectors_module.FileSink(Path("/dev/full"), 5)
    sink.append(np.ones((1, 5), np.float16), np.zeros((1, 3), np.int32))
    with refused(StageError, "feature vectors", "/dev: No space left on device"):
        sink.finish()
    sink.close()


def test_wrong_input_to_the_collector_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tau = -0.1 must lie in \[0, 1\]"):
        Collector(-0.1)
    with pytest.raises(ConfigError, match="max_vectors = 0 must be 1 or more"):
        Collector(0.1, max_vectors=0)
    features, cam = image(3)
    with Collector(0.5) as collector:
        with refused(WeightsError, "image 3", "NaN, infinite or above 65504"):
            collector.add(3, features * 1e6, cam)
        with pytest.raises(WeightsError, match="image 3: features or CAM are NaN"):
            collector.add(3, features, cam * torch.nan)
        collector.add(4, features, cam)
        with refused(WeightsError, "image 5", "depth 7", "had 5"):
            collector.add(5, *image(5, dim=7))
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(StageError, match="cannot make a temporary folder"):
        Collector(0.5, blocked / "x").add(0, features, cam)


# --- selecting ----------------------------------------------------------------------------------------------------

WEIGHTS = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
EVERY = torch.ones(3, dtype=torch.bool)


def clusters(centres: Tensor) -> Clusters:
    """Clusters with these centres, of sizes 1, 2, 3 …"""
    sizes = torch.arange(1, len(centres) + 1)
    return Clusters(centres, centres, sizes, torch.zeros(0, dtype=torch.int64), (), True)


def with_scores(*scores: float) -> Tensor:
    """Centres whose softmax probability of class 0 (weights `WEIGHTS`) is as given."""
    return torch.tensor([[0.5 * float(np.log(2 * z / (1 - z))), 0.0, 0.0] for z in scores], dtype=torch.float64).float()


def test_scores_are_the_softmax_over_classes_that_took_part() -> None:
    centres = torch.randn(7, 3, generator=torch.Generator().manual_seed(0)) * 4
    products = (centres.double() @ WEIGHTS.double().T).exp()
    for column in range(3):
        expected = products[:, column] / products.sum(1)
        torch.testing.assert_close(Scorer(WEIGHTS, EVERY).scores(centres, column).double(), expected, atol=1e-6, rtol=0)
    two = torch.tensor([True, False, True])
    expected = products[:, 2] / products[:, [0, 2]].sum(1)
    torch.testing.assert_close(Scorer(WEIGHTS, two).scores(centres, 2).double(), expected, atol=1e-6, rtol=0)


def test_with_one_class_the_score_is_a_sigmoid(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="tag2mask"):
        scorer = Scorer(WEIGHTS, torch.tensor([True, False, False]))
    assert scorer.scores(torch.tensor([[0.5, 9.0, 9.0]]), 0).item() == pytest.approx(1 / (1 + np.exp(-1)))
    assert "one class only" in caplog.text


def test_alone_each_class_is_judged_by_its_sigmoid() -> None:
    """A centre that every class rejects is of none, where a softmax gives it to the one that rejects it least."""
    nowhere = torch.tensor([[-2.0, -9.0, -9.0]])
    assert Scorer(WEIGHTS, EVERY).scores(nowhere, 0).item() > 0.98
    alone = Scorer(WEIGHTS, EVERY, bias=torch.tensor([0.5, 0.0, 0.0]), alone=True)
    assert alone.scores(nowhere, 0).item() == pytest.approx(1 / (1 + np.exp(3.5)))


def test_centres_of_other_features_are_judged_by_the_mean_logits_of_their_vectors(tmp_path: Path) -> None:
    """As the mean of the classifier's features would be: its logits are linear in them."""
    generator = torch.Generator().manual_seed(3)
    read = [torch.randn(3, 6, 5, generator=generator) for _ in range(3)]
    pairs = [
        (torch.rand(7, 6, 5, generator=generator), (torch.arange(6) < 3).float()[:, None].expand(6, 5),
         torch.einsum("cd,dhw->chw", WEIGHTS, features))
        for features in read
    ]  # fmt: skip
    for limit in (None, 20):
        with collect(pairs, 0.5, tmp_path, max_vectors=limit) as sides:
            for side in sides:
                assert side.logits is not None
                expected = [pairs[i][2][:, y, x] for i, y, x in side.origins.tolist()]
                np.testing.assert_allclose(side.logits, torch.stack(expected).numpy(), rtol=1e-3, atol=1e-3)
            built = build_class(*sides, 1, Scorer(WEIGHTS, EVERY), Rules(), Clustering(n_prototypes=3))
            labels = spherical_kmeans(sides[0].vectors, 3).labels
            for number, score in enumerate(built.foreground.scores.tolist()):
                places = sides[0].origins[labels.numpy() == number].tolist()
                mine = [read[i][:, y, x] for i, y, x in places]
                mean = torch.stack(mine).mean(0, keepdim=True)
                assert Scorer(WEIGHTS, EVERY).scores(mean, 1).item() == pytest.approx(score, abs=2e-3)
    assert not list(tmp_path.iterdir())


def test_huge_products_give_no_nan() -> None:
    scores = Scorer(WEIGHTS, EVERY).scores(torch.tensor([[6e4, 0, 0], [-6e4, 0, 6e4]]), 0)
    assert scores.tolist() == [1.0, 0.0]


def test_foreground_above_mu_f_is_kept() -> None:
    found = select_foreground(clusters(with_scores(0.95, 0.5, 0.91, 0.1)), Scorer(WEIGHTS, EVERY), 0, Rules())
    torch.testing.assert_close(found.scores, torch.tensor([0.95, 0.5, 0.91, 0.1]))
    assert found.kept.tolist() == [True, False, True, False]
    assert found.sizes.tolist() == [1, 2, 3, 4]
    assert found.reasons[0] == "kept: score 0.950 > mu_f 0.9"
    assert found.reasons[1] == "dropped: score 0.500 <= mu_f 0.9"


def test_the_best_is_kept_where_none_passes(caplog: pytest.LogCaptureFixture) -> None:
    found = select_foreground(clusters(with_scores(0.2, 0.6, 0.3)), Scorer(WEIGHTS, EVERY), 0, Rules())
    assert found.kept.tolist() == [False, True, False]
    assert found.reasons[1] == "kept: best of its class, since no score exceeds mu_f 0.9 (its own is 0.600)"
    assert "no foreground centre scores above 0.9; the best is kept" in caplog.text


def test_no_foreground_vectors_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    found = select_foreground(clusters(torch.zeros(0, 3)), Scorer(WEIGHTS, EVERY), 2, Rules())
    assert len(found.kept) == 0
    assert "class column 2: no foreground vectors" in caplog.text


def test_context_is_kept_between_its_bounds() -> None:
    rules = Rules(mu_b=0.8, mu_b_low=0.05)
    found = select_context(clusters(with_scores(0.9, 0.5, 0.02, 0.06)), Scorer(WEIGHTS, EVERY), 0, rules)
    assert found.kept.tolist() == [False, True, False, True]
    assert found.reasons[0] == "dropped: score 0.900 >= mu_b 0.8, it looks like the class"
    assert found.reasons[1] == "kept: score 0.500 < mu_b 0.8"
    assert found.reasons[2] == "dropped: score 0.020 <= mu_b_low 0.05, the class rejects it outright"


def test_without_lower_bound_a_score_of_zero_is_context() -> None:
    found = select_context(clusters(torch.tensor([[-6e4, 0.0, 6e4]])), Scorer(WEIGHTS, EVERY), 0, Rules())
    assert found.scores.tolist() == [0.0]
    assert found.kept.tolist() == [True]


def test_no_context_at_all_is_sound() -> None:
    found = select_context(clusters(torch.zeros(0, 3)), Scorer(WEIGHTS, EVERY), 0, Rules())
    assert found.kept.shape == found.scores.shape == (0,)


def test_a_class_is_built_from_its_vectors() -> None:
    generator = torch.Generator().manual_seed(0)
    pairs = []
    for _ in range(4):
        features = 0.05 * torch.rand(3, 4, 4, generator=generator)
        features[2] += 1
        features[:, :2] = torch.tensor([5.0, 0, 0])[:, None, None] + 0.05 * torch.rand(3, 2, 4, generator=generator)
        pairs.append((features, (torch.arange(4) < 2).float()[:, None].expand(4, 4)))
    with collect(pairs, 0.5) as (foreground, context):
        built = build_class(foreground, context, 0, Scorer(WEIGHTS, EVERY), Rules(), Clustering(n_prototypes=2))
    assert built.foreground.kept.all()
    assert built.context.kept.all()
    assert int(built.foreground.sizes.sum()) == int(built.context.sizes.sum()) == 32
    assert built.foreground_patches.origins.shape == (len(built.foreground.sizes), 8, 3)
    assert (built.foreground_patches.origins[..., 1] < 2).all()
    assert (built.context_patches.origins[..., 1] >= 2).all()
    assert built.foreground_patches.similarities.min() > 0.99


# --- by hand, and on disk -----------------------------------------------------------------------------------------


def prototypes() -> Prototypes:
    """Two classes on both sides."""
    scorer, rules = Scorer(WEIGHTS, EVERY), Rules()
    foreground = {c: select_foreground(clusters(torch.rand(3, 3) * 9), scorer, c, rules) for c in (2, 0)}
    context = {c: select_context(clusters(torch.rand(2, 3)), scorer, c, rules) for c in (2, 0)}
    return Prototypes(foreground, context)


def test_dropping_by_hand_drops_one_and_says_so() -> None:
    before = prototypes()
    index = int(before.all_foreground[2].kept.nonzero()[0])
    after = drop_by_hand(before, 2, "foreground", index)
    assert len(after.foreground[2]) == len(before.foreground[2]) - 1
    assert after.all_foreground[2].reasons[index] == f"dropped: by hand (was {before.all_foreground[2].reasons[index]})"
    assert bool(before.all_foreground[2].kept[index])
    assert torch.equal(after.foreground[0], before.foreground[0])
    assert after.all_context is before.all_context
    assert len(drop_by_hand(before, 0, "context", 1).context[0]) == len(before.context[0]) - 1


@pytest.mark.parametrize(
    ("column", "side", "index", "text"),
    [
        (0, "foregruond", 0, "'foregruond' … did you mean 'foreground'?"),
        (1, "foreground", 0, "class column 1 … no foreground prototypes … tag2mask proto"),
        (0, "context", 2, "context:2 does not exist … class column 0 … context:0 to context:1"),
        (0, "context", -1, "context:-1 does not exist"),
    ],
)
def test_dropping_what_is_not_there_is_refused(column: int, side: str, index: int, text: str) -> None:
    with refused(ConfigError, text):
        drop_by_hand(prototypes(), column, side, index)


def same(first: PrototypeSet, second: PrototypeSet) -> bool:
    tensors = all(torch.equal(getattr(first, n), getattr(second, n)) for n in ("centres", "scores", "sizes", "kept"))
    return tensors and first.reasons == second.reasons


def test_prototypes_survive_the_disk_and_the_bytes_are_theirs_alone(tmp_path: Path) -> None:
    before = prototypes()
    save_prototypes(tmp_path / "a", before)
    save_prototypes(tmp_path / "deep" / "b", before)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "deep" / "b").read_bytes()
    after = load_prototypes(tmp_path / "a")
    assert sorted(after.all_foreground) == sorted(after.all_context) == [0, 2]
    for c in (0, 2):
        assert same(before.all_foreground[c], after.all_foreground[c])
        assert same(before.all_context[c], after.all_context[c])
        assert torch.equal(before.foreground[c], after.foreground[c])


def test_files_that_hold_no_prototypes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    with refused(WeightsError, "p.safetensors: the file does not exist", "prototypes"):
        load_prototypes(path)
    path.write_bytes(b"not safetensors at all")
    with pytest.raises(WeightsError, match="cannot read prototypes from .*p.safetensors"):
        load_prototypes(path)
    save_file({"x": torch.zeros(1)}, path)
    with refused(WeightsError, "safetensors file", "not of prototypes"):
        load_prototypes(path)
    save_file(
        {"x": torch.zeros(1)}, path, {"tag2mask": '{"format": "tag2mask prototypes 1", "reasons": {"context.0": []}}'}
    )
    with pytest.raises(WeightsError, match="is damaged: 'context.0.centres' is missing"):
        load_prototypes(path)
    save_prototypes(path, prototypes())
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(WeightsError, match="cannot read prototypes"):
        load_prototypes(path)
