"""Runs small enough for tests: every shipped recipe and every reader, with a toy network and drawn data."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tag2mask.api import run
from tag2mask.config.recipe import load_recipe
from tag2mask.core.links import followed, links_in
from tag2mask.pipeline.run_result import RunResult
from tests.helpers.draw import draw_coco, draw_folder, draw_voc

TINY_NETWORK = [
    "classifier.backbone.name=test_efficientnet",
    "classifier.backbone.weights=none",
    "classifier.backbone.stride=8",
    "classifier.backbone.detach_after=null",
    "classifier.train.epochs=2",
    "classifier.train.batch_size=4",
    "classifier.train.accumulate=2",
    "classifier.train.crop=48",
    "classifier.train.long_side=[40,64]",
    "engine.device=cpu",
    "engine.threads=1",
    "engine.workers=0",
]
"""Overrides that every recipe with a classifier takes."""

TINY_STAGES: dict[str, list[str]] = {
    "prototypes": ["n_prototypes=3", "tau=0.3"],
    "few-masks": ["n=2"],
    "irn": [
        "backbone.name=test_efficientnet",
        "backbone.weights=none",
        "backbone.stride=8",
        "train.epochs=1",
        "train.batch_size=4",
        "train.accumulate=2",
        "train.crop=48",
        "radius=4",
    ],
    "amn": [
        "backbone.name=test_efficientnet",
        "backbone.weights=none",
        "backbone.stride=8",
        "backbone.detach_after=null",
        "train.epochs=1",
        "train.batch_size=4",
        "train.accumulate=2",
        "train.crop=48",
    ],
    "irn-walk": ["radius=3", "log2_steps=4"],
    "segmenter": [
        "network.kind=fpn",
        "network.encoder=test_efficientnet",
        "network.weights=none",
        "network.pretrained=null",
        "train.epochs=1",
        "train.iterations=null",
        "train.warmup=0",
        "train.batch_size=4",
        "train.accumulate=2",
        "train.crop=48",
        "train.fit=null",
    ],
    "predictions": ["fit=null"],
}
"""Overrides of each stage of a kind."""


def draw_augmented_voc(root: Path) -> None:
    """VOC with the list ``train_aug``: all of ``train`` and as many more, as SBD augments it."""
    draw_voc(root, splits=("train", "val", "more"))
    lists = root / "ImageSets" / "Segmentation"
    (lists / "train_aug.txt").write_text("".join((lists / f"{n}.txt").read_text() for n in ("train", "more")))


DRAW: dict[str, Callable[[Path], object] | None] = {
    "voc": draw_augmented_voc,
    "coco": lambda root: draw_coco(root, year=2014),
    "folder": draw_folder,
    "parts": None,
}
"""How data for each reader is drawn; None for one that draws its own."""


def tiny_overrides(recipe: str, root: Path | None = None) -> list[str]:
    """Overrides that make a shipped recipe run in seconds on data drawn at ``root``.

    Args:
        recipe: its name or path.
        root: where data has been drawn; None for a kind that draws its own.
    """
    loaded = load_recipe(recipe)
    words = list(TINY_NETWORK)
    for name, spec in loaded.stages.items():
        words += [f"{name}.{word}" for word in TINY_STAGES.get(spec["kind"], [])]
        if spec.get("backbone", {}).get("levels"):  # they keep the network's own strides
            words += [f"{name}.backbone.{word}" for word in ("stride=null", "join_channels=16")]
        if spec.get("train", {}).get("min_steps"):
            words.append(f"{name}.train.min_steps=2")
        if "scales" in spec:
            words.append(f"{name}.scales=[1.0,0.5]")
        if spec.get("normalise") == "learned":  # a network of one epoch has learned no background: all would be unsure
            words.append(f"{name}.normalise=minmax")
        if spec["kind"] == "few-masks":
            words.append("allow_supervision=[tags,pixel-masks:threshold(2)]")
    if loaded.data["kind"] == "parts":
        words += ["data.images=8", "data.size=64"]
    if loaded.data["kind"] == "folder":
        words += ["data.tags=tags.csv", "data.images=images"]
    if loaded.data.get("min_side"):  # drawn images are small so that runs are short
        words.append("data.min_side=null")
    if root is not None:
        words.append(f"data.root={root}")
    return words


def tiny_run(tmp: Path, *overrides: str, out: str = "run", recipe: str = "demo") -> RunResult:
    """Run a recipe on tiny data of its own kind (drawn below ``tmp``) with more overrides."""
    return run(recipe, *tiny_overrides(recipe, drawn(tmp, recipe)), *overrides, out=tmp / "runs" / out)


def drawn(tmp: Path, recipe: str) -> Path | None:
    """Draw data of the recipe's kind below ``tmp``, once; None for a kind that draws its own."""
    kind = str(load_recipe(recipe).data["kind"])
    draw = DRAW[kind]
    if draw is None:
        return None
    root = tmp / kind
    if not root.exists():
        draw(root)
    return root


def files_of(run_folder: Path) -> dict[str, str]:
    """SHA-256 of every file that a run's stages have made; manifests and times left out."""
    found = {}
    for link in links_in(run_folder):
        folder = followed(link).resolve()
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.name not in {"manifest.json", "metrics.jsonl", "trivial.jsonl"}:
                name = f"{link.name}/{path.relative_to(folder)}"
                found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def python(code: str, *words: str, timeout: float = 300, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in another Python, offline and with one thread, as the tests' own process is."""
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **environment},
        check=False,
    )


def tag2mask(*words: str, timeout: float = 300, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line in another process."""
    return launch([sys.executable, "-m", "tag2mask", *words], timeout, cwd)


def launch(words: Sequence[str], timeout: float = 300, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command and catch what it prints."""
    return subprocess.run(words, capture_output=True, text=True, timeout=timeout, cwd=cwd, check=False)


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended but was not waited for does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
