"""What the pages name exists: make targets, recipes, benchmarks, links. Their snippets: test_docs.py."""

from __future__ import annotations

import re

import pytest

from tag2mask.data.registry import READERS
from tag2mask.methods.registry import METHODS
from tests.project import snippets
from tests.project.snippets import read
from tests.project.source import PACKAGE, ROOT

PAGES = {name: read(name) for name in snippets.PAGES}
TEXT = "\n".join(PAGES.values())
TARGETS = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def test_the_readme_begins_with_the_two_commands() -> None:
    first = re.search(r"```sh\n(.*?)```", PAGES["README.md"], re.DOTALL)
    assert first is not None
    assert [line.split("#")[0].strip() for line in first.group(1).splitlines()] == ["make demo", "make test"]
    assert PAGES["README.md"].index("```sh") < 30


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`make ([a-z-]+)", TEXT))))
def test_make_targets_exist(target: str) -> None:
    assert target in TARGETS


def test_every_make_target_is_phony_and_explained() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    assert phony is not None
    assert set(phony.group(1).split()) == TARGETS == set(re.findall(r"^# make ([\w-]+)  ", makefile, re.MULTILINE))


@pytest.mark.parametrize("module", sorted(set(re.findall(r"python -m (benchmarks\.\w+)", TEXT)) - {"benchmarks.NAME"}))
def test_benchmarks_exist(module: str) -> None:
    place = ROOT / module.replace(".", "/")
    assert place.with_suffix(".py").is_file() or (place / "__main__.py").is_file()


LINKS = {
    (str(page.relative_to(ROOT)), link)
    for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *PACKAGE.rglob("*.md"))
    for link in re.findall(r"\]\(([^):]+)\)", page.read_text(encoding="utf-8"))
}


@pytest.mark.parametrize(("page", "link"), sorted(LINKS))
def test_links_lead_somewhere_from_their_page(page: str, link: str) -> None:
    file, _, heading = link.partition("#")
    target = (ROOT / page).parent / file if file else ROOT / page
    assert target.exists()
    if heading:
        assert heading in anchors(target.read_text(encoding="utf-8"))


def anchors(text: str) -> set[str]:
    """Headings of a page as links name them: lower case, without punctuation, hyphens for blanks."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_registries_are_where_contributing_says() -> None:
    page = PAGES["CONTRIBUTING.md"]
    assert "`READERS` of `src/tag2mask/data/registry.py`" in page
    assert "`METHODS` of `src/tag2mask/methods/registry.py`" in page
    assert READERS["voc"] == "tag2mask.data.readers.voc"
    assert "tag2mask.methods.lpcam.kinds" in METHODS
