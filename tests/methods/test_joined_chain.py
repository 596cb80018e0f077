"""Joined levels, pooling and sizes of the training through a recipe's stages: classifier, CAM, LPCAM, AMN."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tag2mask.api import run
from tag2mask.backbones.files import WEIGHTS, load_network, trained_side
from tag2mask.backbones.folded import for_inference
from tag2mask.backbones.settings import Pooling
from tag2mask.config.engine import Engine
from tag2mask.data.transforms import scaled
from tag2mask.inference.maps_file import stride4
from tag2mask.inference.multiscale import CAMHead, merge_scales, pair_features
from tag2mask.inference.runner import image_tensor
from tag2mask.inference.settings import MapsSettings
from tag2mask.methods.amn.network import load_amn
from tag2mask.methods.cam.classifier import load_classifier
from tag2mask.methods.lpcam.prototypes_file import load_prototypes
from tag2mask.pipeline.opened_run import OpenedRun
from tests.helpers.tiny import drawn, tiny_overrides

JOINED = ["levels=[4,8,16]", "stride=null", "join_channels=16"]
WORDS = [
    *(f"{stage}.backbone.{word}" for stage in ("classifier", "amn-lpcam") for word in JOINED),
    "classifier.pooling={kind: top-k, share: 0.2}",
    "classifier.train.min_steps=7",
    "cam.relative_to=training",
    "lpcam.relative_to=training",
    "data.min_side=96",
]


RECIPE = "light"


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> OpenedRun:
    tmp, only = tmp_path_factory.mktemp("joined"), ["average-precision", "amn-lpcam-maps"]
    made = run(RECIPE, *tiny_overrides(RECIPE, drawn(tmp, RECIPE)), *WORDS, out=tmp / "run", only=only)
    return OpenedRun(made.path)


def test_every_stage_works_on_the_joined_features(opened: OpenedRun) -> None:
    folder = opened.artefact("classifier").path
    net, _ = load_network(folder / WEIGHTS)
    assert (net.stride, net.class_weights().shape[1], net.pooling) == (8, 16, Pooling(kind="top-k", share=0.2))
    prototypes = load_prototypes(opened.artefact("prototypes").path / "prototypes.safetensors")
    assert {vectors.shape[1] for vectors in prototypes.foreground.values()} == {16}
    amn, _ = load_amn(opened.artefact("amn-lpcam").path / WEIGHTS)
    assert amn.grid(64, 96) == (8, 12)
    for stage in ("cam", "lpcam", "amn-lpcam-maps"):
        dataset = opened.dataset(stage)
        for sample in dataset.samples:
            found, image = opened.artefact(stage).maps(dataset, sample), dataset.image(sample)
            assert max(image.size) == 96
            assert found.maps.shape == (len(sample.tags), -(-image.height // 4), -(-image.width // 4))
        assert any(float(opened.artefact(stage).maps(dataset, s).maps.std()) > 0 for s in dataset.samples if s.tags)


@torch.inference_mode()
def test_probabilities_are_those_of_the_pooled_class_map(opened: OpenedRun) -> None:
    classifier = load_classifier(opened.artefact("classifier").path, Engine(device="cpu"))
    dataset = opened.dataset("cam")
    image = dataset.image(dataset.samples[0])
    view = classifier.tensor(image, classifier.size(image))
    features = classifier.net.features(view[None])
    cells = torch.einsum("cd,ndhw->nchw", classifier.net.class_weights(), features).flatten(2)
    cells = cells.sort(2, descending=True).values + classifier.net.class_bias()[:, None]
    expected = cells[:, :, : max(1, round(0.2 * cells.shape[2]))].mean(2).sigmoid()
    assert np.allclose(classifier.probabilities([view]), expected.numpy(), atol=1e-5)


@torch.no_grad()
def test_maps_were_made_at_the_size_of_the_training(opened: OpenedRun) -> None:
    stage = opened.stages["cam"]
    dataset = opened.dataset("cam")
    assert isinstance(stage.settings, MapsSettings)
    assert stage.settings.relative_to == "training"
    side = trained_side(opened.artefact("classifier").path)
    assert side == 52, "the middle of 40 and 64"
    net, _ = load_network(opened.artefact("classifier").path / WEIGHTS)
    net = for_inference(net, torch.device("cpu"))
    sample = next(s for s in dataset.samples if s.tags)
    image = dataset.image(sample)
    size = (image.height, image.width)
    base = (round(size[0] * side / max(size)), round(size[1] * side / max(size)))
    views = [image_tensor(image, scaled(*base, s), net.mean, net.std) for s in (1.0, 0.5)]
    (expected,) = merge_scales(
        pair_features(net.features, views), [CAMHead(net.class_weights())], torch.tensor(sample.tags), stride4(*size)
    )
    found = opened.artefact("cam").maps(dataset, sample).maps
    assert float((found - expected).abs().max()) < 2e-3
