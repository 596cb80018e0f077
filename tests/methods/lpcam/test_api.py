"""LPCAM's maps and public class: a float64 loop over prototypes, invariants, the paper's Figure 3."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tag2mask.core.errors import ConfigError, DataError, StageError, WeightsError
from tag2mask.core.types import Prototypes, PrototypeSet
from tag2mask.inference.multiscale import CAMHead, merge_scales, normalise
from tag2mask.methods.lpcam.api import LPCAM
from tag2mask.methods.lpcam.maps import LPCAMHead, class_vector, similarity
from tests.helpers.refused import refused

GENERATOR = torch.Generator().manual_seed(11)
FEATURES = torch.randn(2, 20, 5, 6, generator=GENERATOR)
ALL = torch.arange(3)


def centres(*values: Tensor) -> dict[int, PrototypeSet]:
    """A set for each class, everything kept."""
    return {
        c: PrototypeSet(
            v, torch.ones(len(v)), torch.ones(len(v), dtype=torch.int64), torch.ones(len(v)).bool(), ("",) * len(v)
        )
        for c, v in enumerate(values)
    }


PROTOTYPES = Prototypes(
    centres(*(torch.randn(k, 20, generator=GENERATOR) * 9 for k in (12, 3, 1))),
    centres(*(torch.randn(k, 20, generator=GENERATOR) * 9 for k in (12, 5, 0))),
)


def slow_map(features: Tensor, column: int, foreground_only: bool = False) -> Tensor:
    """Eqs. 5 and 6 prototype by prototype in float64, image and flipped-back mirror added before."""
    f = (features[0] + features[1].flip(-1) if len(features) == 2 else features[0]).double()
    foreground = [F.cosine_similarity(f, p.double()[:, None, None], dim=0) for p in PROTOTYPES.foreground[column]]
    context = [F.cosine_similarity(f, p.double()[:, None, None], dim=0) for p in PROTOTYPES.context[column]]
    activation = torch.stack(foreground).mean(0)
    if context and not foreground_only:
        activation = activation - torch.stack(context).mean(0)
    return activation.clamp_min(0)


@pytest.mark.parametrize("foreground_only", [False, True])
@pytest.mark.parametrize("batch", [1, 2])
def test_equals_the_loop_over_prototypes(foreground_only: bool, batch: int) -> None:
    ours = LPCAMHead(PROTOTYPES, 3, foreground_only)(FEATURES[:batch], ALL)
    for c in range(3):
        torch.testing.assert_close(ours[c].double(), slow_map(FEATURES[:batch], c, foreground_only), atol=1e-6, rtol=0)
    assert ours.amax((1, 2)).min() > 0.05


def test_multi_scale_equals_the_loop() -> None:
    scales = [FEATURES, torch.randn(2, 20, 3, 3, generator=torch.Generator().manual_seed(5))]
    (ours,) = merge_scales(scales, [LPCAMHead(PROTOTYPES, 3)], ALL, (10, 12))
    for c in range(3):
        slow = [slow_map(f, c)[None, None] for f in scales]
        mean = torch.cat([F.interpolate(m, (10, 12), mode="bilinear") for m in slow]).mean(0)[0]
        torch.testing.assert_close(ours[c].double(), mean / mean.max(), atol=1e-5, rtol=0)


def test_channels_last_and_half_features_give_the_same_maps() -> None:
    head = LPCAMHead(PROTOTYPES, 3)
    expected = head(FEATURES, ALL)
    torch.testing.assert_close(head(FEATURES.contiguous(memory_format=torch.channels_last), ALL), expected)
    torch.testing.assert_close(head(FEATURES.bfloat16(), ALL), expected, atol=0.02, rtol=0)
    assert head(FEATURES.bfloat16(), ALL).dtype == torch.float32


def test_dropped_prototypes_take_no_part() -> None:
    full = PROTOTYPES.all_foreground[0]
    kept = torch.arange(12) < 4
    fewer = PrototypeSet(full.centres, full.scores, full.sizes, kept, full.reasons)
    ours = LPCAMHead(Prototypes({0: fewer}, {}), 1)(FEATURES, ALL[:1])
    expected = LPCAMHead(Prototypes(centres(full.centres[:4]), {}), 1)(FEATURES, ALL[:1])
    assert torch.equal(ours, expected)


def test_scaling_the_features_changes_nothing() -> None:
    head = LPCAMHead(PROTOTYPES, 3)
    for factor in (1e-6, 1e6):
        torch.testing.assert_close(head(FEATURES * factor, ALL), head(FEATURES, ALL), atol=1e-5, rtol=0)
    position = torch.rand(1, 1, 5, 6, generator=torch.Generator().manual_seed(2)) + 0.1
    torch.testing.assert_close(head((FEATURES * position)[:1], ALL), head(FEATURES[:1], ALL), atol=1e-6, rtol=0)


def test_swapping_image_and_mirror_mirrors_the_maps() -> None:
    head = LPCAMHead(PROTOTYPES, 3)
    torch.testing.assert_close(head(FEATURES.flip(0), ALL), head(FEATURES, ALL).flip(-1))


def test_permuting_classes_permutes_maps() -> None:
    head = LPCAMHead(PROTOTYPES, 3)
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(head(FEATURES, order), head(FEATURES, ALL)[order])


def test_repeating_every_prototype_changes_nothing() -> None:
    twice = Prototypes(
        centres(*(v.repeat(2, 1) for v in PROTOTYPES.foreground.values())),
        centres(*(v.repeat(2, 1) for v in PROTOTYPES.context.values())),
    )
    torch.testing.assert_close(LPCAMHead(twice, 3)(FEATURES, ALL), LPCAMHead(PROTOTYPES, 3)(FEATURES, ALL))


def test_zero_features_give_zero_and_no_nan() -> None:
    holed = FEATURES.clone()
    holed[:, :, 2] = 0
    maps = similarity(LPCAMHead(PROTOTYPES, 3).weights, holed[0])
    assert (maps[:, 2] == 0).all()
    assert torch.isfinite(maps).all()
    (merged,) = merge_scales([torch.zeros(2, 20, 4, 4)], [LPCAMHead(PROTOTYPES, 3)], ALL, (8, 8))
    assert merged.abs().sum() == 0


def test_no_context_is_foreground_alone_and_no_foreground_is_zero() -> None:
    vectors = torch.tensor([[3.0, 0.0], [0.0, 5.0]])
    assert class_vector(vectors, None).tolist() == [0.5, 0.5]
    assert class_vector(vectors, vectors[:0]).tolist() == [0.5, 0.5]
    assert class_vector(vectors, vectors[:1]).tolist() == [-0.5, 0.5]
    assert class_vector(vectors[:0], vectors).tolist() == [0.0, 0.0]
    sparse = LPCAMHead(Prototypes(centres(vectors), {}), 4)
    assert sparse.weights[1:].abs().sum() == 0


def test_figure_3_of_the_paper() -> None:
    """CAM leaves the tail at 35 / 130 = 0.27 of the head; similarities of 1.0 and 0.9 bring it close to the head.

    The paper's text gives f_GAP = [12, 5, 4], the CAM values 130 and 35 and the resulting maps 1.00 and 0.27, for CAM;
    the features and weights below are chosen to give these.
    """
    head, tail, sky = torch.tensor([30.0, 2, 1]), torch.tensor([3.0, 9, 2]), torch.tensor([3.0, 4, 9])
    features = torch.stack([head, tail, sky], 1)[None, :, None, :]
    assert features.mean((2, 3)).tolist() == [[12, 5, 4]]
    raw = CAMHead(torch.tensor([[4.2, 2.88, -1.76]]))(features, torch.tensor([0]))
    torch.testing.assert_close(raw[0, 0, :2], torch.tensor([130.0, 35.0]))
    cam = normalise(raw)[0, 0]
    assert [round(v, 2) for v in cam[:2].tolist()] == [1.00, 0.27]
    prototypes = Prototypes(centres(torch.stack([head, tail])), centres(sky[None]))
    lpcam = normalise(LPCAMHead(prototypes, 1)(features, torch.tensor([0])))[0, 0]
    cosine = F.cosine_similarity(
        torch.stack([head, tail, sky])[:, None].double(), torch.stack([head, tail, sky]).double(), dim=2
    )
    expected = ((cosine[:, 0] + cosine[:, 1]) / 2 - cosine[:, 2]).clamp_min(0)
    torch.testing.assert_close(lpcam.double(), expected / expected.max(), atol=1e-6, rtol=0)
    assert lpcam[2] == 0
    assert lpcam.max() == 1
    assert normalise(torch.tensor([[[1.2, 1.0]]]))[0, 0, 1] == pytest.approx(0.83, abs=0.005)


def test_prototypes_of_other_classes_or_networks_are_refused() -> None:
    with refused(WeightsError, "columns [0, 1, 2]", "2 classes"):
        LPCAMHead(PROTOTYPES, 2)
    with pytest.raises(WeightsError, match=r"class columns \[\]"):
        LPCAMHead(Prototypes({}, {}), 2)
    with pytest.raises(WeightsError, match="prototypes have 20 channels, the features 7"):
        LPCAMHead(PROTOTYPES, 3)(torch.rand(1, 7, 2, 2), ALL)


class Colours(nn.Module):
    """Features are relu(6 colour contrasts) on a grid; class 0 is red, class 1 green, class 2 blue."""

    def __init__(self) -> None:
        super().__init__()
        self.paint = nn.Sequential(nn.Conv2d(3, 6, 4, 4, bias=False), nn.ReLU())
        mix = torch.tensor([[2.0, -1, -1], [-1, 2, -1], [-1, -1, 2], [1, 1, -2], [-2, 1, 1], [1, 1, 1]])
        self.head = nn.Conv2d(6, 3, 1, bias=False)
        with torch.no_grad():
            next(self.paint.parameters()).copy_(mix[:, :, None, None].expand(6, 3, 4, 4) / 16)
            weights = torch.tensor([[9.0, -4, -4, 0, -4, 0], [-4, 9, -4, 0, 0, 0], [-4, -4, 9, -4, 0, 0]])
            self.head.weight.copy_(weights[:, :, None, None])

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.paint(images).mean((2, 3), keepdim=True))
        return logits.flatten(1)


def scenes(count: int = 12, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Grey images with a square of a class's colour at (8..16, 8..16), one class each."""
    generator = torch.Generator().manual_seed(seed)
    images = 0.3 + 0.05 * torch.rand(count, 3, 24, 24, generator=generator)
    tags = torch.zeros(count, 3)
    for i in range(count):
        images[i, i % 3, 8:16, 8:16] = 1.0
        tags[i, i % 3] = 1
    return images, tags


def batches(count: int = 12) -> Iterator[tuple[Tensor, Tensor]]:
    """A generator: it can be read once."""
    images, tags = scenes(count)
    yield from ((images[i : i + 5], tags[i : i + 5]) for i in range(0, count, 5))


def test_fit_and_call_find_the_squares() -> None:
    lpcam = LPCAM(Colours(), n_prototypes=3, tau=0.2).fit(batches())
    images, tags = scenes(3, seed=9)
    for i, found in enumerate(lpcam(images, tags)):
        assert found.classes == (i,)
        assert found.maps.shape == (1, 6, 6)
        square = torch.zeros(6, 6, dtype=torch.bool)
        square[2:4, 2:4] = True
        assert found.maps[0][square].min() > 0.9
        assert found.maps[0][~square].max() < 0.5
    prototypes = lpcam.prototypes
    assert set(prototypes.foreground) == set(prototypes.context) == {0, 1, 2}
    for c in range(3):
        assert prototypes.foreground[c].shape[1] == 6
        assert int(prototypes.foreground[c][0, :3].argmax()) == c
        sizes = int(prototypes.all_foreground[c].sizes.sum()), int(prototypes.all_context[c].sizes.sum())
        assert sizes == (4 * 4, 4 * 32)


def test_the_maps_are_those_of_the_prototypes() -> None:
    lpcam = LPCAM(Colours(), n_prototypes=3, tau=0.2, scales=(1.0, 2.0), mirror=True).fit(batches())
    images, _ = scenes(2)
    tags = torch.ones(2, 3)
    pyramid = [
        Colours().paint(
            F.interpolate(images[:1], scale_factor=s, mode="bicubic", antialias=True) if s > 1 else images[:1]
        )
        for s in (1, 2)
    ]
    pairs = [torch.cat([f, f]) for f in pyramid]
    for pair in pairs:
        pair[1] = pair[1].flip(-1)  # this network sees a mirrored image as its mirrored features
    (expected,) = merge_scales([p.detach() for p in pairs], [LPCAMHead(lpcam.prototypes, 3)], ALL, (6, 6))
    torch.testing.assert_close(lpcam(images, tags)[0].maps, expected, atol=1e-5, rtol=0)


def test_foreground_only_leaves_the_context_out() -> None:
    with_context = LPCAM(Colours(), n_prototypes=3, tau=0.2).fit(batches())
    without = LPCAM(Colours(), n_prototypes=3, tau=0.2, foreground_only=True).fit(batches())
    images, tags = scenes(3)
    for a, b in zip(with_context(images, tags), without(images, tags), strict=True):
        assert b.maps.mean() > a.maps.mean()


def test_images_per_class_takes_the_first_and_the_same_seed_the_same_prototypes() -> None:
    few = LPCAM(Colours(), n_prototypes=2, images_per_class=2).fit(batches())
    images, tags = scenes(12)
    six = LPCAM(Colours(), n_prototypes=2).fit([(images[:6], tags[:6])])
    for c in range(3):
        assert torch.equal(few.prototypes.all_foreground[c].centres, six.prototypes.all_foreground[c].centres)
        assert int(few.prototypes.all_context[c].sizes.sum() + few.prototypes.all_foreground[c].sizes.sum()) == 72


def test_save_and_load_give_the_same_maps(tmp_path: Path) -> None:
    first = LPCAM(Colours(), n_prototypes=3).fit(batches())
    first.save(tmp_path / "p.safetensors")
    second = LPCAM(Colours()).load(tmp_path / "p.safetensors")
    images, tags = scenes(3)
    for a, b in zip(first(images, tags), second(images, tags), strict=True):
        assert torch.equal(a.maps, b.maps)


def test_one_class_is_scored_by_the_sigmoid(caplog: pytest.LogCaptureFixture) -> None:
    images, tags = scenes(6)
    red = tags[:, 0] == 1
    with caplog.at_level("INFO", logger="tag2mask"):
        lpcam = LPCAM(Colours(), n_prototypes=1).fit([(images[red], tags[red])])
    assert "scored by the sigmoid" in caplog.text
    assert "no image of the class columns [1, 2]" in caplog.text
    one = lpcam.prototypes.all_foreground[0]
    expected = torch.sigmoid(one.centres @ Colours().head.weight.flatten(1)[0])
    torch.testing.assert_close(one.scores, expected)
    assert lpcam(images[1:2], tags[1:2])[0].maps.abs().sum() == 0


def test_fit_leaves_no_file_and_no_hook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    model = Colours()
    with LPCAM(model) as lpcam:
        lpcam.fit(batches())
        images, tags = scenes(3)
        with pytest.raises(DataError, match="NaN"):
            lpcam.fit([(images, tags), (images * torch.nan, tags)])
    assert list(tmp_path.iterdir()) == []
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())


def test_a_failed_fit_keeps_the_old_prototypes() -> None:
    lpcam = LPCAM(Colours(), n_prototypes=2).fit(batches())
    before = lpcam.prototypes
    with refused(DataError, "fit got no image", "a tag"):
        lpcam.fit([(scenes(2)[0], torch.zeros(2, 3))])
    assert lpcam.prototypes is before


def test_calling_before_fit_says_what_to_do() -> None:
    with refused(StageError, "no prototypes yet", "fit(batches) or load(path)"):
        LPCAM(Colours())(*scenes(1))
    with refused(DataError, "fit got no image", "a tag"):
        LPCAM(Colours()).fit([])
    with refused(DataError, "fit expects pairs", "(images, tags)", "got Tensor"):
        LPCAM(Colours()).fit([scenes(1)[0]])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"n_prototypes": 0}, "n_prototypes = 0"),
        ({"images_per_class": 0}, "images_per_class = 0"),
        ({"tau": 1.5}, "tau = 1.5 must lie in [0, 1]"),
        ({"mu_f": -0.1}, "mu_f = -0.1 must lie in [0, 1]"),
        ({"mu_b": 0.05, "mu_b_low": 0.05}, "mu_b_low = 0.05 must be below mu_b = 0.05"),
    ],
)
def test_numbers_out_of_range_are_refused(arguments: dict[str, float], text: str) -> None:
    with refused(ConfigError, text):
        LPCAM(Colours(), **arguments)  # type: ignore[arg-type]


def test_features_that_are_not_finite_are_refused() -> None:
    class Broken(Colours):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images * 1e30)

    with refused(WeightsError, "features or CAM", "NaN, infinite or above 65504"):
        LPCAM(Broken()).fit(batches())
