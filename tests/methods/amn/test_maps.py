"""AMN's maps from its logits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tag2mask.core.errors import WeightsError
from tag2mask.core.resize import bilinear
from tag2mask.evaluation.thresholds import cut
from tag2mask.methods.amn.maps import class_maps, merged_logits
from tests.helpers.refused import refused

LOGITS = 2 * torch.randn(5, 6, 9, generator=torch.Generator().manual_seed(0))
CLASSES = torch.tensor([0, 2, 3])


def test_scales_and_mirror_are_averaged_as_logits() -> None:
    large, small = torch.randn(2, 5, 6, 9), torch.randn(2, 5, 3, 4)
    found = merged_logits(iter([large, small]), (12, 18))
    singles = [large[0], large[1].flip(-1), small[0], small[1].flip(-1)]
    expected = sum(bilinear(s, 12, 18) for s in singles) / 4
    assert isinstance(expected, torch.Tensor)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(merged_logits([large[:1]], (6, 9)), large[0])


def test_logits_that_are_no_numbers_are_refused() -> None:
    bad = LOGITS.clone()
    bad[1, 2, 3] = float("nan")
    with refused(WeightsError, "AMN's logits", "NaN or infinite", "Train it ag"):
        merged_logits([bad[None]], (6, 9))


def test_minmax_takes_the_softmax_over_all_classes_from_0_to_1() -> None:
    maps = class_maps(LOGITS, CLASSES, "minmax")
    values = LOGITS.double().numpy()
    softmax = np.exp(values) / np.exp(values).sum(0)
    for column, found in zip(CLASSES.tolist(), maps, strict=True):
        own = softmax[column + 1]
        np.testing.assert_allclose(found.numpy(), (own - own.min()) / (own.max() - own.min()), atol=1e-6)
        assert (found.min(), found.max()) == (0, 1)


def test_absent_classes_take_their_share() -> None:
    other = LOGITS.clone()
    other[2, :, 4:] += 5  # class column 1, which is absent
    assert not torch.equal(class_maps(other, CLASSES, "minmax"), class_maps(LOGITS, CLASSES, "minmax"))
    assert torch.equal(class_maps(other, CLASSES, "learned"), class_maps(LOGITS, CLASSES, "learned"))


def test_constant_softmax_gives_zeros() -> None:
    assert not class_maps(torch.zeros(5, 6, 9), CLASSES, "minmax").any()


def test_background_of_the_refined_seeds_keeps_the_softmax() -> None:
    background = torch.rand(6, 9, generator=torch.Generator().manual_seed(1)) < 0.5
    maps = class_maps(LOGITS, CLASSES, "background-prior", background)
    assert torch.equal(maps[:, background], LOGITS.softmax(0)[CLASSES + 1][:, background])
    assert torch.equal(maps[:, ~background], class_maps(LOGITS, CLASSES, "minmax")[:, ~background])
    assert torch.equal(
        class_maps(LOGITS, CLASSES, "background-prior", torch.zeros(6, 9, dtype=torch.bool)),
        class_maps(LOGITS, CLASSES, "minmax"),
    )


def test_learned_maps_cut_at_one_half_are_the_arg_max_over_background_and_present_classes() -> None:
    maps = class_maps(LOGITS, CLASSES, "learned")
    softmax = LOGITS.softmax(0)
    torch.testing.assert_close(maps, softmax[CLASSES + 1] / (softmax[CLASSES + 1] + softmax[:1]))
    shown = torch.tensor([0, *(CLASSES + 1).tolist()])
    expected = shown[LOGITS[shown].argmax(0)].numpy()
    assert np.array_equal(cut(maps.numpy(), CLASSES.tolist(), 0.5), expected)
    assert set(np.unique(expected)) == {0, 1, 3, 4}


@pytest.mark.parametrize("how", ["minmax", "learned"])
def test_no_classes_give_no_maps(how: str) -> None:
    none = torch.zeros(0, dtype=torch.int64)
    assert class_maps(LOGITS, none, how).shape == (0, 6, 9)  # type: ignore[arg-type]  # a plain string


def test_without_a_background_the_present_classes_share_one_probability() -> None:
    maps = class_maps(LOGITS, CLASSES, "learned", competes=False)
    torch.testing.assert_close(maps.sum(0), torch.ones(6, 9))
    values = np.exp(LOGITS.double().numpy()[[1, 3, 4]])
    np.testing.assert_allclose(maps.numpy(), values / values.sum(0), atol=1e-6)
    assert torch.equal(class_maps(LOGITS, torch.tensor([2]), "learned", competes=False), torch.ones(1, 6, 9))
    other = LOGITS.clone()
    other[0] += 9  # the background, which is none
    for how in ("learned", "minmax"):
        found = class_maps(other, CLASSES, how, competes=False)
        torch.testing.assert_close(found, class_maps(LOGITS, CLASSES, how, competes=False))
        assert found.isfinite().all()
