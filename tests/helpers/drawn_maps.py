"""A method for tests: maps drawn from the truth, so that what comes after maps can be tested without a network."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from torch.nn import functional as F

from tag2mask.config.settings import Settings
from tag2mask.core.types import ActivationMaps, Sample
from tag2mask.methods.context import ImageProgram, StageContext
from tag2mask.methods.registry import METHODS, register_method
from tag2mask.methods.stage_kinds import ImageStage, Makes
from tests.helpers.draw import draw_folder


class DrawnSettings(Settings):
    """How the truth is blurred."""

    blur: int = 2


def program(context: StageContext[DrawnSettings]) -> ImageProgram:
    """A map is the share of its class in each cell, blurred over ``2 blur + 1`` cells; maximum 1, or all 0."""
    dataset = context.dataset

    def prepare(sample: Sample) -> tuple[tuple[int, ...], NDArray[np.uint8]]:
        truth = dataset.truth(sample)
        assert truth is not None
        return sample.tags, truth

    return ImageProgram(prepare, partial(compute, context.settings.blur), pooled=True)


def compute(blur: int, inputs: Any) -> list[ActivationMaps]:
    """Maps of a list of (tags, truth)."""
    return [_maps(blur, *pair) for pair in inputs]


def _maps(blur: int, tags: tuple[int, ...], truth: NDArray[np.uint8]) -> ActivationMaps:
    masks = torch.from_numpy(np.stack([truth == t + 1 for t in tags] or [truth == 99])).float()[None]
    cells = F.avg_pool2d(masks, 4, ceil_mode=True)
    maps = F.avg_pool2d(cells, 2 * blur + 1, 1, blur)[0][: len(tags)]
    peaks = maps.flatten(1).amax(1).clamp_min(1e-9)[:, None, None] if len(tags) else 1  # 0 under a wrong tag
    return ActivationMaps(tags, maps / peaks)


KINDS = (
    ImageStage(
        name="drawn-maps",
        makes=Makes.MAPS,
        settings=DrawnSettings,
        may_read={"threshold": Makes.THRESHOLD},
        runner=f"{__name__}:program",
    ),
)


@contextmanager
def registered() -> Iterator[None]:
    """The kind ``drawn-maps``, for as long as it is needed."""
    register_method(__name__)
    try:
        yield
    finally:
        METHODS.remove(__name__)


@pytest.fixture(autouse=True, scope="module")
def drawn_maps_kind() -> Iterator[None]:
    """The kind ``drawn-maps`` while the tests of a module run; for every module that imports this."""
    with registered():
        yield


def copy_of(run: Path, folder: Path) -> Path:
    """A finished run again, with its store, to be damaged."""
    shutil.copytree(run.parent, folder / "runs", symlinks=True)
    return folder / "runs" / run.name


def few_masks_recipe(folder: Path, changes: Mapping[str, Mapping[str, Any]] | None = None, n: int = 12) -> Path:
    """A recipe on ``n`` drawn images from maps to masks, with thresholds of three masks; no stage is trained.

    Args:
        folder: for the data, drawn once, and the recipe.
        changes: stage -> settings that differ.
        n: images.
    """
    if not (folder / "data").exists():
        draw_folder(folder / "data", n)
    reads = {"maps": "maps", "threshold": "few"}
    stages: dict[str, dict[str, Any]] = {
        "maps": {"kind": "drawn-maps"},
        "few": {"kind": "few-masks", "reads": {"maps": "maps"}, "n": 3},
        "maps-seeds": {"kind": "seeds", "reads": reads, "threshold": 0.2},
        "crf": {"kind": "seed-crf", "reads": reads},
        "crf-score": {"kind": "masks", "reads": {"masks": "crf"}},
        "refined": {"kind": "refined-seeds", "reads": reads},
        "refined-score": {"kind": "masks", "reads": {"masks": "refined"}, "unsure": True},
        "masks": {"kind": "pseudo-masks", "reads": reads},
        "masks-score": {"kind": "masks", "reads": {"masks": "masks"}},
    }
    for name, change in (changes or {}).items():
        stages[name] = {**stages.get(name, {}), **change}
    recipe = {
        "name": "drawn",
        "data": {"kind": "folder", "root": str(folder / "data"), "tags": "tags.csv", "images": "images", "val": None},
        "engine": {"device": "cpu", "threads": 1},
        "allow_supervision": ["tags"],
        "stages": stages,
    }
    path = folder / "drawn.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    return path
