"""A command of a page checked and run: by the real command line, with the real recipe, then on small drawn data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import typer

from tag2mask.cli.app import app
from tag2mask.config.recipe import load_recipe
from tag2mask.pipeline.plan import make_plan
from tests.helpers import draw
from tests.helpers.tiny import draw_augmented_voc, tiny_overrides

QUICK = ("demo", "own-data", "voc12-lpcam", "mine.yaml")
"""Recipes that are run, made small; of all others the plan is made."""

CHECKED = {
    "demo": "draws 200 scenes; `run demo` is run, made small",
    "prototypes drop": "which prototypes a small network keeps is chance; its own tests drop one",
}
"""Verbs whose command lines are checked but not run, and why."""

RUNS = {
    "runs/photos": ["run", "own-data", "data.root=photos", "data.tags=tags.csv"],
    "runs/demo": ["run", "demo"],
    "runs/other": ["run", "demo", "cam.mirror=false"],
    "runs/voc12-lpcam": ["run", "voc12-lpcam", "data.root=VOCdevkit/VOC2012"],
}
"""Runs that the pages speak of as finished: made when the first command wants one."""


def draw_all(folder: Path) -> None:
    """Draw what the pages speak of: own photos, new photos, VOC, and a weight file by name alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(draw, "CLASSES", ("cat", "dog", "train"))
        draw.draw_folder(folder / "photos")
        draw_augmented_voc(folder / "VOCdevkit" / "VOC2012")
    for number in range(2):
        draw.save_image(folder / "new-photos" / "trip" / f"new {number}.jpg", draw.draw_scene(90 + number).image)
    draw.save_image(folder / "new.jpg", draw.draw_scene(99).image)
    (folder / "resnet50-19c8e357.pth").write_bytes(b"")


def verb(words: Sequence[str]) -> str:
    """The verb of a command, with what belongs to it: ``analyse quality``, ``prototypes drop``."""
    if words[0] in {"analyse", "experiment"}:
        return " ".join(words[:2])
    return "prototypes drop" if words[0] == "prototypes" and "drop" in words else words[0]


class WrongCommand(Exception):
    """A command that the command line does not understand."""


def parse(words: Sequence[str], *, whole: bool = True) -> dict[str, Any]:
    """The arguments of a command as the real command line understands them.

    Args:
        words: behind ``tag2mask``.
        whole: whether what the command needs has to be there.

    Raises:
        WrongCommand: it is not understood.
    """
    try:
        return _parsed(typer.main.get_command(app), list(words))
    except Exception as error:  # typer brings its own click, or uses the one that is installed
        if not hasattr(error, "format_message"):
            raise
        if type(error).__name__ == "MissingParameter" and not whole:
            return {}
        raise WrongCommand(f"tag2mask {' '.join(words)}: {error.format_message()}") from error


def _parsed(command: Any, rest: list[str]) -> dict[str, Any]:
    context = command.context_class(command, info_name="tag2mask")
    while hasattr(command, "commands"):
        if not rest:
            return {}
        name, command, rest = command.resolve_command(context, rest)
        context = command.context_class(command, info_name=name, parent=context)
    return dict(command.make_context(context.info_name, rest, parent=context.parent).params)


def check(words: Sequence[str]) -> None:
    """Parse a command; of one with a recipe make the plan too, every setting as it is written.

    Raises:
        WrongCommand: the command line does not understand it.
        Tag2MaskError: the recipe or a setting is wrong.
    """
    values = parse(words)
    if "recipe" not in values or verb(words) == "cp":
        return
    given = [*(values.get("overrides") or []), *(values.get("words") or [])]
    if verb(words) == "sweep":
        from tag2mask.sweep.grid import from_words

        grid, others = from_words(given)
        given = [*others, *(f"{key}={options[0]}" for key, options in grid.items())]
    plan = make_plan(load_recipe(values["recipe"], given))
    known = {stage.name for stage in plan.stages}
    assert {*(values.get("only") or []), *(values.get("stage") or [])} <= known, words


def run(words: Sequence[str]) -> None:
    """Check a command, and run it unless that takes long."""
    check(words)
    name = verb(words)
    if name in CHECKED or (name == "run" and words[1] not in QUICK):
        return
    for word in words[1:]:
        if word in RUNS and not Path(word).exists() and name != "run":
            run([*RUNS[word], "--out", word])
    assert _call([*words, *_made_small(words)]) in {None, 0}, words


def _made_small(words: Sequence[str]) -> list[str]:
    """Overrides that make what a command trains small; none for one that trains nothing."""
    name = verb(words)
    if name == "experiment run":
        from tests.papers.tiny_experiments import SCENES, tiny_words

        return [*tiny_words(words[2]), *(() if any(w.startswith("data=") for w in words) else SCENES)]
    if name not in {"run", "sweep", "analyse tag-noise"}:
        return []
    named = {word.partition("=")[0] for word in words}  # a setting that is swept is not set
    return [
        word
        for word in tiny_overrides(words[2 if name.startswith("analyse") else 1])
        if word.partition("=")[0] not in named
    ]


def _call(words: list[str]) -> object:
    """Exit code, or None."""
    return app(words, standalone_mode=False)
