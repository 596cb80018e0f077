"""Commands that the program advises are built in one place, and the command line reads their very words back."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import typer

from tag2mask.cli.app import app
from tag2mask.config.recipe import load_recipe
from tag2mask.core.errors import Tag2MaskError, command, quoted
from tag2mask.core.links import not_finished
from tag2mask.papers.run import Options
from tag2mask.pipeline.opened_run import open_run
from tag2mask.pipeline.run_folder import RunFolder
from tests.project.command_line import parse, verb
from tests.project.source import modules

OWN = "name: x\ndata: {kind: folder, root: /nowhere}\nstages: {classifier: {kind: classifier}}\n"
ODD = 'my photos [1]/it\'s "$HOME" & `x`; ~ (ä) 猫*'
VERB = re.compile(
    r"\btag2mask (?:run|demo|doctor|eval|predict|prototypes|report|sweep|compare|export|pack|store|cp|show)\b"
)


def advised() -> dict[str, tuple[str, dict[str, object]]]:
    """What some texts advise, beside what the command line should read of it."""
    folder = RunFolder(Path(ODD))
    with pytest.raises(Tag2MaskError) as no_run:
        RunFolder.existing(folder.path)
    with pytest.raises(Tag2MaskError) as no_recipe:
        load_recipe(f"{ODD}.yaml")
    name = Path(f"{ODD}.yaml").name
    with TemporaryDirectory() as runs:
        (lost := Path(runs, ODD)).mkdir(parents=True)
        (lost / "recipe.yaml").write_text(OWN)
        with pytest.raises(Tag2MaskError) as no_photos:
            open_run(lost).split("all")
    return {
        "go on": (folder.command, {"recipe": f"{ODD}/recipe.yaml", "out": Path(ODD)}),
        "begin a run": (str(no_run.value).partition("Begin one: ")[2], {"recipe": "demo", "out": Path(ODD)}),
        "name the photos": (str(no_photos.value).partition("as in: ")[2], {"run": lost, "root": Path("FOLDER")}),
        "resume": (str(not_finished(Path(ODD), "maps")).partition("resume: ")[2], {"out": Path(ODD)}),
        "copy a recipe": (str(no_recipe.value).partition("copy one with: ")[2], {"target": Path(name)}),
        "an experiment": (
            Options((f"data.root={ODD}", "cam.scales=[1.0, 0.5]"), out=Path(ODD)).command("L1"),
            {"overrides": [f"data.root={ODD}", "cam.scales=[1.0, 0.5]"], "out": Path(ODD)},
        ),
        "a run": (
            command("run", "own-data", f"data.root={ODD}", "data.mask_values={255: 1}", "--only", "masks"),
            {"overrides": [f"data.root={ODD}", "data.mask_values={255: 1}"], "only": ["masks"]},
        ),
        "prototypes": (command("prototypes", ODD, "drop", "traffic light", "foreground:1"), {"cls": "traffic light"}),
    }


@pytest.mark.parametrize("what", advised())
def test_an_advised_command_is_read_back_word_for_word(what: str) -> None:
    text, expected = advised()[what]
    words = shlex.split(text)
    assert words[0] == "tag2mask", text
    read = parse(words[1:])
    assert verb(words[1:])
    assert {name: read[name] for name in expected} == expected


def test_plain_words_stay_as_they_are() -> None:
    assert command("run", "own-data", "data.root=photos", "--out", Path("runs/photos")) == (
        "tag2mask run own-data data.root=photos --out runs/photos"
    )
    assert quoted("") == "''"


def built() -> dict[str, list[str | None]]:
    """Where the source builds a command -> its words; None for a word, or words, that are known as it runs only."""
    found: dict[str, list[str | None]] = {}
    for module in modules():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {"command", "errors.command"}:
                words = [str(part.value) if isinstance(part, ast.Constant) else None for part in node.args]
                if words and words[0] is not None:  # the words of `analyse quality` stand in a list
                    found[f"{module.name}:{node.lineno}"] = words
    return found


BUILT = built()


def not_understood(words: list[str | None]) -> str:
    """What the command line does not know of a command: its verb or an option; empty where it knows all."""
    known = typer.main.get_command(app)
    rest = list(words)
    while hasattr(known, "commands") and rest and rest[0] is not None:
        if rest[0] not in known.commands:
            return f"verb {rest[0]}"
        known = known.commands[rest.pop(0)]
    if hasattr(known, "commands"):
        return ""  # which verb of the group is known as it runs only
    options = {option for parameter in known.params for option in (*parameter.opts, *parameter.secondary_opts)}
    return next((word for word in rest if word is not None and word.startswith("--") and word not in options), "")


@pytest.mark.parametrize("where", BUILT)
def test_every_command_that_is_built_is_one_of_the_command_line(where: str) -> None:
    assert not_understood(BUILT[where]) == ""


def test_a_command_that_the_command_line_lacks_is_found() -> None:
    assert len(BUILT) > 10
    assert not_understood(["evaluate", None]) == "verb evaluate"
    assert not_understood(["report", None, "--photos", None]) == "--photos"
    assert not_understood(["analyse", None, "--photos"]) == ""


def test_every_command_that_looks_at_a_run_finds_its_data_with_root() -> None:
    def verbs(command: Any) -> Iterator[Any]:
        below = getattr(command, "commands", {})
        yield from (found for one in below.values() for found in verbs(one))
        if not below:
            yield command

    looks = {"run", "runs", "network", "source"}  # what an argument is called that is a finished run
    found = [one for one in verbs(typer.main.get_command(app)) if looks & {p.name for p in one.params}]
    assert {one.name for one in found} >= {"eval", "report", "export", "compare", "predict", "prototypes", "pack"}
    assert [one.name for one in found if "--root" not in {o for p in one.params for o in p.opts}] == []


def by_hand() -> Iterator[str]:
    """Texts of the source that put a value behind a verb of tag2mask themselves."""
    for module in modules():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.JoinedStr):
                text = "".join(str(part.value) if isinstance(part, ast.Constant) else "\0" for part in node.values)
                found = VERB.search(text)
                if found and "\0" in re.split(r"[.;:,]\s|\)", text[found.end() :])[0]:
                    yield f"{module.path}:{node.lineno}: {text}"


def test_no_text_puts_a_value_into_a_command_itself() -> None:
    assert not list(by_hand())
