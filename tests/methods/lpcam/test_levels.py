"""LPCAM on the levels of a network that joins some: in a run, beside LPCAM on the joined features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch.nn.functional import normalize

from tag2mask.api import run
from tag2mask.backbones.files import WEIGHTS, load_network
from tag2mask.config.recipe import load_recipe
from tag2mask.core.errors import ConfigError
from tag2mask.core.resize import bilinear
from tag2mask.inference.maps_file import stride4
from tag2mask.inference.runner import image_tensor
from tag2mask.methods.artefact import Artefact
from tag2mask.methods.lpcam.prototypes_file import load_prototypes
from tag2mask.methods.lpcam.stage import PROTOTYPES
from tag2mask.pipeline.plan import make_plan
from tests.helpers.refused import refused

SMALL = {"scales": [1.0], "mirror": False, "raw": True}
READ = {"classifier": "classifier", "maps": "cam"}


def recipe(folder: Path, backbone: dict[str, Any]) -> Path:
    """One classifier, its CAM, and LPCAM of its levels and of its last features."""
    stages: dict[str, Any] = {
        "classifier": {
            "kind": "classifier", "backbone": backbone, "pooling": "top-k",
            "train": {"epochs": 2, "batch_size": 2, "crop": 64, "long_side": [64, 64]},
        },
        "cam": {"kind": "cam", "reads": {"classifier": "classifier"}, **SMALL},
    }  # fmt: skip
    for features in ("levels", "last"):
        stages[f"by-{features}"] = {
            "kind": "prototypes", "reads": READ, "n_prototypes": 3, "features": features, "probability": "sigmoid",
        }  # fmt: skip
        reads = {"classifier": "classifier", "prototypes": f"by-{features}"}
        stages[features] = {"kind": "lpcam", "reads": reads, **SMALL}
    path = folder / "own.yaml"
    path.write_text(
        yaml.safe_dump({"name": "own", "data": {"kind": "parts", "images": 6, "size": 64}, "stages": stages})
    )
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artefact]:
    folder = tmp_path_factory.mktemp("levels")
    path = recipe(folder, {"levels": [4, 8, 16], "join_channels": 16, "weights": "none"})
    result = run(str(path), "engine.device=cpu", "engine.workers=0", out=folder / "run")
    assert {done.stage.name: done.manifest.shared_with for done in result.stages}["levels"] == ()
    return {done.stage.name: done.artefact for done in result.stages}


@torch.no_grad()
def test_maps_are_mean_similarities_of_the_levels_to_prototypes(made: dict[str, Artefact]) -> None:
    """Eq. 6 written out for each cell, prototype by prototype."""
    from tag2mask.data.registry import load_dataset

    net, classes = load_network(made["classifier"].path / WEIGHTS)
    net.eval()
    known = load_prototypes(made["by-levels"].path / PROTOTYPES)
    dataset = load_dataset("parts", None, "train", images=6, size=64)
    compared = 0
    for sample in dataset.samples:
        image = dataset.image(sample)
        size = (image.height, image.width)
        (found,), _ = net.levels(image_tensor(image, size, net.mean, net.std)[None])
        units = normalize(found, dim=0)
        maps = made["levels"].maps(dataset, sample, "raw")
        for place, column in enumerate(sample.tags):
            if not len(known.foreground[column]):
                assert (maps.maps[place] == 0.5).all()
                continue
            means = []
            for prototypes in (known.foreground[column], known.context[column]):
                each = [(units * normalize(one, dim=0)[:, None, None]).sum(0) for one in prototypes.float()]
                means.append(torch.stack(each).mean(0) if each else torch.zeros_like(units[0]))
            whole = bilinear((1 + means[0] - means[1])[None] / 2, *stride4(*size))[0]
            # What is stored is halved and in 127 steps: the mean must be right, and no cell far off.
            assert float((maps.maps[place] - whole).abs().mean()) < 0.02
            compared += 1
    assert compared > 3
    assert known.foreground[0].shape[1] > 16, "levels have more channels than what they are joined to"
    assert len(classes) == len(dataset.classes)


def test_the_two_ways_differ_and_share_no_pass(made: dict[str, Artefact]) -> None:
    joined = load_prototypes(made["by-last"].path / PROTOTYPES)
    assert joined.foreground[0].shape[1] == 16
    assert made["levels"].key != made["last"].key


def test_levels_of_a_network_that_joins_none_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    path = recipe(tmp_path, {"weights": "none"})
    with refused(ConfigError, "features = levels", "joins none", "classifier.backbone.levels", "features=last"):
        make_plan(load_recipe(str(path)))
