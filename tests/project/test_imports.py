"""Imports go one way, maths modules import no machinery, and starting loads nothing heavy."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.project.source import PACKAGE, Module, imports, modules, read

LAYERS = (
    {"core"},
    {"config"},
    {"data"},
    {"backbones", "evaluation", "report", "export"},
    {"inference", "training", "refine"},
    {"methods", "label_images", "thresholds", "segmentation"},
    {"pipeline"},
    {"analysis"},
    {"run_report"},
    {"api"},
    {"sweep", "compare"},
    {"papers"},
    {"cli"},
)
"""From the bottom: a part imports itself and parts of lower layers."""

BELOW = {name: set().union(*LAYERS[:level]) | {name} for level, layer in enumerate(LAYERS) for name in layer}
ALLOWED = {
    **BELOW,
    "segmentation": BELOW["segmentation"] | {"methods"},  # what a stage is
    "label_images": BELOW["label_images"] | {"methods", "thresholds"},  # what a stage is; the threshold behind maps
    "thresholds": BELOW["thresholds"] | {"methods"},  # what a stage is
}
PURE = re.compile(r"(methods\.\w+\.(maps|kmeans|prototypes|collect)|inference\.multiscale|evaluation)\b(\.\w+)*")
PURE_LIBRARIES = {"torch", "numpy", "scipy"}
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


def target(name: str, known: Iterable[str]) -> str:
    """The module that an import of ``name`` loads: itself, or the one that holds it; empty where it is not known."""
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name


def circle(found: Iterable[Module]) -> list[str]:
    """Modules that import each other in a circle, the first one again at the end; empty where there is no circle.

    Imports of every kind count: at the top, inside functions, under TYPE_CHECKING. Not counted are names in texts, such
    as the ``module:function`` of a stage's kind, and that a module's import loads the packages it is in.
    """
    every = {module.name: module for module in found}
    needs = {name: {target(n, every) for _, n in imports(module)} - {name, ""} for name, module in every.items()}
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def method(name: str) -> str | None:
    """The method that a dotted name is in: ``tag2mask.inference.multiscale`` -> ``cam``; None for what is in none.

    The second stage counts as one: it must not live on another method either.
    """
    _, room, folder, *_ = [*name.split("."), "", "", ""]
    if room == "methods" and (PACKAGE / room / folder / "kinds.py").is_file():
        return folder
    return room if room == "segmentation" else None


def taken(found: Iterable[Module]) -> dict[tuple[str, str], set[str]]:
    """What methods import of other methods: (the one that imports, the other) -> names within the other."""
    pairs: dict[tuple[str, str], set[str]] = {}
    for module in found:
        own = method(module.name)
        for _, name in imports(module):
            other = method(name)
            if own and other and other != own:
                pairs.setdefault((own, other), set()).add(name.partition(f".{other}.")[2])
    return pairs


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
        ("tag2mask.core.x", "def f():\n    import tag2mask.api"),
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
        ("tag2mask.cli.x", "from tag2mask.api import run\nfrom tag2mask import __version__"),
        ("tag2mask.data.x", "import torch\nfrom tag2mask.core import errors"),
    ],
)
def test_an_import_the_right_way_is_not(tmp_path: Path, name: str, code: str) -> None:
    assert wrong_way(toy(tmp_path, name, code)) == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert " imports ".join(circle(modules())) == ""


@pytest.mark.parametrize(
    "code",
    [
        "from tag2mask.core.x import f",
        "from tag2mask.core import x",
        "from . import x",
        "def g():\n    from tag2mask.core.x import f",
        "if TYPE_CHECKING:\n    import tag2mask.core.x",
    ],
)
def test_a_circle_is_found_whatever_the_kind_of_import(tmp_path: Path, code: str) -> None:
    there = toy(tmp_path, "tag2mask.core.x", "from tag2mask.core.z import f")
    between = toy(tmp_path, "tag2mask.core.z", "from tag2mask.core.y import g")
    back = toy(tmp_path, "tag2mask.core.y", code)
    assert set(circle([there, between, back])) == {there.name, between.name, back.name}
    assert circle([there, between, toy(tmp_path, "tag2mask.core.y", "import tag2mask.core.w")]) == []


def test_methods_take_nothing_of_other_methods() -> None:
    assert taken(modules()) == {}, "put what two methods share below both of them"


def test_what_a_method_takes_of_another_is_found(tmp_path: Path) -> None:
    code = "from tag2mask.methods.lpcam.maps import maps_of\nfrom .maps import activation\n"
    code += (
        "def f():\n    from tag2mask.segmentation import losses\n    from tag2mask.methods.registry import StageKind"
    )
    found = taken([toy(tmp_path, "tag2mask.methods.cam.x", code), toy(tmp_path, "tag2mask.pipeline.x", code)])
    assert found == {("cam", "lpcam"): {"maps.maps_of"}, ("cam", "segmentation"): {"losses"}}


def engine_names(found: Iterable[Module]) -> list[str]:
    """What modules of the engine import of methods, of the second stage or of what chooses thresholds."""
    return [
        f"{module.name}:{line} imports {name}"
        for module in found
        if part(module.name) == "pipeline"
        for line, name in imports(module)
        if method(name)
        or (
            name.startswith(("tag2mask.label_images", "tag2mask.thresholds."))
            and not name.startswith("tag2mask.thresholds.threshold_of")
        )
    ]


def test_the_engine_names_no_method() -> None:
    assert engine_names(modules()) == [], "a kind of stage declares what the engine needs of it"


@pytest.mark.parametrize(
    "code",
    [
        "from tag2mask.methods.cam.classifier import WEIGHTS",
        "def f():\n    from tag2mask.segmentation import settings",
        "from tag2mask.thresholds.kinds import FewMasksSettings",
    ],
)
def test_a_method_that_the_engine_names_is_found(tmp_path: Path, code: str) -> None:
    other = "from tag2mask.methods.registry import stage_kind\nfrom tag2mask.thresholds.threshold_of import ROLE\n"
    assert len(engine_names([toy(tmp_path, "tag2mask.pipeline.x", other + code)])) == 1
    assert engine_names([toy(tmp_path, "tag2mask.analysis.x", code)]) == []


GUESSED = re.compile(
    r"""getattr\([\w.]*settings, "|\.makes (==|!=|in) [\["{(]|\.partition\("@"\)|register_method\("tag2mask"""
)
"""A setting that is guessed by its name, a type of artefact told by a word, a seed cut out of a name."""


def test_stages_are_distinguished_by_their_kinds() -> None:
    found = [(m.name, line) for m in modules() for line in m.path.read_text().splitlines() if GUESSED.search(line)]
    assert found == [], "let the kind of stage declare it (methods/stage_kinds.py)"
    for line in ('if kind.makes == "maps":', 'getattr(stage.settings, "truth", False)', 'name.partition("@")[0]'):
        assert GUESSED.search(line)


def test_maths_modules_import_no_machinery() -> None:
    maths = [m for m in modules() if PURE.fullmatch(m.name.removeprefix("tag2mask."))]
    assert {m.name for m in maths} >= {"tag2mask.inference.multiscale", "tag2mask.methods.lpcam.maps"}
    settings = {m.name for m in maths if m.name.endswith(".settings")}
    assert [line for module in maths if module.name not in settings for line in impure(module)] == []


@pytest.mark.parametrize(
    "code", ["import lightning", "from tag2mask.training import losses", "import os", "import timm"]
)
def test_machinery_in_a_maths_module_is_found(tmp_path: Path, code: str) -> None:
    assert len(impure(toy(tmp_path, "tag2mask.inference.multiscale", code))) == 1


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
