"""``tag2mask export``: masks into the formats of other tools, a network into ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tag2mask.cli.options import Root
from tag2mask.cli.tables import say


def command(
    source: Annotated[str, typer.Argument(help="run folder, or folder of palette masks; for onnx: run or weights")],
    format: Annotated[str, typer.Option(help="coco, labelme, cvat, palette, voc-server, yolo, or onnx")],
    out: Annotated[Path, typer.Option(help="new or empty folder; for onnx: the .onnx file")],
    stage: Annotated[str | None, typer.Option(help="stage of the run; default: the last that makes masks")] = None,
    classes: Annotated[Path | None, typer.Option(help="text file of class names, for a folder without one")] = None,
    images: Annotated[Path | None, typer.Option(help="folder of the photos, for a folder of masks")] = None,
    name: Annotated[str | None, typer.Option(help="of lists and files; default: the split's, or train")] = None,
    min_area: Annotated[int | None, typer.Option(help="drop connected parts of fewer pixels [default: 0]")] = None,
    outline: Annotated[str | None, typer.Option(help="coco: polygons or rle [default: polygons]")] = None,
    copy_images: Annotated[
        bool | None, typer.Option("--copy-images/--no-copy-images", help="default: for palette and yolo")
    ] = None,
    root: Root = None,
) -> None:
    """Write masks in the format of another tool, or a network as ONNX.

    In a run of own-data the last stage of masks, predictions, has those of the images held out (val). The pseudo-masks
    of the training images are those of --stage amn-lpcam-masks.

    Example: tag2mask export runs/photos --stage amn-lpcam-masks --format coco --out photos-coco
    """
    if format == "onnx":
        masks_only = {"--classes": classes, "--images": images, "--name": name, "--min-area": min_area}
        _refuse({**masks_only, "--outline": outline, "--copy-images": copy_images})
        from tag2mask.segmentation.onnx.export import export_network

        names = export_network(source, out, stage=stage)
        say(f"background, {', '.join(names)}: {out}")
        return
    from typing import cast

    from tag2mask.export.formats import Outline
    from tag2mask.pipeline.export_run import export_masks

    counts = export_masks(
        Path(source), format, out,
        stage=stage, classes=classes, images=images, name=name, min_area=min_area or 0,
        outline=cast(Outline, outline or "polygons"), copy_images=copy_images, root=root,
    )  # fmt: skip
    say(f"{counts.images} images, {counts.instances} instances: {out}")


def _refuse(options: dict[str, object]) -> None:
    """Refuse options of masks with a network."""
    from tag2mask.core.errors import ConfigError

    given = [option for option, value in options.items() if value is not None]
    if given:
        raise ConfigError(f"{given[0]} is about masks, and --format onnx writes a network; leave it out")
