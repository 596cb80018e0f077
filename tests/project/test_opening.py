"""Image files are opened in one place, which names the formats that are read."""

import ast
from pathlib import Path

import pytest

from tests.project.source import Module, modules, read

PLACE = "tag2mask.core.palette"


def openers(module: Module) -> list[str]:
    """Where Pillow is given a file to read: ``Image.open``, under any name of the module or of the function."""
    found = []
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom) and node.module == "PIL.Image":
            found += [f"{module.name}:{node.lineno}" for alias in node.names if alias.name == "open"]
        if isinstance(node, ast.Attribute) and node.attr == "open" and ast.unparse(node.value).endswith("Image"):
            found.append(f"{module.name}:{node.lineno}")
    return found


def test_pillow_reads_files_in_one_place_alone() -> None:
    assert [place.rpartition(":")[0] for module in modules() for place in openers(module)] == [PLACE]


@pytest.mark.parametrize("code", ["from PIL.Image import open", "import PIL\nPIL.Image.open(1)", "Image.open(2)"])
def test_another_place_is_found(tmp_path: Path, code: str) -> None:
    path = tmp_path / "toy.py"
    path.write_text(code)
    assert len(openers(read(path, tmp_path))) == 1
