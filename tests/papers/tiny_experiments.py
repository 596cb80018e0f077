"""Experiments small enough for tests: the papers' experiments with a toy network on drawn scenes."""

from __future__ import annotations

from pathlib import Path

from tag2mask.papers.catalogue import experiment
from tag2mask.papers.run import ExperimentResult, Options, run_experiment
from tests.helpers.tiny import TINY_STAGES, tiny_overrides

SCENES = ("data=parts", "data.images=8", "data.size=64")
_ADDED = {"segmenter": "segmenter", "predictions": "predictions"}
"""Stages that experiments add to a recipe, and their kinds."""


def tiny_words(name: str) -> list[str]:
    """Overrides that make the stages of an experiment run in seconds."""
    found: list[str] = []
    for ref in experiment(name).refs("light").values():
        found += [word for word in tiny_overrides(ref.variant.recipe) if not word.startswith("data.")]
        added = [stage for stage in _ADDED if any(w.startswith(f"stages.{stage}=") for w in ref.variant.overrides)]
        found += [f"{stage}.{word}" for stage in added for word in TINY_STAGES[_ADDED[stage]]]
    swept = {axis.setting for axis in experiment(name).axes}
    return [word for word in dict.fromkeys(found) if word.partition("=")[0] not in swept]


def tiny_experiment(
    name: str, folder: Path, *words: str, seeds: int = 1, images: tuple[str, ...] = (), scenes: bool = True
) -> ExperimentResult:
    """Run an experiment on eight drawn scenes, or on what the words name; those in one folder share their store."""
    data = SCENES if scenes and experiment(name).refs("light") else ()  # a toy has none
    options = Options((*data, *tiny_words(name), *words), seeds=seeds, out=folder / "runs" / name, images=images)
    return run_experiment(name, options)
