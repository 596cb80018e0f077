"""The smallest images: one cell at the coarsest level, one value a norm, sides below what a network takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tag2mask.backbones.files import WEIGHTS
from tag2mask.config.settings import validate
from tag2mask.core.types import Sample
from tag2mask.data.base import Labels
from tag2mask.segmentation.networks.base import SparingGroupNorm
from tag2mask.segmentation.networks.factory import build_segmenter, load_segmenter
from tag2mask.segmentation.settings import NETWORK_KINDS, SegmenterSettings
from tag2mask.segmentation.training import train_segmenter
from tests.segmentation.segment_drawn import build, network
from tests.segmentation.toy_net import predict_labels
from tests.training.toy import Drawn, engine

NARROW: dict[str, Any] = {"decoder": {"decoder_segmentation_channels": 32}}
"""One channel in each of the library's 32 groups."""
CASES: list[tuple[str, dict[str, Any]]] = [
    *((kind, {}) for kind in NETWORK_KINDS if kind != "dpt"),
    ("dpt", {"decoder": {"decoder_readout": "ignore"}}),
    ("fpn", NARROW),
    ("segformer", NARROW),
    ("unet", {"encoder": "test_convnext"}),
    ("deeplabv2", {"encoder": "test_convnext"}),
]


@pytest.mark.parametrize(("kind", "values"), CASES, ids=str)
def test_every_network_trains_on_and_segments_one_image_of_a_cell(kind: str, values: dict[str, Any]) -> None:
    net = build(kind, **values)
    for size in ((32, 32), (8, 20)):
        images = torch.randn(1, 3, *size)
        outputs = net.train().train_outputs(images)
        assert [tuple(output.shape[-2:]) for _, output in outputs] == net.grids(*size)
        torch.autograd.backward(outputs[0][1].sum())
        with torch.no_grad():
            found = net.eval()(images)
        assert torch.isfinite(found).all()
        assert found.shape[:2] == (1, 4)
        assert kind == "deeplabv2" or found.shape[2:] == size


def test_a_narrow_decoder_is_trained_on_photos_of_32_pixels_and_segments_them(tmp_path: Path) -> None:
    photos = Drawn([(0,), (1,), (0, 1), (2,)], size=(32, 32))

    def masks(sample: Sample) -> Labels:
        labels = np.zeros((32, 32), np.uint8)
        labels[:16] = sample.tags[0] + 1
        return labels

    schedule = {"epochs": 1, "batch_size": 4, "accumulate": 4, "crop": 32, "rescale": (1, 1)}
    values = {"network": network("fpn", **NARROW).model_dump(), "train": schedule}
    settings = validate(SegmenterSettings, values, "segmenter")
    train_segmenter(photos, masks, settings, out=tmp_path, seed=0, engine=engine())
    net, _ = load_segmenter(tmp_path / WEIGHTS)
    photo = np.array(photos.image(photos.samples[0]))
    assert predict_labels(net, photo, net.mean, net.std, (1.0, 0.5), mirror=True).shape == (32, 32)


def test_a_single_value_is_its_own_mean_in_a_group_norm_and_else_nothing_changes() -> None:
    torch.manual_seed(0)
    plain, sparing = nn.GroupNorm(4, 4), SparingGroupNorm(4, 4)
    nn.init.normal_(plain.weight)
    nn.init.normal_(plain.bias)
    sparing.load_state_dict(plain.state_dict())
    torch.testing.assert_close(sparing(torch.randn(1, 4, 1, 1))[0, :, 0, 0], plain.bias)
    several = torch.randn(2, 4, 3, 5)
    assert torch.equal(sparing(several), plain(several))
    assert any(isinstance(m, SparingGroupNorm) for m in build("fpn", **NARROW).modules())


def test_timms_batch_norms_learn_from_several_values_and_rest_at_one() -> None:
    net = build("fpn").train()
    deep = [
        (n, m)
        for n, m in net.encoder.named_modules()
        if isinstance(m, nn.BatchNorm2d) and type(m) is not nn.BatchNorm2d
    ]
    assert deep
    last = deep[-1][1]
    for size, moves in (((32, 32), False), ((64, 64), True)):
        assert last.running_mean is not None
        before = last.running_mean.clone()
        net.train_outputs(torch.randn(1, 3, *size))
        assert torch.equal(before, last.running_mean) != moves
        assert all(m.training for _, m in deep), "a pass leaves the mode as it was"


def test_pan_fills_small_photos_up_and_leaves_larger_ones_alone() -> None:
    net = build("pan").eval()
    small = torch.randn(1, 3, 40, 70)
    filled = torch.zeros(1, 3, 128, 128)
    filled[..., :40, :70] = small
    with torch.no_grad():
        assert torch.equal(net(small), net.logits(filled)[..., :40, :70])
        large = torch.randn(1, 3, 160, 192)
        assert torch.equal(net(large), net.logits(large))


def test_networks_of_several_values_are_what_they_were() -> None:
    """Weights and logits of larger images: no key is new, no number other."""
    torch.manual_seed(0)
    net = build_segmenter(network("fpn"), 3).eval()
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        assert torch.equal(net(images), net.net(images))  # type: ignore[operator]  # the library's own network
    assert not any("rests" in key for key in net.state_dict())
