"""Raw scores in a run: whoever cuts maps may read them, and what does not fit is found before anything is made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from tag2mask.api import run
from tag2mask.core.errors import ConfigError, StageError
from tag2mask.core.resize import bilinear
from tag2mask.data.base import Dataset
from tag2mask.data.registry import load_dataset
from tag2mask.evaluation.background import CONSTANT
from tag2mask.methods.artefact import Artefact
from tests.helpers.refused import refused
from tests.helpers.seam_kinds import registered

DATA = {"images": 4, "size": 64}
RAW = {"scores": "raw"}
STAGES: Mapping[str, Any] = {
    "glow": {"kind": "glow"},
    "seeds": {"kind": "seeds", "reads": {"maps": "glow"}, "threshold": 0.2, **RAW},
    "masks": {"kind": "pseudo-masks", "reads": {"maps": "glow"}, "threshold": 0.2, **RAW},
    "plain": {"kind": "pseudo-masks", "reads": {"maps": "glow"}, "threshold": 0.2},
    "rule": {"kind": "rule", "reads": {"maps": "glow"}, "per": "class", **RAW},
    "few": {"kind": "few-masks", "reads": {"maps": "glow"}, "n": 2, **RAW},
    "by-rule": {"kind": "pseudo-masks", "reads": {"maps": "glow", "threshold": "rule"}, **RAW},
    "crf": {"kind": "seed-crf", "reads": {"maps": "glow", "threshold": "few"}, **RAW},
    "refined": {"kind": "refined-seeds", "reads": {"maps": "glow"}, **RAW},
}


@pytest.fixture(autouse=True, scope="module")
def kinds() -> Iterator[None]:
    with registered():
        yield


@pytest.fixture(scope="module")
def saliency(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A smooth sidecar of each scene."""
    folder = tmp_path_factory.mktemp("saliency")
    dataset = load_dataset("parts", None, "train", **DATA)
    for number, sample in enumerate(dataset.samples):
        width, height = dataset.image(sample).size
        rows, columns = np.mgrid[:height, :width] / 63
        Image.fromarray((255 * (rows + columns * (number + 1) / 4) / 2).astype(np.uint8)).save(
            folder / f"{sample.id}.png"
        )
    return folder


def recipe(folder: Path, stages: Mapping[str, Any], saliency: Path | None) -> Path:
    data = {"kind": "parts", **DATA} | ({"sidecars": {"saliency": str(saliency)}} if saliency else {})
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump({"name": "own", "data": data, "stages": stages}))
    return path


def make(folder: Path, stages: Mapping[str, Any], saliency: Path | None = None) -> dict[str, Artefact]:
    path = recipe(folder, stages, saliency)
    result = run(str(path), "engine.device=cpu", "engine.workers=0", out=folder / "runs" / "own")
    return {done.stage.name: done.artefact for done in result.stages}


def opened(saliency: Path) -> Dataset:
    return load_dataset("parts", None, "train", **DATA, sidecars={"saliency": saliency})


def test_raw_scores_are_cut_where_a_stage_says_so(tmp_path: Path, saliency: Path) -> None:
    found, dataset = make(tmp_path, STAGES, saliency), opened(saliency)
    differ = 0
    for sample in dataset.samples:
        maps = found["glow"].maps(dataset, sample)
        assert maps.raw is not None
        raw = found["glow"].maps(dataset, sample, "raw")
        assert torch.equal(raw.maps, maps.raw)
        height, width = dataset.image(sample).size[::-1]

        def cut(values: torch.Tensor, level: Any, size: tuple[int, int] = (height, width)) -> Any:
            return CONSTANT.labels(bilinear(values, *size).numpy(), maps.classes, level)  # noqa: B023

        assert np.array_equal(found["masks"].labels(dataset, sample), cut(maps.raw, 0.2))
        assert np.array_equal(found["plain"].labels(dataset, sample), cut(maps.maps, 0.2))
        differ += not np.array_equal(cut(maps.raw, 0.2), cut(maps.maps, 0.2))
        level = found["rule"].threshold().as_threshold().of(sample.id, maps.classes)
        assert np.array_equal(found["by-rule"].labels(dataset, sample), cut(maps.raw, level))
    assert differ
    assert found["seeds"].settings.scores == "raw"


MAPS = {"glow": {"kind": "glow"}, "brightness": {"kind": "brightness"}}


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        (
            {"seeds": {"kind": "seeds", "reads": {"maps": "brightness"}, **RAW}},
            "'seeds' … scores = raw … 'brightness' … set seeds.scores=normalised",
        ),
        (
            {"rule": {"kind": "rule", "reads": {"maps": "brightness"}, **RAW}},
            "'rule' … scores = raw … 'brightness' … set rule.scores=normalised",
        ),
        (
            {
                "rule": {"kind": "rule", "reads": {"maps": "glow"}, **RAW},
                "masks": {"kind": "pseudo-masks", "reads": {"maps": "glow", "threshold": "rule"}},
            },
            "'masks' … scores = normalised … 'rule' … raw … set masks.scores=raw or rule.scores=normalised",
        ),
        (
            {
                "classifier": {"kind": "classifier"},
                "cam": {"kind": "cam", "reads": {"classifier": "classifier"}},
                "refined": {"kind": "refined-seeds", "reads": {"maps": "cam"}, **RAW},
            },
            "'refined' … scores = raw … 'cam' … set cam.raw=true … refined.scores=normalised",
        ),
    ],
)
def test_what_does_not_fit_is_found_before_anything_is_made(
    tmp_path: Path, saliency: Path, stages: Mapping[str, Any], message: str
) -> None:
    with refused(ConfigError, *message.split(" … ")):
        make(tmp_path, {**MAPS, **stages}, saliency)
    assert not list(tmp_path.glob("runs/.store/*-*")), "nothing was made"


def test_maps_of_before_have_no_raw_scores(tmp_path: Path, saliency: Path) -> None:
    found, dataset = make(tmp_path, MAPS, saliency), opened(saliency)
    sample = next(s for s in dataset.samples if s.tags)
    with refused(StageError, f"'{sample.id}'", "'brightness'", "brightness.raw=true", "scores=normalised"):
        found["brightness"].maps(dataset, sample, "raw")
