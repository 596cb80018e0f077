"""How large a report of 500 images is, and how soon a browser has opened it.

Run ``python -m benchmarks.report_page``; it writes ``results/report.csv``. The claims: below 30 MB, and open in less
than a second. It needs Chromium (``apt install chromium``). A page is open when it is read, its script has run and it
is laid out, counted from the beginning of the navigation. A browser that has just started is still busy with itself:
an empty page, opened in turn with the other, says for how long, and what the report takes is the difference.
"""

from __future__ import annotations

import re
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.common import RESULTS, cpu_name, write_rows
from tag2mask.core.types import IGNORE
from tag2mask.report.page import render_page
from tag2mask.report.parts import Layer, Panel, RunPart, ShownImage, SplitPart
from tag2mask.report.pictures import class_uri, data_uri, ignored_uri, map_uri, quantised
from tag2mask.run_report.example_images import sizes

IMAGES, RUNS = 500, 5
CLASSES = ("cat", "cow", "dog", "horse", "person", "sheep")
MAPS = ("cam", "lpcam", "cam-walk", "lpcam-walk")
LABELS = ("cam+crf", "lpcam+crf", "cam-refined", "lpcam-refined", "cam-masks", "lpcam-masks", "deeplab", "upernet")
"""Stages that are shown of each image, beside the truth: as many as of a run that compares CAM and LPCAM to the end."""

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--window-size=1280,900", "--dump-dom",
)  # fmt: skip
PROBE = """<script>addEventListener("load", () => {
  document.documentElement.getBoundingClientRect();
  document.documentElement.innerHTML = `<p id="opened">${performance.now()}</p>`;
});</script></body>"""
"""At the end of the page; what it writes takes the page's place, so that little is printed."""


@dataclass(frozen=True, slots=True)
class PageRow:
    """One page.

    Attributes:
        images: on the page.
        pictures: in all, the photos included.
        megabytes: of the file.
        seconds_median: until it is open, over the runs, less those of an empty page in the same run.
        seconds_min: of the quickest run.
        seconds_max: of the slowest run.
        with_start_median: seconds until it is open, those of an empty page included.
        runs: each in a browser of its own with an empty profile.
        browser: name and version.
        cpu: model name of the processor.
    """

    images: int
    pictures: int
    megabytes: float
    seconds_median: float
    seconds_min: float
    seconds_max: float
    with_start_median: float
    runs: int
    browser: str
    cpu: str


def field(rng: np.random.Generator, cells: int, size: tuple[int, int]) -> NDArray[np.float32]:
    """(height, width) smooth random values in 0..1: the fewer cells, the smoother."""
    small = Image.fromarray(rng.random((cells, cells), dtype=np.float32))
    values = np.asarray(small.resize(size, Image.Resampling.BICUBIC)).clip(0, None)
    scaled: NDArray[np.float32] = values / values.max()
    return scaled


def draw(number: int) -> ShownImage:
    """One image with its maps, seeds and masks, in the sizes of a page of `IMAGES`; as hard to compress as a photo."""
    rng = np.random.default_rng(number)
    side, cells = sizes(IMAGES * (len(MAPS) + len(LABELS)))
    size = (side, side * 3 // 4)
    pixels = 255 * np.stack([field(rng, 6, size) * 0.6 + field(rng, 60, size) * 0.4 for _ in range(3)], axis=-1)
    columns = sorted(rng.choice(len(CLASSES), 1 + number % 2, replace=False).tolist())
    labels = partial(_labels, rng, columns, size)
    panels = [Panel("photo", "image", "photo"), Panel("truth", "truth", "mask drawn by hand", labels(void=True))]
    for stage in MAPS:
        maps = quantised(np.stack([field(rng, 5, (cells, cells * 3 // 4)) for _ in columns]), cells)
        panels += [
            Panel("map", f"{stage}: {CLASSES[c]}", f"map of {CLASSES[c]}", (Layer(map_uri(m)),), stage, c)
            for c, m in zip(columns, maps, strict=True)
        ]
        panels.append(Panel("seeds", "0.30", f"seeds of {stage}", labels(), stage))
    panels += [Panel("labels", stage, stage, labels(void="refined" in stage)) for stage in LABELS]
    photo = data_uri(Image.fromarray(pixels.astype(np.uint8)), side)
    return ShownImage(f"image {number}", "random, seed 0", photo, *size, tuple(panels))


def _labels(
    rng: np.random.Generator, columns: Sequence[int], size: tuple[int, int], void: bool = False
) -> tuple[Layer, ...]:
    """Layers of a label image with a blob for each class, and void around them or not."""
    labels = np.zeros((size[1], size[0]), np.uint8)
    for column in columns:
        values = field(rng, 5, size)
        if void:
            labels[(values > 0.6) & (labels == 0)] = IGNORE
        labels[values > 0.7] = column + 1
    layers = tuple(Layer(class_uri(labels, c + 1), c) for c in columns)
    return (Layer(ignored_uri(labels)), *layers) if void else layers


def page(out: Path) -> tuple[int, int]:
    """Write the page and return how many pictures it has, and its bytes."""
    shown = tuple(draw(number) for number in range(IMAGES))
    part = SplitPart("train", 0, IMAGES, (), shown=shown)
    thresholds = dict.fromkeys(MAPS, 0.3)
    run = RunPart("drawn", "500 images", "drawn", CLASSES, ("tags",), (0,), (part,), thresholds)
    render_page([run], out)
    return sum(len(s.panels) for s in shown), out.stat().st_size


def opened(browser: str, path: Path) -> float:
    """Seconds until a new browser has opened the page.

    Raises:
        RuntimeError: the page did not open.
    """
    with tempfile.TemporaryDirectory() as profile:
        command = [browser, *FLAGS, f"--user-data-dir={profile}", path.as_uri()]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    found = re.search(r'<p id="opened">([\d.]+)</p>', shown)
    if not found:
        raise RuntimeError(f"{path} did not open in {browser}")
    return float(found[1]) / 1000


def measure() -> PageRow:
    """The page of 500 images in Chromium.

    Raises:
        RuntimeError: there is no Chromium, or the page did not open.
    """
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        raise RuntimeError("no Chromium on the path: apt install chromium")
    version = subprocess.run([browser, "--version"], capture_output=True, text=True, check=True).stdout
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "page.html"
        pictures, size = page(path)
        path.write_text(path.read_text(encoding="utf-8").replace("</body>", PROBE), encoding="utf-8")
        empty = Path(folder) / "empty.html"
        empty.write_text(f"<!doctype html><title>empty</title><body>{PROBE}", encoding="utf-8")
        pairs = [(opened(browser, path), opened(browser, empty)) for _ in range(RUNS + 1)]
    times = [full - start for full, start in pairs[1:]]  # the first one reads the browser from the disk
    whole = statistics.median(full for full, _ in pairs[1:])
    name = re.match(r"\w+ [\d.]+", version)
    return PageRow(
        IMAGES, pictures, size / 1e6, statistics.median(times), min(times), max(times), whole, RUNS,
        name[0] if name else version.strip(), cpu_name(),
    )  # fmt: skip


if __name__ == "__main__":
    row = measure()
    write_rows(RESULTS / "report.csv", [row])
    print(f"{row.images} images: {row.megabytes:.1f} MB, open in {row.seconds_median:.2f} s ({row.browser})")
