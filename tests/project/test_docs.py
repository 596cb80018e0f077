"""Every snippet of the pages is run on small drawn data, or says why not; every command is one that exists."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tag2mask.config.recipe import recipe_text
from tests.project import command_line
from tests.project.command_line import CHECKED, WrongCommand, check, draw_all, parse, verb
from tests.project.snippets import PAGES, Snippet, inline, place, read, snippets
from tests.project.source import ROOT

EVERY = [snippet for page in PAGES for snippet in snippets(page)]
TARGETS = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
EXTRAS = set(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"])
NOT_RUN = {
    "docs/cluster.md": ["needs two machines", "needs SLURM", "needs SLURM"],
    "docs/segment.md": ["needs an account on the Hugging Face hub"],
}
"""Every snippet that is not run, by page. What needs no weights, GPU, hub, cluster or hours does not belong here."""


def test_snippets_that_are_not_run_are_these() -> None:
    found: dict[str, list[str]] = {}
    for snippet in EVERY:
        if snippet.not_run is not None:
            found.setdefault(snippet.page, []).append(snippet.not_run)
    assert found == NOT_RUN
    marks = sum(len(re.findall(r"<!-- not run", read(page))) for page in PAGES)
    assert marks == sum(map(len, NOT_RUN.values())), "a mark stands directly before its block"


@pytest.mark.parametrize("snippet", EVERY, ids=place)
def test_a_block_says_what_it_is(snippet: Snippet) -> None:
    """A block without a language is a picture of files or of output: nobody should have to type it."""
    assert snippet.language in {"sh", "python", ""}
    typed = re.findall(r"^(?:\$ )?(?:tag2mask|python|pip|make|torchrun) .*", snippet.text, re.MULTILINE)
    assert snippet.language or not typed, "write ```sh"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    draw_all(folder)
    return folder


@pytest.fixture
def here(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder of its own for each page, in which the drawn data and the finished runs lie."""
    (drawn / "runs").mkdir(exist_ok=True)
    for path in drawn.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


GIVEN: dict[str, str] = {
    "cam": "",
    "lpcam": "batches = [(images, tags)]",
    "amn": "batches = [(images, tags, torch.randint(0, 3, (4, 64, 64)))]",
    "irn": """
from tag2mask.backbones.settings import BackboneSettings
from tag2mask.methods.irn.network import save_boundary
from tag2mask.methods.irn.network import build_boundary
save_boundary(build_boundary(BackboneSettings(name="test_efficientnet", weights="none")), Path("weights.safetensors"))
image = images[0]
""",
}
"""What the card of a method takes as there, by its folder."""

MODEL = """
from pathlib import Path
import torch
from torchvision.models import resnet18
model = resnet18(num_classes=2).eval()
images, tags = torch.rand(4, 3, 64, 64), torch.tensor([[1, 0], [1, 1], [0, 1], [1, 0]])
"""


def names(page: str) -> dict[str, Any]:
    """The names that the snippets of a page begin with: none, but in the cards beside the code."""
    known: dict[str, Any] = {"__name__": "__main__"}
    if page.startswith("src/"):
        exec(MODEL + GIVEN[Path(page).parent.name], known)
    return known


RUN = [page for page in PAGES if any(s.language and s.not_run is None for s in snippets(page))]


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN)
def test_the_snippets_of_a_page_run_in_their_order(page: str, here: Path) -> None:
    """As someone would who types them one after the other: a name that one defines is known to the next."""
    known = names(page)
    for snippet in snippets(page):
        if snippet.not_run is not None:
            continue
        if snippet.language == "python":
            exec(compile("\n" * (snippet.line - 1) + snippet.text, str(ROOT / page), "exec"), known)
        elif snippet.language == "sh":
            for words in snippet.commands:
                run_line(words)


def run_line(words: list[str]) -> None:
    """Run a command of ours; of others check that what they name exists."""
    if words[0] == "tag2mask":
        command_line.run(words[1:])
    elif words[0] == "torchrun":
        check(words[words.index("tag2mask") + 1 :])
    elif words[0] == "make":
        assert words[1] in TARGETS
    elif words[:3] == ["pip", "install", words[-1]]:
        assert words[-1] == "." or set(re.findall(r"[\w-]+", words[-1].partition("[")[2])) <= EXTRAS, words
    elif words[:2] == ["python", "-m"] and words[2].startswith("benchmarks."):
        module = ROOT / words[2].replace(".", "/")
        assert module.with_suffix(".py").is_file() or (module / "__main__.py").is_file(), words
    else:
        raise AssertionError(f"{words}: not a command that can be checked; leave it out, or teach this test")


SAID = sorted({text for page in PAGES for text in inline(page) if re.match(r"tag2mask [a-z]", text)})


@pytest.mark.parametrize("text", SAID)
def test_commands_in_the_text_are_understood(text: str) -> None:
    """A mention may leave out what the command needs; what it says must be right."""
    words = text.split()[1:]
    if "…" in text:  # the verb alone can be checked
        words = words[: 2 if words[0] in {"analyse", "experiment"} else 1]
    parse(words, whole=False)
    if words[0] in {"run", "show", "cp"} and len(words) > 1 and re.fullmatch(r"[a-z][\w./-]+", words[1]):
        recipe_text(str(ROOT / words[1]) if "/" in words[1] else words[1])


def test_what_is_checked_and_not_run_is_in_the_pages() -> None:
    used = {verb(words[1:]) for s in EVERY if s.language == "sh" for words in s.commands if words[0] == "tag2mask"}
    assert set(CHECKED) <= used, "a verb that no page shows, or one that could be run"


def test_a_wrong_command_is_found() -> None:
    with pytest.raises(WrongCommand, match="--outt"):
        parse(["run", "demo", "--outt", "x"])
    with pytest.raises(WrongCommand, match="qualty"):
        parse(["analyse", "qualty", "runs/demo"])
    with pytest.raises(WrongCommand, match="(?i)missing"):
        parse(["predict", "runs/demo"])
    with pytest.raises(Exception, match="unknown setting"):
        check(["run", "demo", "cam.scale=[1.0]"])
    with pytest.raises(AssertionError):
        check(["run", "demo", "--only", "lpcam-sed"])
    with pytest.raises(AssertionError, match="teach this test"):
        run_line(["curl", "example.org"])
