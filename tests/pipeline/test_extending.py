"""Other packages add methods and readers: by an entry point, seen by the command line, or by registering a module."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import yaml

from tag2mask.api import run
from tag2mask.config.plugins import plugins
from tag2mask.core.errors import ConfigError
from tag2mask.core.palette import read_labels
from tag2mask.data.registry import READERS, readers, register_reader
from tag2mask.evaluation.measures.trivial import TRIVIAL
from tag2mask.evaluation.result_tables import read_metrics
from tag2mask.methods.registry import METHODS, register_method, stage_kind, stage_kinds
from tests.helpers.refused import refused
from tests.helpers.tiny import TINY_NETWORK, launch

READER = """
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

SHARED = """
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

OWN = """
from tag2mask.config.settings import Settings
from tag2mask.methods.stage_kinds import ImageStage, Makes, TrainingStage

class ColourSettings(Settings):
    steps: int = 60

class PaintSettings(Settings):
    least: float = 0.5

KINDS = (
    TrainingStage(
        name="colour-net", settings=ColourSettings, runner="colour.stages:train", supervision=frozenset({"tags"})
    ),
    ImageStage(
        name="colour-masks", settings=PaintSettings, makes=Makes.MASKS, reads={"net": Makes.WEIGHTS},
        runner="colour.stages:program",
    ),
)
"""

STAGES = """
import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tag2mask.methods.context import ImageProgram

class ColourNet(torch.nn.Module):
    '''A 1 x 1 convolution of colours and places, whose maximum over the image says which tags there are.'''

    def __init__(self, n_classes):
        super().__init__()
        self.score = torch.nn.Conv2d(5, n_classes, 1)

    def forward(self, image):
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255
        rows, columns = torch.meshgrid(
            torch.linspace(-1, 1, pixels.shape[2]), torch.linspace(-1, 1, pixels.shape[3]), indexing="ij"
        )
        return self.score(torch.cat([pixels, rows[None, None], columns[None, None]], 1))

def train(context):
    torch.manual_seed(context.seed)
    dataset = context.dataset
    net = ColourNet(len(dataset.classes))
    optimiser = torch.optim.Adam(net.parameters(), 0.1)
    for step in range(context.settings.steps):
        sample = dataset.samples[step % len(dataset)]
        wanted = torch.tensor([float(c in sample.tags) for c in range(len(dataset.classes))])
        scores = net(dataset.image(sample)).amax((2, 3))[0]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(scores, wanted)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    save_file(net.state_dict(), context.out / "colour.safetensors")

def program(context):
    dataset = context.dataset
    net = ColourNet(len(dataset.classes))
    net.load_state_dict(load_file(context.reads["net"].path / "colour.safetensors"))

    def prepare(sample):
        return dataset.image(sample), sample.tags

    @torch.no_grad()
    def compute(inputs):
        return [one(*each) for each in inputs]

    def one(image, tags):
        (tag,) = tags
        found = net(image)[0, tag].sigmoid().numpy() > context.settings.least
        return np.where(found, tag + 1, 0).astype(np.uint8)

    return ImageProgram(prepare, compute)
"""


def lay(site: Path, package: str, modules: dict[str, str], entries: dict[str, dict[str, str]]) -> None:
    """A package as an installer lays it on the path: its modules, and its dist-info."""
    for name, code in modules.items():
        path = site / f"{name.replace('.', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)
    info = site / f"{package.replace('-', '_')}-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n")
    lines = [[f"[tag2mask.{group}]", *(f"{n} = {m}" for n, m in names.items())] for group, names in entries.items()]
    (info / "entry_points.txt").write_text("\n".join(line for group in lines for line in group) + "\n")


def lay_colour(site: Path) -> None:
    modules = {"colour.__init__": "", "colour.kinds": OWN, "colour.stages": STAGES, "colour.stripes": READER}
    entries = {"methods": {"colour": "colour.kinds"}, "readers": {"stripes": "colour.stripes"}}
    lay(site, "tag2mask-colour", modules, entries)


RECIPE = {
    "name": "painted",
    "data": {"kind": "stripes"},
    "engine": {"device": "cpu", "threads": 1},
    "stages": {
        "net": {"kind": "colour-net"},
        "painted": {"kind": "colour-masks", "reads": {"net": "net"}},
        "score": {"kind": "masks", "reads": {"masks": "painted"}},
    },
}


def command(site: Path, *words: str) -> tuple[str, str]:
    """What the command line prints and logs in a new process that finds packages in ``site``."""
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    done = launch(["env", f"PYTHONPATH={path}", sys.executable, "-m", "tag2mask", *words], cwd=site)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_a_package_brings_a_method_and_a_reader_to_the_command_line(tmp_path: Path) -> None:
    lay_colour(tmp_path)
    broken = {"broken_tag2mask": "import no_such_library"}
    entries = {"methods": {"broken": "broken_tag2mask"}, "readers": {"half": "tag2mask.core.errors"}}
    lay(tmp_path, "tag2mask-broken", broken, entries)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    out, log = command(tmp_path, "run", "recipe.yaml", "--out", "runs/painted")
    assert "miou" in out.lower()
    assert all(word in log for word in ("package 'tag2mask-broken' 1.2", "broken_tag2mask", "no_such_library"))
    found = tmp_path / "runs" / "painted"
    rows = {r.metric: r.value for r in read_metrics(found / "metrics.jsonl") if r.stage not in TRIVIAL}
    assert (rows["miou"] or 0) > 45, "the network has learned what and where the classes are"
    assert set(np.unique(read_labels(found / "painted" / "masks" / "train-1.png"))) == {0, 2}
    stages, log = command(tmp_path, "ls", "stages")
    assert "  colour-net           makes weights\n  colour-masks         makes masks, reads net\n" in stages
    listed, log = command(tmp_path, "ls", "readers")
    assert [line.split()[0] for line in listed.splitlines()][1:] == ["voc", "coco", "folder", "parts", "stripes"]
    assert all(word in log for word in ("package 'tag2mask-broken' 1.2", "half", "SETTINGS"))
    looked, _ = command(tmp_path, "doctor", "stripes")
    assert looked.startswith("data: stripes\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path of this process; what its packages add is forgotten afterwards."""
    monkeypatch.setattr("tag2mask.data.registry.READERS", dict(READERS))
    monkeypatch.setattr("tag2mask.methods.registry.METHODS", list(METHODS))
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    plugins.cache_clear()
    yield tmp_path
    plugins.cache_clear()
    for name in set(sys.modules) - before:
        if (file := getattr(sys.modules[name], "__file__", None)) and file.startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("KINDS = 3", ["KINDS = 3", "StageKind"]),
        ("KINDS = ('cam', 'irn')", ["'cam'", "StageKind"]),
        ("from tag2mask.methods.irn.kinds import KINDS; KINDS = KINDS * 2", ["two kinds", "'irn'"]),
        ("SETTINGS = open_split = 4", ["KINDS = None", "SETTINGS = 4", "DataSettings"]),
        ("import sys; sys.exit(3)", ["SystemExit", "3"]),
        ("def __getattr__(name): raise ValueError('odd ' + name)", ["odd KINDS", "odd SETTINGS"]),
    ],
)
def test_what_is_no_method_and_no_reader_is_named_and_left_out(
    site: Path, caplog: pytest.LogCaptureFixture, code: str, words: list[str]
) -> None:
    lay(site, "tag2mask-odd", {"odd": code}, {"methods": {"odd": "odd"}, "readers": {"odd": "odd", "lost": "!!"}})
    lay(site, "tag2mask-fine", {"fine": SHARED}, {"methods": {"fine": "fine"}})
    assert {"cam", "strength"} <= set(stage_kinds())
    assert set(readers()) == set(READERS)
    assert [word for word in ["'tag2mask-odd' 1.2", "!!", *words] if word not in caplog.text] == []


def test_a_package_without_metadata_is_named_by_its_module(site: Path, caplog: pytest.LogCaptureFixture) -> None:
    lay(site, "tag2mask-bare", {"bare": SHARED}, {"methods": {"bare": "bare"}})
    lay(site, "tag2mask-odd", {"odd": ""}, {"methods": {"odd": "odd"}})
    for path in site.glob("*.dist-info/METADATA"):
        path.unlink()
    assert "strength" in stage_kinds()
    assert "the package of odd: its entry point odd = odd" in caplog.text


def test_two_packages_with_one_name_are_refused_with_both(site: Path) -> None:
    lay(site, "tag2mask-one", {"one_kinds": SHARED, "one_reader": READER}, {"methods": {"a": "one_kinds"}})
    assert stage_kind("strength").runner == "one_kinds:program"
    two = SHARED.replace("strength", "cam")
    lay(site, "tag2mask-two", {"two_kinds": SHARED, "two_cam": two}, {"methods": {"a": "two_kinds"}})
    plugins.cache_clear()
    with pytest.raises(ConfigError) as caught:
        stage_kinds()
    assert all(w in str(caught.value) for w in ("'strength'", "'tag2mask-one' 1.2", "'tag2mask-two' 1.2", "uninstall"))
    lay(site, "tag2mask-three", {}, {"readers": {"voc": "one_reader"}})
    plugins.cache_clear()
    with pytest.raises(ConfigError) as caught:
        readers()
    assert all(w in str(caught.value) for w in ("'voc'", "tag2mask.data.readers.voc", "'tag2mask-three' 1.2"))


def test_a_registered_method_and_reader_run_beside_the_others(site: Path) -> None:
    (site / "stripes_reader.py").write_text(READER)
    (site / "strength_method.py").write_text(SHARED)
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
    path = site / "own.yaml"
    path.write_text(yaml.safe_dump(recipe))
    result = run(str(path), *TINY_NETWORK, out=site / "runs" / "own")
    manifests = {s.stage.name: s.manifest for s in result.stages}
    assert manifests["mine"].shared_with == ("cam",), "one forward pass serves both"
    assert manifests["mine"].made == 6
    assert [r.method for r in result.metrics if r.metric == "miou" and r.stage not in TRIVIAL] == ["mine", "mine"]


def test_a_registered_name_that_is_taken_is_refused(site: Path) -> None:
    (site / "stripes_reader.py").write_text(READER)
    (site / "second_cam.py").write_text(SHARED.replace("strength", "cam"))
    for register in (partial(register_reader, "voc", "stripes_reader"), partial(register_method, "second_cam")):
        with pytest.raises(ConfigError) as caught:
            register()
        assert all(word in str(caught.value) for word in ("is of tag2mask.", "Choose another name"))
    assert stage_kind("cam").runner.startswith("tag2mask."), "what was refused is not kept"


def test_a_module_that_offers_neither_is_not_registered(site: Path) -> None:
    with refused(ConfigError, "json.KINDS = None", "StageKind"):
        register_method("json")
    with refused(ConfigError, "json", "SETTINGS = None", "DataSettings"):
        register_reader("json", "json")
    assert "cam" in stage_kinds()
    assert "json" not in readers()


def test_an_unknown_kind_is_refused_with_the_nearest() -> None:
    with refused(ConfigError, "'lpcamm'", "did you mean 'lpcam'"):
        stage_kind("lpcamm")
