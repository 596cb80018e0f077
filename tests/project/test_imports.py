"""Imports go one way, maths modules import no machinery, and starting loads nothing heavy."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.project.source import PACKAGE, Module, imports, modules, read

LAYERS = (
    {"core"},
    {"config"},
    {"data"},
    {"backbones", "evaluation", "report", "export"},
    {"inference", "training"},
    {"methods", "refine", "segmentation"},
    {"pipeline"},
    {"experiments"},
    {"cli"},
)
"""From the bottom: a part imports itself and parts of lower layers."""

BELOW = {name: set().union(*LAYERS[:level]) | {name} for level, layer in enumerate(LAYERS) for name in layer}
ALLOWED = {
    **BELOW,
    "methods": BELOW["methods"] | {"refine"},  # the boundary network walks with refine's random walk
    "segmentation": BELOW["segmentation"] | {"refine", "methods"},  # dense CRF of predictions; AMN's pixel loss, stages
}
PURE = re.compile(r"(methods\.\w+\.(maps|kmeans|select|collect)|inference\.multiscale|evaluation)\b(\.\w+)*")
PURE_LIBRARIES = {"torch", "numpy", "torchmetrics"}
HEAVY = {"torch", "torchvision", "lightning", "timm", "torchmetrics", "matplotlib", "scipy", "sklearn"}
"""Libraries whose import alone takes a good part of a second or more."""


def part(name: str) -> str:
    """The part of the package that a dotted name is in: ``tag2mask.core.types`` -> ``core``."""
    return [*name.split("."), ""][1]


def wrong_way(module: Module) -> list[str]:
    """Imports of the package's own parts that the layers do not allow."""
    allowed = ALLOWED.get(part(module.name))
    if allowed is None:  # the root: tag2mask itself and its __main__
        return []
    own = ((line, name) for line, name in imports(module) if name.split(".")[0] == "tag2mask")
    return [
        f"{module.name}:{line} imports {name}"
        for line, name in own
        if part(name) not in allowed and name != "tag2mask.__version__"
    ]


def impure(module: Module) -> list[str]:
    """Imports of a maths module beyond torch, numpy, the standard library (no processes), data and other maths."""
    found = []
    for line, name in imports(module):
        top = name.split(".")[0]
        maths = PURE.match(name.removeprefix("tag2mask."))
        own = top == "tag2mask" and (maths or part(name) in {"core", "config", "data", part(module.name)})
        library = top in PURE_LIBRARIES or (
            top in sys.stdlib_module_names and top not in {"os", "shutil", "subprocess"}
        )
        if not (own or library):
            found.append(f"{module.name}:{line} imports {name}")
    return found


def toy(tmp_path: Path, name: str, code: str) -> Module:
    """A module of that dotted name with that code."""
    path = tmp_path / (name.replace(".", "/") + ".py")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(code)
    return read(path, tmp_path)


def test_every_folder_has_a_layer() -> None:
    folders = {p.name for p in PACKAGE.iterdir() if p.is_dir() and any(p.glob("**/*.py"))}
    assert folders - {"recipes"} <= set(ALLOWED), "put the new folder into LAYERS"


def test_imports_go_one_way() -> None:
    assert [line for module in modules() for line in wrong_way(module)] == []


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("tag2mask.core.x", "from tag2mask.data.base import Dataset"),
        ("tag2mask.core.x", "from tag2mask import data"),
        ("tag2mask.core.x", "def f():\n    import tag2mask.pipeline.api"),
        ("tag2mask.core.x", "from ..methods import cam"),
        ("tag2mask.training.x", "from tag2mask.inference.runner import run"),
        ("tag2mask.evaluation.x", "from tag2mask.backbones import create"),
        ("tag2mask.pipeline.x", "from tag2mask.cli.app import main"),
    ],
)
def test_an_import_the_wrong_way_is_found(tmp_path: Path, name: str, code: str) -> None:
    assert len(wrong_way(toy(tmp_path, name, code))) == 1


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("tag2mask.methods.irn.x", "from tag2mask.refine.walk import walk\nfrom .maps import cut"),
        ("tag2mask.cli.x", "from tag2mask.pipeline.api import run\nfrom tag2mask import __version__"),
        ("tag2mask.data.x", "import torch\nfrom tag2mask.core import errors"),
    ],
)
def test_an_import_the_right_way_is_not(tmp_path: Path, name: str, code: str) -> None:
    assert wrong_way(toy(tmp_path, name, code)) == []


def test_maths_modules_import_no_machinery() -> None:
    maths = [m for m in modules() if PURE.fullmatch(m.name.removeprefix("tag2mask."))]
    assert {m.name for m in maths} >= {"tag2mask.methods.cam.maps", "tag2mask.methods.lpcam.maps"}
    settings = {m.name for m in maths if m.name.endswith(".settings")}
    assert [line for module in maths if module.name not in settings for line in impure(module)] == []


@pytest.mark.parametrize(
    "code", ["import lightning", "from tag2mask.training import losses", "import os", "import timm"]
)
def test_machinery_in_a_maths_module_is_found(tmp_path: Path, code: str) -> None:
    assert len(impure(toy(tmp_path, "tag2mask.methods.cam.maps", code))) == 1


def loaded_by(code: str) -> set[str]:
    """Top-level modules that a fresh process has loaded after running ``code``."""
    tail = "\nimport sys; print('\\n'.join(sorted({m.split('.')[0] for m in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code + tail], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_loads_almost_nothing() -> None:
    assert not loaded_by("import tag2mask; tag2mask.__version__; dir(tag2mask)") & {*HEAVY, "numpy", "PIL", "pydantic"}


def test_settings_and_recipes_load_no_torch() -> None:
    names = [m.name for m in modules() if part(m.name) == "config" or m.name.endswith(".settings")]
    assert len(names) > 3
    assert not loaded_by("; ".join(f"import {name}" for name in names)) & HEAVY


def test_help_loads_no_torch() -> None:
    code = "import sys; sys.argv = ['tag2mask', '--help']\nfrom tag2mask.cli.app import main\nimport io, contextlib\n"
    code += "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n    main()\n"
    assert not loaded_by(code) & HEAVY
