"""Peak memory of ``tag2mask predict`` on photos of 400 megapixels, in a process of its own.

Run ``python -m benchmarks.large_image``; it writes ``results/large_image.csv``. The claim: decoded photo, uint8 masks
and at most 2 GiB beside them; a TIFF read in windows needs less than its pixels. The network is that of the recipe
own-data, with the weights it begins with: what it sees does not matter here.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from PIL import ExifTags, Image

from benchmarks.common import RESULTS, cpu_name, write_rows
from tag2mask.config.recipe import load_recipe
from tag2mask.segmentation.networks.factory import build_segmenter, save_segmenter
from tag2mask.segmentation.settings import NetworkSettings

CLASSES = ("cat", "cow", "dog", "horse", "person", "sheep")
FORMS = ("whole", "sideways", "windows")
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class LargeRow:
    """One photo.

    Attributes:
        form: how the file holds it.
        side: height and width in pixels.
        decoded_mb: megabytes of its pixels.
        labels_mb: megabytes of its labels.
        peak_mb: largest resident memory of the process, libraries and network included.
        beside_mb: of these, beyond pixels and labels.
        seconds: of the whole command.
        cpu: model name of the processor.
    """

    form: str
    side: int
    decoded_mb: float
    labels_mb: float
    peak_mb: float
    beside_mb: float
    seconds: float
    cpu: str


def draw(folder: Path, side: int) -> dict[str, Path]:
    """One picture as JPEG, which is decoded whole, as one that EXIF turns, and as a TIFF in tiles, read in windows."""
    patch = np.random.default_rng(0).integers(0, 256, (side // 20, side // 20, 3), dtype=np.uint8)
    small = Image.fromarray(patch).resize((side // 4, side // 4), Image.Resampling.BICUBIC)
    pixels = np.tile(np.asarray(small), (4, 4, 1))[:side, :side]
    paths = {form: folder / f"{form}.{'tif' if form == 'windows' else 'jpg'}" for form in FORMS}
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    Image.fromarray(pixels).save(paths["whole"], quality=90)
    Image.fromarray(pixels).save(paths["sideways"], quality=90, exif=turned)
    tifffile.imwrite(paths["windows"], pixels, tile=(512, 512), compression="zlib", photometric="rgb")
    return paths


def measure(net: Path, photo: Path, side: int) -> LargeRow:
    """Predict one photo in a process of its own.

    Raises:
        RuntimeError: the command fails.
    """
    words = ["predict", str(net), str(photo), "--out", f"{photo}-masks", "--max-pixels", str(side * side)]
    started = time.perf_counter()
    child = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, "-m", "tag2mask", *words])
    _, status, usage = os.wait4(child, 0)
    if status:
        raise RuntimeError(f"tag2mask {' '.join(words)} ended with status {status}")
    decoded, labels, peak = side * side * 3 / _MIB, side * side / _MIB, usage.ru_maxrss / 1024
    held = labels if photo.suffix == ".tif" else decoded + labels  # of windows only labels are held
    spent = time.perf_counter() - started
    return LargeRow(photo.stem, side, decoded, labels, peak, peak - held, spent, cpu_name())


def main() -> None:
    """Measure and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=20_000)
    parser.add_argument("--form", choices=FORMS, action="append", help="again for more; default: all")
    parser.add_argument("--out", type=Path, default=RESULTS / "large_image.csv")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        net = Path(folder) / "net.safetensors"
        network = NetworkSettings.model_validate(load_recipe("own-data").stages["segmenter"]["network"])
        save_segmenter(build_segmenter(network, len(CLASSES)), net, CLASSES)
        photos = draw(Path(folder), asked.side)
        rows = [measure(net, photos[form], asked.side) for form in asked.form or FORMS]
    write_rows(asked.out, rows)
    for row in rows:
        print(f"{row.form}: {row.peak_mb:.0f} MB, {row.beside_mb:.0f} beside the data, {row.seconds:.0f} s")


if __name__ == "__main__":
    main()
