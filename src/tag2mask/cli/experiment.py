"""``tag2mask experiment``: the papers' tables and figures, with the published values beside ours."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tag2mask.cli.tables import say, table

if TYPE_CHECKING:
    from tag2mask.papers.catalogue import Experiment, Recipes, StageRef
    from tag2mask.papers.run import ExperimentResult

app = typer.Typer(
    help="The experiments of both papers, L1 to L13 and A1 to A15, on any data.\n\n"
    "Example: tag2mask experiment run L1 data=voc data.root=VOCdevkit/VOC2012 --size small",
    no_args_is_help=True,
    rich_markup_mode=None,
)
_ADDS = "stages."
_Name = Annotated[str, typer.Argument(metavar="ID", help="as 'tag2mask experiment ls' shows")]


class RecipeChoice(StrEnum):
    """Whose settings."""

    light = "light"
    voc12 = "voc12"
    coco14 = "coco14"


class SizeChoice(StrEnum):
    """How large."""

    full = "full"
    small = "small"


@app.command("ls")
def ls() -> None:
    """List the experiments: id, place in the paper, title, and whether all rows are available.

    Example: tag2mask experiment ls
    """
    from tag2mask.papers.catalogue import experiments

    lines = [[e.id, f"{e.paper}, {e.item}", e.title, _state(e)] for e in experiments().values()]
    say(table(["id", "paper", "about", "state"], lines))


@app.command("show")
def show(name: _Name) -> None:
    """Show an experiment: its question, the published values and where they stand, recipes and changes, commands.

    Example: tag2mask experiment show L2
    """
    from tag2mask.papers.catalogue import experiment

    chosen = experiment(name)
    say(f"{chosen.id}: {chosen.title} ({chosen.paper}, {chosen.item}; {_state(chosen)})\n{chosen.question}\n")
    _show_published(chosen)
    _show_settings(chosen, "light", "own side with the light recipes")
    _show_settings(chosen, "voc12", "own side with --recipes voc12 (coco14 alike)")
    for note in chosen.notes:
        say(f"note: {note}")
    say("\n" + "\n".join(_commands(chosen)))


@app.command("run")
def run(
    name: _Name,
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key=value, such as data=voc data.root=FOLDER; default: generated scenes")
    ] = None,
    seeds: Annotated[int, typer.Option(help="number of seeds; mean ± standard deviation from 2 on")] = 1,
    size: Annotated[
        SizeChoice,
        typer.Option(help="small: light settings, maps and what follows on 300 images of the training split"),
    ] = SizeChoice.full,
    recipes: Annotated[
        RecipeChoice, typer.Option(help="light ones of own data, or those with the papers' numbers on VOC or COCO")
    ] = RecipeChoice.light,
    image: Annotated[list[str] | None, typer.Option(help="id of an image to show in pictures, repeatable")] = None,
    out: Annotated[Path | None, typer.Option(help="folder; default: runs/<id>")] = None,
) -> None:
    """Run an experiment; the same command resumes it after an interruption.

    Writes results.csv, table.md with the published values beside ours, and figures where the paper has one.

    Example: tag2mask experiment run L1 data=voc data.root=VOCdevkit/VOC2012 --seeds 3
    """
    from tag2mask.core.processes.ranks import rank
    from tag2mask.papers.run import Options, run_experiment

    words, images = tuple(overrides or ()), tuple(image or ())
    options = Options(words, seeds, size.value, recipes.value, out, images)
    result = run_experiment(name, options)
    if rank() == 0:
        print_result(result)


def print_result(result: ExperimentResult) -> None:
    """The table as in ``table.md``, what is above what, notes, and the files."""
    from tag2mask.papers.table import build_table, notes, order_lines

    chosen = result.experiment
    made = build_table(chosen, result.rows)
    say(f"{chosen.id}: {chosen.title} ({chosen.paper}, {chosen.item})\n{result.legend}\n")
    said = [*order_lines(chosen, result.rows), *result.lines, *(f"note: {note}" for note in notes(chosen))]
    blocks = [table(made.header, made.lines), "\n".join(said), "\n".join(map(str, result.files))]
    say("\n\n".join(block for block in blocks if block))


def _state(chosen: Experiment) -> str:
    return f"partly: not yet {', '.join(chosen.missing)}" if chosen.missing else "ready"


def _show_published(chosen: Experiment) -> None:
    lines = [[row.name, p.metric, f"{p.value:g}", p.on, p.source, p.note] for row in chosen.rows for p in row.published]
    if not lines:
        say("published: nothing\n")
        return
    say(f"published ({chosen.used}):")
    say(table(["row", "metric", "value", "on", "place", "note"], lines) + "\n")


def _show_settings(chosen: Experiment, recipes: Recipes, title: str) -> None:
    refs = chosen.refs(recipes)
    if not refs:
        return
    say(f"{title}:")
    for name, ref in refs.items():
        changed = [word for word in ref.variant.overrides if not word.startswith(_ADDS)]
        with_ = f" with {' '.join(changed)}" if changed else ""
        say(f"  {name}: stage {ref.stage} of {ref.variant.recipe}{with_}")
    for word in dict.fromkeys(word for ref in refs.values() for word in _added(ref)):
        say(f"  adds {word.removeprefix(_ADDS)}")
    for axis in chosen.axes:
        say(f"  sweep {axis.setting} over {', '.join(axis.values)}")
    say()


def _added(ref: StageRef) -> list[str]:
    """The words that add a stage which this ref needs, or which measures it."""
    from tag2mask.config.recipe import load_recipe
    from tag2mask.papers.variants import part

    needed = part(load_recipe(ref.variant.recipe, ref.variant.overrides), [ref.stage]).stages
    added = (word for word in ref.variant.overrides if word.startswith(_ADDS))
    return [word for word in added if word.removeprefix(_ADDS).partition("=")[0] in needed]


def _commands(chosen: Experiment) -> list[str]:
    from tag2mask.core.errors import command

    run = command("experiment", "run", chosen.id)
    if not chosen.refs("light"):
        return [run]
    data, recipes = ("coco", "coco14") if chosen.used.startswith("MS COCO") else ("voc", "voc12")
    said = {
        run: "on generated scenes",
        f"{run} data={data} data.root=FOLDER --seeds 3": "on your data",
        f"{run} data={data} data.root=FOLDER --size small": "a light look",
        f"{run} --recipes {recipes} data.root=FOLDER": "with the papers' numbers",
    }
    return [f"{typed:<70} {what}" for typed, what in said.items()]
