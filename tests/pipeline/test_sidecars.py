"""Sidecars by role: what is made from them follows their contents, and a run says what is missing before it begins."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from tag2mask.api import run
from tag2mask.core.errors import DataError, LedgerError
from tag2mask.core.resize import bilinear
from tag2mask.data.base import Dataset
from tag2mask.data.registry import load_dataset
from tag2mask.evaluation.metrics import SegmentationMetrics
from tag2mask.inference.raw_scores import halved
from tag2mask.methods.artefact import Artefact
from tag2mask.pipeline.run_result import RunResult
from tests.helpers.refused import refused
from tests.helpers.seam_kinds import registered
from tests.helpers.tiny import files_of

MAPS: Mapping[str, Any] = {
    "glow": {"kind": "glow"},
    "glow-masks": {"kind": "pseudo-masks", "reads": {"maps": "glow"}},
    "glow-seeds": {"kind": "seeds", "reads": {"maps": "glow"}},
    "glow-tally": {"kind": "tally", "reads": {"maps": "glow"}},
    "brightness": {"kind": "brightness"},
    "plain-masks": {"kind": "pseudo-masks", "reads": {"maps": "brightness"}},
    "plain-seeds": {"kind": "seeds", "reads": {"maps": "brightness"}},
    "plain-tally": {"kind": "tally", "reads": {"maps": "brightness"}},
}
INSIDE = {"kind": "inside", "least": 0.4}
CUT: Mapping[str, Any] = {
    "brightness": {"kind": "brightness"},
    "few": {"kind": "few-masks", "reads": {"maps": "brightness"}, "n": 2, "background": INSIDE},
    "refined": {"kind": "refined-seeds", "reads": {"maps": "brightness"}, "background": INSIDE},
    "crf": {"kind": "seed-crf", "reads": {"maps": "brightness"}, "threshold": 0.4, "background": INSIDE},
    "masks": {"kind": "pseudo-masks", "reads": {"maps": "brightness"}, "threshold": 0.4, "background": INSIDE},
    "few-masks": {"kind": "pseudo-masks", "reads": {"maps": "brightness", "threshold": "few"}, "background": INSIDE},
    "seeds": {"kind": "seeds", "reads": {"maps": "brightness"}, "threshold": 0.4, "background": INSIDE},
}
DATA = {"images": 5, "size": 64}


@pytest.fixture(autouse=True, scope="module")
def kinds() -> Iterator[None]:
    with registered():
        yield


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A grey sidecar of each scene, in two folders."""
    folder, rng = tmp_path_factory.mktemp("sidecars"), np.random.default_rng(0)
    for sample in scenes().samples:
        size = scenes().image(sample).size[::-1]
        for role in ("saliency", "foreground"):
            (folder / role).mkdir(exist_ok=True)
            Image.fromarray(rng.integers(0, 256, size, np.uint8)).save(folder / role / f"{sample.id}.png")
    return folder


def scenes(**sidecars: Path) -> Dataset:
    return load_dataset("parts", None, "train", **DATA, sidecars=sidecars)


def made(folder: Path, stages: Mapping[str, Any], sidecars: Mapping[str, Path], **changes: Any) -> RunResult:
    recipe = {"name": "own", "data": {"kind": "parts", **DATA}, "stages": stages, **changes}
    if sidecars:
        recipe["data"]["sidecars"] = {role: str(path) for role, path in sidecars.items()}
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return run(str(path), "engine.device=cpu", "engine.workers=0", out=folder / "runs" / "own")


def artefacts(result: RunResult) -> dict[str, Artefact]:
    return {done.stage.name: done.artefact for done in result.stages}


def test_one_changed_file_remakes_its_image_and_what_was_made_from_it(tmp_path: Path, drawn: Path) -> None:
    folder = shutil.copytree(drawn / "saliency", tmp_path / "saliency")
    first = made(tmp_path, MAPS, {"saliency": folder})
    before, keys = files_of(first.path), {name: a.key for name, a in artefacts(first).items()}
    assert made(tmp_path, MAPS, {"saliency": folder}).stages[0].manifest.made == 5, "the first run's manifest stays"
    changed = folder / f"{scenes().samples[2].id}.png"
    Image.fromarray(255 - np.asarray(Image.open(changed))).save(changed)
    again = made(tmp_path, MAPS, {"saliency": folder})
    after = files_of(again.path)
    remade = {name: done.manifest.made for name, done in zip(artefacts(again), again.stages, strict=True)}
    assert (remade["glow"], remade["glow-masks"]) == (1, 1)
    assert {name for name, digest in after.items() if before.get(name) != digest} >= {
        f"glow/maps/{changed.stem}.npz", f"glow-masks/masks/{changed.stem}.png", "glow-tally/tally.json",
    }  # fmt: skip
    same = {name for name in after if before.get(name) == after[name]}
    assert {name for name in after if name.startswith(("glow/maps", "glow-masks/masks"))} - same == {
        f"glow/maps/{changed.stem}.npz", f"glow-masks/masks/{changed.stem}.png",
    }  # fmt: skip
    new = {name for name, artefact in artefacts(again).items() if artefact.key != keys[name]}
    assert new == {"glow-seeds", "glow-tally"}, "made as a whole; nothing that does not use the sidecar"
    assert artefacts(again)["glow-masks"].sidecars == ("saliency",)
    assert artefacts(again)["plain-masks"].sidecars == ()


def test_a_kind_gives_raw_scores_beside_its_maps(tmp_path: Path, drawn: Path) -> None:
    stages = {name: MAPS[name] for name in ("glow", "brightness")}
    dataset = scenes(saliency=drawn / "saliency")
    found = artefacts(made(tmp_path, stages, {"saliency": drawn / "saliency"}))
    for sample in dataset.samples:
        maps = found["glow"].maps(dataset, sample)
        assert maps.raw is not None
        expected = maps.maps ** torch.tensor([[[c + 2.0]] for c in sample.tags])
        halves = halved(expected)
        whole = bilinear(halves, 2 * halves.shape[1], 2 * halves.shape[2])[:, : expected.shape[1], : expected.shape[2]]
        torch.testing.assert_close(maps.raw, whole, atol=5e-3, rtol=0)
        assert found["brightness"].maps(dataset, sample).raw is None


@pytest.mark.parametrize(
    ("take", "message"),
    [
        ("all", "'glow' … 'saliency' … set data.sidecars.saliency=FOLDER"),
        ("one", "'glow' … 'saliency' … 1 of 5 images … split 'train' … 'train-00003' … add train-00003.png"),
        ("folder", "data.sidecars.saliency = … : there is no folder"),
    ],
)  # fmt: skip
def test_what_is_missing_is_said_before_anything_is_made(tmp_path: Path, drawn: Path, take: str, message: str) -> None:
    folder = shutil.copytree(drawn / "saliency", tmp_path / "saliency")
    if take == "folder":
        shutil.rmtree(folder)
    elif take == "one":
        (folder / "train-00003.png").unlink()
    with refused(DataError, message):
        made(tmp_path, MAPS, {} if take == "all" else {"saliency": folder})
    assert not list((tmp_path / "runs").rglob("*.npz"))


def test_a_rule_of_ones_own_is_what_every_stage_cuts_by(tmp_path: Path, drawn: Path) -> None:
    allowed = ["tags", "saliency", "pixel-masks:threshold(2)"]
    result = made(tmp_path, CUT, {"foreground": drawn / "foreground"}, allow_supervision=allowed)
    found, dataset = artefacts(result), scenes(foreground=drawn / "foreground")
    few = json.loads((found["few"].path / "threshold.json").read_text())
    at = {t: SegmentationMetrics(dataset.classes) for t in (0.4, *(i / 100 for i in range(101)))}
    chosen = {t: SegmentationMetrics(dataset.classes) for t in at}
    for sample in dataset.samples:
        truth, stored = dataset.truth(sample), found["brightness"].maps(dataset, sample)
        assert truth is not None
        maps = stored.resize(*truth.shape).maps.numpy()
        side = np.asarray(Image.open(drawn / "foreground" / f"{sample.id}.png"), np.float32) / 255
        columns = np.array(stored.classes, np.uint8) + 1

        def expected(level: float) -> np.ndarray[Any, np.dtype[np.uint8]]:
            inside = (side >= np.float32(0.4)) & (maps.max(0) > np.float32(level))  # noqa: B023
            return np.where(inside, columns[maps.argmax(0)], np.uint8(0))  # noqa: B023

        assert (found["masks"].labels(dataset, sample) == expected(0.4)).all()
        assert (found["few-masks"].labels(dataset, sample) == expected(few["value"])).all()
        for threshold, metrics in at.items():
            metrics.update(expected(threshold), truth)
            if sample.id in few["ids"]:
                chosen[threshold].update(expected(threshold), truth)
        crf = found["crf"].labels(dataset, sample)
        assert set(np.unique(crf)) <= {0, *columns}
    miou = {t: metrics.compute().miou for t, metrics in at.items()}
    rows = {(r.threshold_kind, r.threshold): r.value for r in result.metrics if r.metric == "miou"}
    assert rows[("fixed", 0.4)] == pytest.approx(miou[0.4], abs=1e-4)
    assert rows[("oracle", max(miou, key=lambda t: (miou[t], -t)))] == pytest.approx(max(miou.values()), abs=1e-4)
    best = max(chosen, key=lambda t: (chosen[t].compute().miou, -t))
    assert few["value"] == best


def test_a_rule_s_supervision_has_to_be_allowed(tmp_path: Path, drawn: Path) -> None:
    stages = {name: CUT[name] for name in ("brightness", "refined")} | {
        "net": {"kind": "irn", "reads": {"seeds": "refined"}}
    }
    with pytest.raises(LedgerError, match=r"stage 'net' would use saliency"):
        made(tmp_path, stages, {"foreground": drawn / "foreground"})


def test_a_run_finds_its_sidecars_from_any_folder(tmp_path: Path, drawn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(drawn)
    first = made(tmp_path, {"glow": MAPS["glow"]}, {"saliency": Path("saliency")})
    monkeypatch.chdir(tmp_path)
    found = run(str(first.path / "recipe.yaml"), out=first.path)
    assert (found.stages[0].manifest.made, found.stages[0].artefact.key) == (5, first.stages[0].artefact.key)
