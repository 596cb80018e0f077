"""What each kind of stage gives on a tiny run, in a few numbers; ``python -m tests.pipeline.golden`` records them."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from tag2mask.evaluation.rows import read_metrics
from tag2mask.pipeline.api import RunResult
from tag2mask.pipeline.session import Done
from tests.helpers.tiny import tiny_run

RECORD = Path(__file__).with_name("golden.json")


def numbers(done: Done) -> dict[str, float]:
    """A few numbers that change when the output of a stage does."""
    folder, makes = done.artefact.path, done.stage.kind.makes
    if makes == "maps":
        maps = [np.load(p)["maps"].astype(np.float64) for p in sorted((folder / "maps").glob("*.npz"))]
        return {f"mean of image {i}": float(m.mean()) for i, m in enumerate(maps[:4])}
    if makes == "metrics":
        rows = read_metrics(folder / "metrics.jsonl")
        return {f"{r.metric} {r.threshold_kind}": r.value for r in rows if r.metric in {"miou", "map"} and r.value}
    tensors = {n: t.astype(np.float64) for p in folder.glob("*.safetensors") for n, t in load_file(p).items()}
    telling = {n: t for n, t in sorted(tensors.items()) if t.ndim >= 2 or n.endswith("scores")}
    return {n: float(np.abs(t).mean()) for n, t in [*telling.items()][:: max(1, len(telling) // 8)]}


def observe(result: RunResult) -> dict[str, dict[str, object]]:
    """Version and numbers of each stage of a run."""
    return {d.stage.name: {"version": d.stage.kind.version, "numbers": numbers(d)} for d in result.stages}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        RECORD.write_text(json.dumps(observe(tiny_run(Path(folder))), indent=1) + "\n")
