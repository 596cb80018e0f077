"""The second stage in a run: from pseudo-masks to predictions on held-out images, and what a run refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import yaml
from torch import Tensor
from torch.nn import functional as F
from typer.testing import CliRunner

from tag2mask.api import run
from tag2mask.backbones.files import WEIGHTS
from tag2mask.backbones.resnets import ResNet101Caffe
from tag2mask.cli.app import app
from tag2mask.core.errors import ConfigError, DataError, LedgerError, StageError, WeightsError
from tag2mask.core.palette import read_labels, write_labels
from tag2mask.core.resize import bilinear
from tag2mask.data.images import upright_size
from tag2mask.data.mask_files import read_labels as read_mask
from tag2mask.data.registry import load_dataset
from tag2mask.data.split_views import resized_labels
from tag2mask.evaluation.measures.trivial import TRIVIAL
from tag2mask.methods.artefact import Artefact
from tag2mask.methods.context import StageContext
from tag2mask.methods.registry import stage_kind
from tag2mask.pipeline import per_image
from tag2mask.pipeline.export_run import export_masks
from tag2mask.pipeline.run_result import RunResult
from tag2mask.segmentation.networks.deeplabv2 import DeepLabV2
from tag2mask.segmentation.networks.factory import save_segmenter
from tag2mask.segmentation.predict import labeller
from tag2mask.segmentation.predict.options import PredictionSettings, Tiling
from tag2mask.segmentation.settings import SegmenterSettings
from tag2mask.segmentation.stage import check, program, train
from tests.helpers.drawn_maps import few_masks_recipe, registered
from tests.helpers.refused import refused
from tests.methods.irn.drawn import data, seeds
from tests.segmentation.segment_drawn import build, settings
from tests.training.toy import Drawn, engine

SEGMENTER: dict[str, Any] = {
    "kind": "segmenter",
    "reads": {"masks": "masks"},
    "network": {"kind": "deeplabv2", "encoder": "test_efficientnet", "weights": "none"},
    "train": {"epochs": 1, "batch_size": 4, "accumulate": 2, "crop": 48},
}
STAGES: dict[str, dict[str, Any]] = {
    "masks": {"kind": "pseudo-masks", "reads": {"maps": "maps"}, "threshold": 0.3},
    "masks-score": {"kind": "masks", "reads": {"masks": "masks"}},
    "segmenter": SEGMENTER,
    "predicted": {"kind": "predictions", "reads": {"segmenter": "segmenter"}},
    "predicted-score": {"kind": "masks", "reads": {"masks": "predicted"}, "split": "val"},
}


def recipe(tmp: Path, without: tuple[str, ...] = (), **changes: Any) -> Path:
    """A recipe from drawn maps to predictions on the last three of twelve images, which have no tags."""
    path = few_masks_recipe(tmp)
    values = yaml.safe_load(path.read_text())
    stages = {"maps": values["stages"]["maps"], **STAGES}
    stages = {name: {**spec, **changes.get(name, {})} for name, spec in stages.items()}
    lists = tmp / "data" / "splits"
    if not lists.exists():
        ids = sorted(p.stem for p in (tmp / "data" / "images").iterdir())
        lists.mkdir()
        (lists / "train.txt").write_text("\n".join(ids[:9]))
        (lists / "val.txt").write_text("\n".join(ids[9:]))
    values["stages"] = {name: spec for name, spec in stages.items() if name not in without}
    values["data"]["val"] = "val"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


def started(tmp: Path, *words: str, out: str = "run", **changes: Any) -> RunResult:
    with registered():
        return run(str(recipe(tmp, **changes)), *words, out=tmp / out)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("segment")


@pytest.fixture(scope="module")
def done(folder: Path) -> RunResult:
    return started(folder)


def test_a_run_predicts_held_out_images_and_measures_them(done: RunResult) -> None:
    rows = {
        (r.stage, r.split, r.n_images, r.threshold_kind): r.value
        for r in done.metrics
        if r.metric == "miou" and r.stage not in TRIVIAL
    }
    assert rows.keys() == {("masks", "all", 12, "fixed"), ("predicted", "val", 3, "none")}
    assert all(value is not None and 0 <= value <= 100 for value in rows.values())
    ledgers = {s.stage.name: s.manifest.ledger for s in done.stages}
    assert ledgers["segmenter"] == ledgers["predicted"] == ()
    counts = {s.stage.name: s.manifest.n_images for s in done.stages}
    assert (counts["masks"], counts["segmenter"], counts["predicted"]) == (12, 9, 3), "what is measured did not train"
    text = done.report.read_text(encoding="utf-8")
    assert f"predicted: {rows['predicted', 'val', 3, 'none']:.1f} mIoU" in text
    assert "on val (3 images; deeplabv2 on test_eff" in text


VIEWS: dict[str, Any] = {"mirror": True, "crf": "deeplabv2"}
ONE_WAY: dict[str, tuple[tuple[str, ...], dict[str, Any], int]] = {
    "small": ((), {}, 10**6),
    "small, refined": ((), VIEWS, 10**6),
    "tiles": ((), {"scales": [1.0, 0.75]}, 2000),
    "tiles, refined": ((), {"scales": [1.0], **VIEWS, "fit": [64, 48]}, 2000),
    "larger than its views": ((), {"fit": [40, 30], "mirror": True}, 2000),
    "working size": (("data.max_side=32",), {}, 10**6),
    "working size, refined": (("data.max_side=32",), VIEWS, 10**6),
    "enlarged": (("data.min_side=96",), {}, 10**6),
}
"""Words of a run, settings of its predictions, and the pixels of a photo that are computed at once."""


@pytest.mark.parametrize("case", ONE_WAY)
def test_predictions_are_what_tag2mask_predict_gives_whatever_the_tags(
    case: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words, options, bound = ONE_WAY[case]
    monkeypatch.setattr(labeller, "WHOLE", bound)
    monkeypatch.setattr(labeller, "Tiling", lambda: Tiling(40, 8))
    forward = DeepLabV2.forward

    def colourful(net: DeepLabV2, images: Tensor) -> Tensor:
        """The network's own logits, and the colours: after one epoch it would give one label everywhere."""
        colours = F.pad(3 * images, (0, 0, 0, 0, 0, net.n_labels - 3))
        return bilinear(forward(net, images), *images.shape[2:]) + colours

    monkeypatch.setattr(DeepLabV2, "forward", colourful)
    with registered():
        path = recipe(folder, predicted=options)
        made = run(str(path), *words, out=tmp_path / "runs" / "run", only=["predicted"]).path
    photos = sorted((folder / "data" / "images").iterdir())[9:]
    given = [word for name, value in options.items() for word in as_words(name, value)]
    command = ["predict", str(made), *map(str, photos), "--out", str(tmp_path / "masks"), "--device", "cpu", *given]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert "3 made, 0 there already, 0 failed" in done.output
    shown: set[int] = set()
    for photo in photos:
        labels = read_labels(tmp_path / "masks" / "masks" / f"{photo.stem}.png")
        assert labels.shape == upright_size(photo)
        assert np.array_equal(read_labels(made / "predicted" / "masks" / f"{photo.stem}.png"), labels)
        shown |= {*labels.ravel().tolist()}
    assert len(shown) > 1, "labels that could differ"


def test_predictions_are_measured_at_the_size_of_the_data_and_exported_at_that_of_the_photos(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed: dict[str, int] = {}
    monkeypatch.setattr(per_image, "require_room", lambda _, size, name: needed.update({name: size}))
    with registered():
        result = run(str(recipe(folder)), "data.max_side=32", out=tmp_path / "run", only=["predicted-score"])
        export_masks(result.path, "palette", tmp_path / "out", stage="predicted")
    assert {r.n_images for r in result.metrics if r.stage == "predicted"} == {3}
    assert needed["predicted"] > 3 * 48 * 64 // 8
    masks = next(s for s in result.stages if s.stage.name == "predicted").artefact
    images = load_dataset("folder", folder / "data", "val", tags="tags.csv", images="images", max_side=32)
    for sample in images.samples:
        made = read_labels(masks.path / "masks" / f"{sample.id}.png")
        name = f"{sample.id.replace(' ', '_')}.png"
        assert sorted(made.shape) == [48, 64]
        assert np.array_equal(read_labels(tmp_path / "out" / "SegmentationClass" / name), made)
        assert np.array_equal(masks.labels(images, sample), resized_labels(made, *images.image(sample).size[::-1]))


def as_words(name: str, value: Any) -> list[str]:
    """A setting of predictions as an option of the command."""
    return [f"--{name}"] + ([] if value is True else [",".join(map(str, value)) if isinstance(value, list) else value])


def test_a_large_photo_is_tiled_in_a_run_and_decoded_in_its_turn(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = load_dataset("folder", folder / "data", "all", tags="tags.csv", images="images")
    network = saved(tmp_path, images.classes)
    reads = {"segmenter": network}
    seen: list[tuple[int, ...]] = []
    forward = DeepLabV2.forward

    def noted(net: DeepLabV2, tiles: Tensor) -> Tensor:
        seen.append(tuple(tiles.shape[2:]))
        return forward(net, tiles)

    monkeypatch.setattr(DeepLabV2, "forward", noted)
    kind = stage_kind("predictions")
    steps = program(StageContext(kind, "second", PredictionSettings(), reads, images, tmp_path, 0, engine()))
    first, sample = steps.prepare(images.samples[0]), images.samples[1]
    assert "pixels" in vars(first), "a small one is decoded ahead"
    steps.compute([first])
    assert seen == [(48, 64)]
    monkeypatch.setattr(labeller, "WHOLE", 2000)
    monkeypatch.setattr(labeller, "Tiling", lambda: Tiling(40, 8))
    large = steps.prepare(sample)
    assert "pixels" not in vars(large)
    (labels,) = steps.compute([large])
    assert isinstance(labels, np.ndarray)
    assert labels.shape == (64, 48)
    assert len(seen) == 5
    assert max(h * w for h, w in seen[1:]) <= 40 * 40


def test_truth_trains_only_where_the_recipe_allows_it_and_is_in_the_ledger_and_the_key(tmp_path: Path) -> None:
    own: dict[str, Any] = {"segmenter": {"reads": {}, "truth": True}}
    with refused(LedgerError, "'segmenter' would use pixel-masks", "allow_superv"):
        started(tmp_path, **own)
    allowed = "allow_supervision=[tags,pixel-masks]"
    first = started(tmp_path, allowed, **own)
    ledgers = {s.stage.name: s.manifest.ledger for s in first.stages}
    assert ledgers["segmenter"] == ledgers["predicted"] == ("pixel-masks",)
    truth = sorted((tmp_path / "data" / "masks").iterdir())[0]
    write_labels(truth, np.zeros_like(read_mask(truth)))
    again = started(tmp_path, allowed, out="again", **own)
    keys = [{s.stage.name: s.manifest.key for s in result.stages} for result in (first, again)]
    assert keys[0]["segmenter"] != keys[1]["segmenter"]
    assert keys[0]["masks"] == keys[1]["masks"]


def test_weights_that_saw_masks_are_in_the_ledger() -> None:
    kind = stage_kind("segmenter")
    values = settings().model_copy(
        update={"network": build().settings.model_copy(update={"weights": "a.pth", "pretrained": "coco"})}
    )
    assert kind.supervision_of(values) == {"pixel-masks:init"}
    assert kind.supervision_of(values.model_copy(update={"truth": True})) == {"pixel-masks", "pixel-masks:init"}
    assert kind.supervision_of(settings()) == set()


def test_without_held_out_images_there_are_no_predictions_and_a_line_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own: dict[str, Any] = {"predicted-score": {"split": None}}
    caplog.set_level("INFO", "tag2mask")
    result = started(tmp_path, "data.val=null", **own)
    assert "predicted: data.val is null, so there is no image; set it, or predicted.split" in caplog.messages
    assert "predicted-score: the data has no such split; nothing is measured" in caplog.messages
    counts = {s.stage.name: s.manifest.n_images for s in result.stages}
    assert (counts["segmenter"], counts["predicted"], counts["predicted-score"]) == (9, 0, 0)
    assert {r.stage for r in result.metrics} == {"masks", *TRIVIAL}
    later = started(tmp_path, **own)
    found = {r.split: r.n_images for r in later.metrics if r.stage == "predicted"}
    assert found == {"val": 3}, "measured where the predictions were made, once there is such a split"
    assert {s.stage.name: s.manifest.key for s in later.stages}["predicted"] not in {
        s.manifest.key for s in result.stages
    }


def artefact(path: Path, name: str = "masks") -> Artefact:
    """Files whose key is the id of their image."""
    return Artefact(name, path, "key", lambda _dataset, sample: sample.id)


def context(tmp: Path, values: Any, reads: dict[str, Artefact], images: Drawn | None = None) -> StageContext[Any]:
    dataset = data() if images is None else images
    return StageContext(stage_kind("segmenter"), "second", values, reads, dataset, tmp / "out", 0, engine())


def write_masks(folder: Path) -> Artefact:
    for sample in data().samples:
        write_labels(folder / "made" / "masks" / f"{sample.id}.png", seeds(sample), sample.id)
    return artefact(folder / "made")


def test_masks_and_truth_exclude_each_other(tmp_path: Path) -> None:
    with refused(ConfigError, "'segmenter'", "neither truth = true nor reads.masks"):
        started(tmp_path, segmenter={"reads": {}})
    with pytest.raises(ConfigError, match=r"stage 'segmenter': both truth = true and reads.masks"):
        started(tmp_path, "segmenter.truth=true", "allow_supervision=[tags,pixel-masks]")
    truth = settings().model_copy(update={"truth": True})
    with refused(DataError, "second: truth = true", "split 'train'", "Add masks"):
        train(context(tmp_path, truth, {}))


@pytest.mark.parametrize(
    ("word", "text"),
    [
        (
            "encoder=test_efficientnett",
            "network.encoder = 'test_efficientnett': unknown encoder; did you mean 'test_effi",
        ),
        ("weights=bundled", "network.weights = 'bundled': there are bundled weights for efficientnet_lite0 only"),
        ("weights=gone.pth segmenter.network.pretrained=coco", "weights 'gone.pth': there is no such file"),
    ],
)
def test_networks_that_cannot_be_had_are_refused_before_anything_is_made(tmp_path: Path, word: str, text: str) -> None:
    allowed = "allow_supervision=[tags,pixel-masks:init]"
    with pytest.raises((ConfigError, WeightsError), match=f"stage 'segmenter': {text}"):
        started(tmp_path, allowed, *f"segmenter.network.{word}".split())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("network", "text"),
    [
        (
            {"kind": "fpn", "encoder": "test_efficientnet"},
            "net.pth does not belong … 'test_efficientnet' … missing",
        ),
        ({"kind": "deeplabv2", "encoder": "resnet101_caffe"}, "net.pth does not belong to 'resnet101_caffe'"),
    ],
)
def test_a_weight_file_of_another_network_is_refused_before_masks_are_made(
    network: dict[str, str], text: str, tmp_path: Path
) -> None:
    torch.save({"x": torch.zeros(1)}, tmp_path / "net.pth")
    words = {**network, "weights": str(tmp_path / "net.pth"), "pretrained": "imagenet"}
    with refused(WeightsError, text):
        check(SegmenterSettings.model_validate({"network": words}), {"masks"})
    (tmp_path / "net.pth").write_bytes(b"no weights")
    with pytest.raises(WeightsError, match="cannot read weights .*net.pth"):
        check(SegmenterSettings.model_validate({"network": words}), {"masks"})


def test_the_encoders_own_file_is_taken(tmp_path: Path) -> None:
    net = timm.create_model("test_efficientnet", pretrained=False)
    torch.save(net.state_dict(), tmp_path / "net.pth")
    words = {"encoder": "test_efficientnet", "weights": str(tmp_path / "net.pth"), "pretrained": "imagenet"}
    check(SegmenterSettings.model_validate({"network": {"kind": "fpn", **words}}), {"masks"})
    torch.save(ResNet101Caffe().state_dict(), tmp_path / "net.pth")
    words["encoder"] = "resnet101_caffe"
    check(SegmenterSettings.model_validate({"network": {"kind": "deeplabv2", **words}}), {"masks"})
    words["weights"] = str(tmp_path / "absent.pth")
    absent = SegmenterSettings.model_validate({"network": {"kind": "deeplabv2", **words}})
    with pytest.raises(WeightsError, match="begins with deeplab-pytorch.s files alone, deeplabv1"):
        absent.network.fingerprint()


def test_images_without_ground_truth_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Some(Drawn):
        def truth(self, sample: Any) -> Any:
            return None if sample.id == "003" else seeds(sample)

    images = Some([s.tags for s in data().samples], size=(64, 80))
    with caplog.at_level("WARNING", "tag2mask"):
        train(context(tmp_path, settings(epochs=1).model_copy(update={"truth": True}), {}, images))
    assert "second: 1 of 8 images have no ground truth and are left out" in caplog.text
    assert (tmp_path / "out" / WEIGHTS).is_file()


def test_a_missing_mask_names_its_image(tmp_path: Path) -> None:
    masks = write_masks(tmp_path)
    (tmp_path / "made" / "masks" / "005.png").unlink()
    with refused(StageError, "no masks of image '005'", "set masks.split", "data.val for predictions"):
        train(context(tmp_path, settings(), {"masks": masks}))


def saved(tmp: Path, classes: tuple[str, ...] = ("class 0", "class 1", "class 2")) -> Artefact:
    save_segmenter(build(n_classes=len(classes)), tmp / "net" / WEIGHTS, classes)
    return artefact(tmp / "net", "segmenter")


@pytest.mark.parametrize(
    ("classes", "text"),
    [
        (("class 0", "class 1"), "for 2 classes … has 3 … class 3 is 'none' … 'class 2' h"),
        (("class 0", "x", "class 2"), "for 3 classes … has 3 … class 2 is 'x' … 'class 1' here"),
    ],
)
def test_a_network_of_other_classes_is_refused(classes: tuple[str, ...], text: str, tmp_path: Path) -> None:
    with refused(WeightsError, text):
        program(context(tmp_path, PredictionSettings(), {"segmenter": saved(tmp_path, classes)}))


def test_settings_are_strict() -> None:
    with pytest.raises(ValueError, match="network"):
        SegmenterSettings()  # type: ignore[call-arg]  # the network's first weights must be chosen
    with pytest.raises(ValueError, match="scales = .*above 0, up to 8"):
        PredictionSettings(scales=(0.0,))
