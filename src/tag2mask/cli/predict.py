"""``tag2mask predict``: masks of new photos, which nobody has tagged."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tag2mask.cli.options import Root
from tag2mask.cli.tables import say


def command(
    network: Annotated[
        str, typer.Argument(help="run folder, .safetensors or .onnx file, saved network, or owner/name on the hub")
    ],
    images: Annotated[list[str], typer.Argument(help="folders, files, or patterns in quotes")],
    out: Annotated[Path, typer.Option(help="folder for the masks; the same command resumes it")],
    stage: Annotated[str | None, typer.Option(help="stage that trained the network, where the run has several")] = None,
    scales: Annotated[str, typer.Option(help="factors on the sides, such as 0.75,1,1.25")] = "1",
    mirror: Annotated[bool, typer.Option("--mirror", help="also the mirror image")] = False,
    fit: Annotated[str | None, typer.Option(help="long,short side that photos are brought into: 2048,512")] = None,
    crf: Annotated[str | None, typer.Option(help="dense CRF: a preset such as deeplabv2")] = None,
    tile: Annotated[int | None, typer.Option(help="side of tiles; default: whole, tiles for very large photos")] = None,
    overlap: Annotated[int | None, typer.Option(help="pixels that tiles share; default: a sixth of the tile")] = None,
    max_pixels: Annotated[int | None, typer.Option(min=1, help="most pixels of a photo [default: 200 million]")] = None,
    overlay: Annotated[bool, typer.Option("--overlay", help="also pictures of the masks over the photos")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps")] = "auto",
    batch: Annotated[int, typer.Option(help="photos of one size, or tiles, computed together")] = 1,
    root: Root = None,
) -> None:
    """Segment photos with a trained network: palette masks under the photos' own names and folders.

    A run's own data are not needed; --root is taken as by every command that looks at a run. Several processes share
    the photos: torchrun --standalone --nproc-per-node=4 -m tag2mask predict runs/photos new-photos --out masks

    Example: tag2mask predict runs/photos new-photos --out masks --overlay
    """
    from tag2mask.config.settings import validate
    from tag2mask.core.processes.ranks import rank
    from tag2mask.segmentation.predict.find_photos import find_sources
    from tag2mask.segmentation.predict.options import PredictOptions

    given = {"mirror": mirror, "crf": crf, "tile": tile, "overlap": overlap}
    views = {"scales": _numbers("--scales", scales), "fit": None if fit is None else _numbers("--fit", fit)}
    options = validate(PredictOptions, given | views, "")
    sources = find_sources(images, out)
    from tag2mask.segmentation.model import load  # with torch: after what can be wrong without it
    from tag2mask.segmentation.predict.batch import predict_photos, together
    from tag2mask.segmentation.predict.labeller import Labeller
    from tag2mask.segmentation.predict.mask_folder import MasksFolder
    from tag2mask.segmentation.predict.photo_readers import MAX_PIXELS

    model = load(network, stage=stage, device=device)
    labeller = Labeller(model.network, options, batch)
    folder = MasksFolder(out, model.hash, model.classes, options, overlay)
    together(folder, sources)
    outcome = predict_photos(sources, labeller, folder, MAX_PIXELS if max_pixels is None else max_pixels)
    if rank() == 0:
        say(f"{outcome.made} made, {outcome.skipped} there already, {len(outcome.failed)} failed: {folder.path}")
        outcome.check()


def _numbers(option: str, text: str) -> tuple[float, ...]:
    from tag2mask.core.errors import ConfigError

    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"{option} '{text}': expected numbers with commas between them") from None
