"""Merging scales and the mirror image: exact values, and what must not change the maps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tag2mask.core.errors import WeightsError
from tag2mask.inference.multiscale import CAMHead, add_mirror, mean_of_scales, merge_scales, normalise, pair_features


def random_features(*sizes: tuple[int, int], batch: int = 2, depth: int = 6) -> list[Tensor]:
    """Features of some scales, both signs."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(batch, depth, *size, generator=generator) for size in sizes]


HEAD = CAMHead(torch.randn(3, 6, generator=torch.Generator().manual_seed(2)))
ALL = torch.arange(3)


def test_hand_made_scales() -> None:
    first = torch.tensor([[[[1.0, 3.0]]]])
    second = torch.tensor([[[[5.0, 1.0]]]])
    (maps,) = merge_scales([first, second], [CAMHead(torch.ones(1, 1))], torch.tensor([0]), (1, 2))
    torch.testing.assert_close(maps, torch.tensor([[[1.0, 4 / 6]]]))


def test_the_mirror_is_rectified_on_its_own_and_flipped_back() -> None:
    features = torch.tensor([[[[1.0, -5.0, 2.0]]], [[[4.0, 1.0, -9.0]]]])
    maps = CAMHead(torch.ones(1, 1))(features, torch.tensor([0]))
    assert maps.tolist() == [[[1.0, 1.0, 6.0]]]


def test_equals_the_slow_way() -> None:
    features = random_features((4, 5), (2, 3), (6, 8))
    (maps,) = merge_scales(features, [HEAD], ALL, (16, 20))
    expected = torch.zeros(3, 16, 20, dtype=torch.float64)
    for scale in features:
        straight = torch.einsum("cd,dhw->chw", HEAD.weights.double(), scale[0].double()).clamp_min(0)
        mirrored = torch.einsum("cd,dhw->chw", HEAD.weights.double(), scale[1].double()).clamp_min(0).flip(-1)
        expected += nn.functional.interpolate((straight + mirrored)[None], (16, 20), mode="bilinear")[0] / 3
    expected /= expected.amax((1, 2), keepdim=True)
    torch.testing.assert_close(maps.double(), expected, atol=1e-6, rtol=0)


def test_each_maximum_is_exactly_one() -> None:
    maps = normalise(torch.rand(50, 7, 7, generator=torch.Generator().manual_seed(0)) * 3 + 1e-3)
    assert maps.amax((1, 2)).tolist() == [1.0] * 50
    assert maps.min() >= 0


def test_tiny_maps_too_have_maximum_one_and_zero_maps_stay_zero() -> None:
    maps = normalise(torch.tensor([[[1e-30, 5e-31]], [[0.0, 0.0]]]))
    torch.testing.assert_close(maps, torch.tensor([[[1.0, 0.5]], [[0.0, 0.0]]]))


def test_repeating_a_scale_or_scaling_its_maps_changes_nothing() -> None:
    (one,) = merge_scales(random_features((4, 5)), [HEAD], ALL, (16, 20))
    (twice,) = merge_scales(random_features((4, 5)) * 2, [HEAD], ALL, (16, 20))
    (louder,) = merge_scales([f * 8 for f in random_features((4, 5))], [HEAD], ALL, (16, 20))
    assert torch.equal(one, twice)
    assert torch.equal(one, louder)


def test_a_mirrored_image_gives_mirrored_maps() -> None:
    features = random_features((4, 5), (8, 10))
    (maps,) = merge_scales(features, [HEAD], ALL, (16, 20))
    (swapped,) = merge_scales([f.flip(0) for f in features], [HEAD], ALL, (16, 20))
    torch.testing.assert_close(swapped, maps.flip(-1))


def test_heads_share_one_pass_over_a_generator() -> None:
    other = CAMHead(-HEAD.weights)
    both = merge_scales((f for f in random_features((4, 5), (2, 3))), [HEAD, other], ALL, (8, 10))
    alone = [merge_scales(random_features((4, 5), (2, 3)), [head], ALL, (8, 10))[0] for head in (HEAD, other)]
    assert len(both) == 2
    assert all(torch.equal(a, b) for a, b in zip(both, alone, strict=True))


def test_no_classes_gives_no_maps() -> None:
    (maps,) = merge_scales(random_features((4, 5)), [HEAD], ALL[:0], (16, 20))
    assert maps.shape == (0, 16, 20)


def test_no_scales_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one scale"):
        merge_scales([], [HEAD], ALL, (4, 4))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_maps_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(WeightsError, match="NaN or infinite: the network's features"):
        normalise(torch.tensor([[[1.0, bad]]]))


def test_add_mirror_leaves_a_single_image_alone() -> None:
    one = torch.arange(6.0).reshape(1, 2, 3)
    assert torch.equal(add_mirror(one), one[0])
    assert add_mirror(torch.cat([one, one])).tolist() == [[2.0, 2.0, 2.0], [8.0, 8.0, 8.0]]


def small_network() -> nn.Module:
    """Two convolutions, seeded."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 6, 3, 2, 1)).eval()


def test_pairs_equal_the_image_and_its_mirror_one_by_one() -> None:
    network = small_network()
    images = [torch.rand(3, 9, 13), torch.rand(3, 18, 26)]
    found = list(pair_features(network, images))
    with torch.no_grad():
        plain = [torch.cat([network(image[None]), network(image.flip(-1)[None])]) for image in images]
    assert [f.shape for f in found] == [p.shape for p in plain]
    for ours, expected in zip(found, plain, strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)
        assert not ours.requires_grad


def test_pairs_without_mirror_have_one_member_and_bfloat16_is_close() -> None:
    network, image = small_network(), torch.rand(3, 9, 13)
    (single,) = pair_features(network, [image], mirror=False)
    (rough,) = pair_features(network, [image], mirror=False, bfloat16=True)
    assert single.shape[0] == 1
    assert rough.dtype == torch.bfloat16
    torch.testing.assert_close(rough.float(), single, atol=0.02, rtol=0.02)
    (maps,) = merge_scales([rough], [HEAD], ALL, (4, 4))
    assert maps.dtype == torch.float32


def test_raw_scores_are_the_mean_of_the_scales_as_it_is() -> None:
    features = random_features((4, 5), (2, 3))
    (raw,) = mean_of_scales(features, [lambda given, classes: given[0, :3]], ALL, (8, 10))
    resized = [nn.functional.interpolate(f[:1, :3], (8, 10), mode="bilinear")[0] for f in features]
    torch.testing.assert_close(raw, (resized[0] + resized[1]) / 2)
    assert raw.min() < 0
