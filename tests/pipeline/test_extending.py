"""A method is a folder and a line, a data set a module and a line: one of each, registered from temporary modules."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tag2mask.api import run
from tag2mask.core.errors import ConfigError
from tag2mask.data.registry import READERS, register_reader
from tag2mask.methods.registry import METHODS, register_method, stage_kind
from tests.helpers.tiny import TINY_NETWORK

DATA = """
import numpy as np
from PIL import Image
from tag2mask.core.types import Sample
from tag2mask.data.base import Dataset, DataSettings

SETTINGS = DataSettings

class Stripes(Dataset):
    name, classes, has_truth = "stripes", ("left", "right"), True

    def __init__(self, split):
        self.split = split
        self.samples = [Sample(f"{split}-{i}", (i % 2,)) for i in range(6)]

    def image(self, sample):
        pixels = np.full((40, 48, 3), 60, np.uint8)
        pixels[:, slice(0, 20) if sample.tags == (0,) else slice(28, 48)] = (200, 30 * int(sample.id[-1]), 20)
        return Image.fromarray(pixels)

    def truth(self, sample):
        labels = np.zeros((40, 48), np.uint8)
        labels[:, slice(0, 20) if sample.tags == (0,) else slice(28, 48)] = sample.tags[0] + 1
        return labels

    def content_hash(self, sample):
        return sample.id

def open_split(settings, split):
    return Stripes(split)
"""

METHOD = """
import torch
from tag2mask.inference.settings import MapsSettings
from tag2mask.methods.stage_kinds import FeatureMapStage, Makes

def head(features, classes):
    return features[0].norm(dim=0).expand(len(classes), -1, -1)

def program(context):
    from tag2mask.backbones.files import load_network
    from tag2mask.methods.context import MapsProgram
    network, _ = load_network(context.reads["classifier"].path / "weights.safetensors")
    return MapsProgram(network, head)

KINDS = (
    FeatureMapStage(
        name="strength", settings=MapsSettings, reads={"classifier": Makes.WEIGHTS}, runner=f"{__name__}:program"
    ),
)
"""


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "stripes_reader.py").write_text(DATA)
    (tmp_path / "strength_method.py").write_text(METHOD)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    READERS.pop("stripes", None)
    if "strength_method" in METHODS:
        METHODS.remove("strength_method")
    for name in ("stripes_reader", "strength_method"):
        sys.modules.pop(name, None)


@pytest.mark.usefixtures("modules")
def test_a_registered_method_and_reader_run_beside_the_others(tmp_path: Path) -> None:
    register_reader("stripes", "stripes_reader")
    register_method("strength_method")
    recipe = {
        "name": "own",
        "data": {"kind": "stripes"},
        "stages": {
            "classifier": {"kind": "classifier"},
            "cam": {"kind": "cam", "reads": {"classifier": "classifier"}, "scales": [1.0]},
            "mine": {"kind": "strength", "reads": {"classifier": "classifier"}, "scales": [1.0]},
            "mine-seeds": {"kind": "seeds", "reads": {"maps": "mine"}},
        },
    }
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(recipe))
    result = run(str(path), *TINY_NETWORK, out=tmp_path / "runs" / "own")
    manifests = {s.stage.name: s.manifest for s in result.stages}
    assert manifests["mine"].shared_with == ("cam",), "one forward pass serves both"
    assert manifests["mine"].made == 6
    assert [r.method for r in result.metrics if r.metric == "miou"] == ["mine", "mine"]


@pytest.mark.usefixtures("modules")
def test_a_name_that_is_taken_is_refused() -> None:
    with pytest.raises(
        ConfigError, match="data reader 'voc' is tag2mask.data.readers.voc already; choose another name"
    ):
        register_reader("voc", "stripes_reader")


def test_an_unknown_kind_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="unknown stage kind 'lpcamm'; did you mean 'lpcam'"):
        stage_kind("lpcamm")
