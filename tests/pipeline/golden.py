"""What each kind of stage gives on tiny runs, in a few numbers; ``python -m tests.pipeline.golden`` records them."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from tag2mask.api import run
from tag2mask.core.arrays import read_arrays
from tag2mask.core.palette import read_labels
from tag2mask.evaluation.result_tables import read_metrics
from tag2mask.methods.artefact import FewMasks
from tag2mask.methods.stage_kinds import Makes
from tag2mask.pipeline.session import Done
from tests.helpers.drawn_maps import few_masks_recipe, registered
from tests.helpers.tiny import tiny_run

RECORD = Path(__file__).with_name("golden.json")
RECIPES = ("demo", "drawn")
"""Together they have every kind of stage. In the second one maps come from the truth, so that no label hangs on how a
processor rounds a training."""
IRN: dict[str, dict[str, Any]] = {
    "irn": {
        "kind": "irn",
        "reads": {"seeds": "refined"},
        "backbone": {"name": "test_efficientnet", "weights": "none"},
        "train": {"epochs": 2, "batch_size": 4, "accumulate": 2, "crop": 48},
        "radius": 4,
    },
    "walk": {"kind": "irn-walk", "reads": {"irn": "irn", "maps": "maps"}},
    "amn": {
        "kind": "amn",
        "reads": {"seeds": "refined"},
        "backbone": {"name": "test_efficientnet", "weights": "none", "stride": 16},
        "train": {"epochs": 2, "batch_size": 4, "accumulate": 2, "crop": 48},
    },
    "amn-maps": {
        "kind": "amn-maps",
        "reads": {"amn": "amn", "seeds": "refined"},
        "normalise": "background-prior",
        "scales": [1.0, 0.5],
    },
    "amn-features": {"kind": "amn-features", "reads": {"amn": "amn"}},
    "segmenter": {
        "kind": "segmenter",
        "reads": {"masks": "masks"},
        "network": {"encoder": "test_efficientnet", "weights": "none"},
        "train": {"epochs": 2, "batch_size": 4, "accumulate": 2, "crop": 48},
    },
    "predictions": {"kind": "predictions", "reads": {"segmenter": "segmenter"}, "split": "train"},
    "boundary": {"kind": "boundary", "reads": {"masks": "masks"}},
    "rule": {"kind": "rule", "reads": {"maps": "maps"}},
    "rule-seeds": {"kind": "rule-seeds", "reads": {"maps": "maps", "seeds": "refined"}},
    "rule-agreement": {"kind": "rule-agreement", "reads": {"maps": "maps", "other": "amn-maps"}},
}
ASKED: dict[str, dict[str, Any]] = {
    "rule-classifier": {"kind": "rule-classifier", "reads": {"maps": "cam", "classifier": "classifier"}},
    "pixels": {"kind": "pixel-model", "reads": {"maps": "cam", "classifier": "classifier"}},
    "ground": {"kind": "background"},
}
"""Added to the demo, whose classifier the first two ask."""
_METRICS = {"miou", "map", "coverage", "precision_sure", "boundary_iou"}
_TELLING = 0.01
"""A label's share of an image below which a pixel more or less would show."""


def numbers(done: Done) -> dict[str, float]:
    """A few numbers that change when the output of a stage does."""
    folder, makes = done.artefact.path, done.stage.kind.makes
    if makes is Makes.MAPS:
        maps = [read_arrays(p)["maps"].astype(np.float64) for p in sorted((folder / "maps").glob("*.npz"))]
        return {f"mean of image {i}": float(m.mean()) for i, m in enumerate(maps[:4])}
    if makes is Makes.MASKS:
        labels = [read_labels(p) for p in sorted((folder / "masks").glob("*.png"))]
        every = [(i, v, float((m == v).mean())) for i, m in enumerate(labels[:4]) for v in np.unique(m)]
        return {f"share of {v} in image {i}": share for i, v, share in every if share > _TELLING}
    if makes is Makes.THRESHOLD:
        chosen = done.artefact.threshold()
        return {"value": chosen.value} | ({"miou": chosen.miou} if isinstance(chosen, FewMasks) else {})
    if makes is Makes.BACKGROUND:
        decided = done.artefact.decided()
        return {"none": float(decided.background == "none"), **decided.scores}
    if makes is Makes.METRICS:
        rows = read_metrics(folder / "metrics.jsonl")
        return {f"{r.metric} {r.threshold_kind}": r.value for r in rows if r.metric in _METRICS and r.value}
    tensors = {n: t.astype(np.float64) for p in folder.glob("*.safetensors") for n, t in load_file(p).items()}
    telling = {n: t for n, t in sorted(tensors.items()) if t.ndim >= 2 or n.endswith("scores")}
    return {n: float(np.abs(t).mean()) for n, t in [*telling.items()][:: max(1, len(telling) // 8)]}


def observe(folder: Path, recipe: str) -> dict[str, dict[str, object]]:
    """Version and numbers of each stage of a tiny run below ``folder``."""
    if recipe == "drawn":
        with registered():
            path = few_masks_recipe(folder, IRN)
            leave = "allow_supervision=[tags,pixel-masks:threshold(3)]"
            stages = run(str(path), leave, out=folder / "runs" / "run").stages
    else:
        added = (f"stages.{name}={json.dumps(spec)}" for name, spec in ASKED.items())
        stages = tiny_run(folder, *added, recipe=recipe).stages
    return {d.stage.name: {"version": d.stage.kind.version, "numbers": numbers(d)} for d in stages}


def main() -> None:
    """Record what there is now."""
    with tempfile.TemporaryDirectory() as name:
        found = {}
        for recipe in RECIPES:
            (Path(name) / recipe).mkdir()
            found[recipe] = observe(Path(name) / recipe, recipe)
    RECORD.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
