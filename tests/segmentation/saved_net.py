"""A tiny real network, and a run folder as a finished run leaves it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml

from tag2mask.core.files import write_json, write_text
from tag2mask.evaluation.result_tables import MetricRow, write_metrics
from tag2mask.segmentation.networks.base import Segmenter
from tag2mask.segmentation.networks.factory import build_segmenter, save_segmenter
from tag2mask.segmentation.settings import NetworkSettings

CLASSES = ("disc", "square")


def tiny(seed: int = 0) -> Segmenter:
    """A network with random weights that runs in milliseconds."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_segmenter(NetworkSettings(encoder="test_efficientnet", weights="none"), len(CLASSES)).eval()


def write_run(run: Path, stages: dict[str, Any], nets: dict[str, Segmenter], seeds: tuple[int, ...] = (0,)) -> Path:
    """A run folder: recipe, the stages of ``nets`` as finished, two measured numbers."""
    recipe = {
        "name": "own-data",
        "data": {"kind": "folder", "root": "/" + "home/me/secret", "train": "train"},
        "seeds": list(seeds),
        "stages": stages,
    }
    write_text(run / "recipe.yaml", yaml.safe_dump(recipe, sort_keys=False))
    for name, net in nets.items():
        save_segmenter(net, run / name / "weights.safetensors", CLASSES)
        write_json(run / name / "manifest.json", {"ledger": ["tags"], "n_images": 12})
    row = MetricRow("predictions", "predictions", "val", 7, "miou", 41.26, None, "none", 0, "2024-01-01T00:00:00Z")
    beside = [replace(row, metric=m, value=v) for m, v in (("miou_foreground", 30.2), ("f1_foreground", 46.1))]
    crf = MetricRow("crf", "crf", "val", 7, "miou", 43.0, None, "none", 0, "2024-01-01T00:00:00Z")
    other = MetricRow("cam", "cam", "train", 12, "miou", 30.0, None, "none", 0, "2024-01-01T00:00:00Z")
    write_metrics(run / "metrics.jsonl", [row, *beside, crf, other])
    return run


STAGES: dict[str, Any] = {
    "pseudo": {"kind": "pseudo-masks"},
    "segmenter": {"kind": "segmenter", "reads": {"masks": "pseudo"}},
    "predictions": {"kind": "predictions", "reads": {"segmenter": "segmenter"}},
    "crf": {"kind": "predictions", "reads": {"segmenter": "segmenter"}, "scales": [0.5, 1.0], "crf": "deeplabv2"},
}
