"""``tag2mask prototypes``: what each prototype looks like, and dropping one by hand."""

from __future__ import annotations

from typing import Annotated

import typer

from tag2mask.cli.options import Root, Run, opened
from tag2mask.cli.tables import print_summary, say, table


def command(
    run: Run,
    action: Annotated[str | None, typer.Argument(help="drop, or nothing to show them all")] = None,
    cls: Annotated[str | None, typer.Argument(metavar="CLASS", help="class of the prototype to drop")] = None,
    prototype: Annotated[str | None, typer.Argument(help="such as foreground:3")] = None,
    stage: Annotated[str | None, typer.Option(help="prototypes stage, where the run has several")] = None,
    root: Root = None,
) -> None:
    """Show the prototypes of a run with the patches nearest to each, or drop one and recompute the maps.

    Example: tag2mask prototypes runs/demo drop train foreground:3
    """
    from tag2mask.analysis.prototype_gallery import show_prototypes
    from tag2mask.api import drop_prototype
    from tag2mask.core.errors import ConfigError
    from tag2mask.core.errors import command as made

    (found,) = opened([run], root)
    if action is None:
        shown = show_prototypes(found, stage)
        for name, lines in shown.lines.items():
            say(f"\n{name}")
            say(table(["prototype", "score", "size", "why"], lines))
        say(f"\ngallery: {shown.page}")
    elif action == "drop" and cls is not None and prototype is not None:
        print_summary(drop_prototype(found, cls, prototype, stage))
    else:
        raise ConfigError(
            f"'{' '.join(filter(None, [action, cls, prototype]))}' is not understood; "
            f"write: {made('prototypes', run, 'drop', 'CLASS', 'foreground:N')}"
        )
