"""Raw scores in a run: whoever cuts maps may read them, and what does not fit is found before anything is made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch.nn.functional import avg_pool2d

from tag2mask.api import run
from tag2mask.config.settings import validate
from tag2mask.core.errors import ConfigError, DataError, StageError
from tag2mask.core.resize import bilinear
from tag2mask.data.base import Dataset
from tag2mask.data.registry import load_dataset
from tag2mask.data.sidecars import read_sidecar
from tag2mask.evaluation.background import CONSTANT
from tag2mask.inference.maps_file import stride4
from tag2mask.methods.artefact import Artefact, Ruled
from tag2mask.thresholds.by_scores import check_data, read_choices
from tag2mask.thresholds.kinds import RuleSettings
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


def test_a_rule_of_raw_scores_gives_each_class_its_threshold_and_the_reason(tmp_path: Path, saliency: Path) -> None:
    """The midpoint of a slow reference; classes that every image has, or none, have a reason in its place."""
    stages = {
        "glow": {"kind": "glow"},
        "rule": {"kind": "rule", "reads": {"maps": "glow"}, "rule": "midpoint", "per": "class", "share": 0.1, **RAW},
    }
    found, dataset = make(tmp_path, stages, saliency), opened(saliency)
    ruled = found["rule"].threshold()
    assert isinstance(ruled, Ruled)
    choices = read_choices(found["rule"].path)
    assert ruled.classes == tuple((name, choices[name].value) for name in dataset.classes)
    assert (ruled.n, ruled.rule, ruled.per) == (len(dataset), "midpoint", "class")
    compared = 0
    for column, name in enumerate(dataset.classes):
        with_it: list[float] = []
        without: list[float] = []
        for sample in dataset.samples:
            grey = read_sidecar(dataset, sample, "saliency")
            score = bilinear(torch.from_numpy(grey)[None], *stride4(*grey.shape))[0] ** (column + 2)
            own = score if column in sample.tags else avg_pool2d(score[None, None], 2, ceil_mode=True)[0, 0]
            top = own.flatten().sort(descending=True).values[: max(1, round(0.1 * own.numel()))]
            (with_it if column in sample.tags else without).append(float(top.mean()))
        choice = choices[name]
        if not with_it:
            assert choice.value is None
            assert "no image has it" in choice.why
        elif len(without) < 3:
            assert choice.rule == "otsu"
            assert choice.why.startswith("midpoint abstains")
        elif np.mean(with_it) > np.mean(without) + 0.02:
            assert choice.value == pytest.approx((np.mean(with_it) + np.mean(without)) / 2, abs=0.01)
            assert choice.rule == "midpoint"
            compared += 1
    assert compared, "some class has images with it and without it"


def test_what_tags_do_not_tell_is_said_before_anything_is_made(
    tmp_path: Path, saliency: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rule = {"kind": "rule", "reads": {"maps": "glow"}, "rule": "compared", "per": "class", **RAW}
    dataset = opened(saliency)
    counts = np.zeros(len(dataset.classes), int)
    for sample in dataset.samples:
        counts[list(sample.tags)] += 1
    make(tmp_path, {"glow": {"kind": "glow"}, "rule": rule}, saliency)
    once = ", ".join(f"'{name}'" for name, n in zip(dataset.classes, counts, strict=True) if n == 1)
    assert f"one image alone of split 'train' has {once}" in caplog.text
    named = SimpleNamespace(
        split="all", classes=("a", "b"), samples=[SimpleNamespace(tags=(0,)), SimpleNamespace(tags=(0, 1))]
    )
    settings = RuleSettings(rule="compared", per="class", scores="raw")
    first, second = check_data(settings, named)  # type: ignore[arg-type]
    assert "every image of split 'all' has 'a'" in first
    assert "'otsu' takes its place" in first
    assert "has 'b'" in second
    untagged = SimpleNamespace(split="all", classes=("a",), samples=[SimpleNamespace(tags=())])
    with refused(DataError, "'all'", "tag"):
        check_data(settings, untagged)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"rule": "midpoint"}, ("rule.rule", "midpoint", "scores=raw", "per=class")),
        ({"rule": "moments", "per": "class", "scores": "raw"}, ("moments", "midpoint")),
        ({"rule": "otsu", "per": "class", "scores": "raw", "fallback": "moment"}, ("moment", "midpoint")),
        ({"share": 0}, ("rule.share", "0")),
        ({"quantile": 1.5}, ("rule.quantile", "1.5")),
    ],
)
def test_settings_that_do_not_go_together(changes: dict[str, Any], parts: tuple[str, ...]) -> None:
    with refused(ConfigError, *(part for part in parts if not part.startswith("rule.r"))):
        validate(RuleSettings, changes, "rule")


def test_images_that_are_all_alike_have_no_threshold(tmp_path: Path) -> None:
    folder = tmp_path / "flat"
    folder.mkdir()
    dataset = load_dataset("parts", None, "train", **DATA)
    for sample in dataset.samples:
        Image.new("L", dataset.image(sample).size, 128).save(folder / f"{sample.id}.png")
    rule = {"kind": "rule", "reads": {"maps": "glow"}, "rule": "compared", "per": "class", **RAW}
    with refused(DataError, "rule: rule 'compared'", "'glow'", "4 images", "Set a fixed threshold"):
        make(tmp_path, {"glow": {"kind": "glow"}, "rule": rule}, folder)
