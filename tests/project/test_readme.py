"""What the pages tell people to type exists and works."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tag2mask.data.registry import READERS
from tag2mask.methods.registry import METHODS
from tests.project.source import PACKAGE, ROOT
from tests.segmentation.saved_net import STAGES, tiny, write_run

PAGES = {
    name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "CONTRIBUTING.md", "docs/results.md")
}
TEXT = "\n".join(PAGES.values())
TARGETS = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def blocks(language: str) -> list[str]:
    """Fenced code blocks of that language in every page."""
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)


def test_the_readme_begins_with_the_two_commands() -> None:
    first = re.search(r"```sh\n(.*?)```", PAGES["README.md"], re.DOTALL)
    assert first is not None
    assert [line.split("#")[0].strip() for line in first.group(1).splitlines()] == ["make demo", "make test"]
    assert PAGES["README.md"].index("```sh") < 30


@pytest.mark.parametrize("target", sorted(set(re.findall(r"(?:`|^)make ([a-z-]+)", TEXT, re.MULTILINE))))
def test_make_targets_exist(target: str) -> None:
    assert target in TARGETS


def test_every_make_target_is_phony_and_explained() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    assert phony is not None
    assert set(phony.group(1).split()) == TARGETS == set(re.findall(r"^# make ([\w-]+)  ", makefile, re.MULTILINE))


TYPED = [*re.findall(r"`([^`\n]+)`", TEXT), *(line for block in blocks("sh") for line in block.splitlines())]
"""Inline code and lines of shell blocks."""


@pytest.mark.parametrize("verb", sorted({line.split()[1] for line in TYPED if re.match(r"tag2mask [a-z]", line)}))
def test_verbs_exist(verb: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tag2mask", verb, "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Usage:" in done.stdout


@pytest.mark.parametrize("recipe", sorted(set(re.findall(r"tag2mask (?:run|show|cp) ([\w./-]+)", TEXT))))
def test_recipes_exist(recipe: str) -> None:
    assert (ROOT / recipe if recipe.endswith(".yaml") else PACKAGE / "recipes" / f"{recipe}.yaml").is_file()


@pytest.mark.parametrize("module", sorted(set(re.findall(r"python -m (benchmarks\.\w+)", TEXT)) - {"benchmarks.NAME"}))
def test_benchmarks_exist(module: str) -> None:
    assert (ROOT / (module.replace(".", "/") + ".py")).is_file()


LINKS = {
    (str(page.relative_to(ROOT)), link)
    for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *PACKAGE.rglob("*.md"))
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
}


@pytest.mark.parametrize(("page", "link"), sorted(LINKS))
def test_links_lead_somewhere_from_their_page(page: str, link: str) -> None:
    assert ((ROOT / page).parent / link).exists()


@pytest.mark.slow
@pytest.mark.parametrize("code", blocks("python"))
def test_python_snippets_run(code: str, tmp_path: Path) -> None:
    """Each in a folder with what the pages speak of: a run that trained a network, and a new photo."""
    write_run(tmp_path / "runs" / "photos", STAGES, {"segmenter": tiny()})
    Image.new("RGB", (40, 30), "red").save(tmp_path / "new.jpg")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_registries_are_where_contributing_says() -> None:
    page = PAGES["CONTRIBUTING.md"]
    assert "`READERS` of `src/tag2mask/data/registry.py`" in page
    assert "`METHODS` of `src/tag2mask/methods/registry.py`" in page
    assert READERS["voc"] == "tag2mask.data.voc"
    assert "tag2mask.methods.lpcam.kinds" in METHODS
