"""``tag2mask pack``: a run as one folder or zip that works anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tag2mask.cli.options import Root, Run
from tag2mask.cli.tables import say


def command(
    run: Run,
    out: Annotated[Path | None, typer.Option(help="new folder, or a .zip; default: RUN-packed beside the run")] = None,
    root: Root = None,
) -> None:
    """Copy a run and all that it has made into one folder or zip, without its photos.

    Every command reads the folder wherever it lies; a zip is unpacked first. What needs the photos is given their
    folder with --root, here already where the packed run shall name that folder.

    Example: tag2mask pack runs/photos --out photos-run.zip
    """
    from tag2mask.core.files import megabytes
    from tag2mask.pipeline.opened_run import OpenedRun
    from tag2mask.pipeline.pack import pack_run

    packed = pack_run(OpenedRun(run, root), out)
    files = [packed] if packed.is_file() else [path for path in packed.rglob("*") if path.is_file()]
    say(f"{packed} ({megabytes(sum(path.stat().st_size for path in files))})")
