from __future__ import annotations

import json
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import tag2mask
from tag2mask.core.errors import ConfigError, DataError, StageError, WeightsError
from tag2mask.core.files import file_hash, write_json
from tag2mask.core.manifest import sealed
from tag2mask.core.palette import voc_palette
from tag2mask.segmentation.find_model import Found, find_network
from tag2mask.segmentation.model import Mask, SegmentationModel
from tag2mask.segmentation.networks.factory import save_segmenter
from tag2mask.segmentation.predict.logits import LoadedNetwork
from tag2mask.segmentation.predict.photo_readers import Photo as AnyPhoto
from tag2mask.segmentation.publish.provenance import Number, Provenance
from tests.helpers.refused import refused
from tests.segmentation.saved_net import STAGES, tiny, write_run
from tests.segmentation.toy_net import CLASSES, MEAN, STD, Colours, predict_labels

Photo = NDArray[np.uint8]


@pytest.fixture
def model() -> SegmentationModel:
    return SegmentationModel(Found(LoadedNetwork(Colours(), MEAN, STD, CLASSES), "aa"), "cpu")


def photo(height: int = 9, width: int = 6) -> Photo:
    return np.random.default_rng(2).integers(0, 256, (height, width, 3), dtype=np.uint8)


def as_file(image: Photo, folder: Path) -> Any:
    Image.fromarray(image).save(folder / "photo.png")
    return folder / "photo.png"


FORMS: dict[str, Callable[[Photo, Path], Any]] = {
    "array": lambda image, _: image,
    "pillow": lambda image, _: Image.fromarray(image),
    "tensor": lambda image, _: torch.from_numpy(image).permute(2, 0, 1) / 255,
    "floating array": lambda image, _: image / 255,
    "turned twice": lambda image, _: image[::-1, ::-1].copy()[::-1, ::-1],
    "rounded above 1": lambda image, _: torch.from_numpy(image).permute(2, 0, 1) / 255 * 1.0004,
    "path": as_file,
    "text": lambda image, folder: str(as_file(image, folder)),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_photo_gives_its_mask(form: str, model: SegmentationModel, tmp_path: Path) -> None:
    image = photo()
    mask = model(FORMS[form](image, tmp_path))
    assert isinstance(mask, Mask)
    assert mask.labels.dtype == np.uint8
    assert np.array_equal(mask.labels, image.argmax(-1))
    assert mask.classes == CLASSES


def test_a_list_gives_a_list(model: SegmentationModel) -> None:
    images = [photo(), photo(4, 5)]
    mixed: list[AnyPhoto] = [images[0], Image.fromarray(images[1])]
    masks = model(mixed)
    assert [np.array_equal(m.labels, i.argmax(-1)) for m, i in zip(masks, images, strict=True)] == [True, True]
    assert model([]) == []
    assert len(model((images[0],))) == 1


def test_a_mask_names_its_classes_and_is_a_palette_image() -> None:
    mask = Mask(np.array([[0, 2, 2]], np.uint8), CLASSES)
    assert mask.present == ("square",)
    assert Mask(np.zeros((1, 1), np.uint8), CLASSES).present == ()
    image = mask.image()
    assert (image.mode, image.size) == ("P", (3, 1))
    assert np.asarray(image).tolist() == [[0, 2, 2]]
    assert (image.getpalette() or [])[6:9] == list(voc_palette()[6:9])


def test_an_open_image_is_turned_as_its_file_is(model: SegmentationModel, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "turned.png"
    Image.fromarray(photo()).save(path, exif=exif)
    with Image.open(path) as image:
        mask = model(image)
    assert mask.labels.shape == (6, 9)
    assert np.array_equal(mask.labels, model(path).labels)
    metrics = tag2mask.SegmentationMetrics(CLASSES)
    metrics.update(mask, model(path))
    assert metrics.compute().miou == 100
    grey = photo()[..., 0]
    assert np.array_equal(model(grey).labels, model(np.stack([grey] * 3, axis=-1)).labels)
    assert np.array_equal(model(grey[..., None]).labels, model(grey).labels)


def test_other_modes_of_pillow_are_read_as_files_are(model: SegmentationModel) -> None:
    red = Image.new("RGBA", (3, 2), (255, 0, 0, 255))
    red.putpixel((1, 1), (0, 0, 255, 255))
    assert model(red).labels.tolist() == [[0, 0, 0], [0, 2, 0]]
    assert model(Image.new("L", (3, 2), 90)).labels.shape == (2, 3)
    assert model(Image.new("LA", (3, 2), (90, 255)).convert("La")).labels.shape == (2, 3)
    cyan_free = Image.new("CMYK", (2, 2), (0, 255, 255, 0))
    assert model(cyan_free).labels.max() == 0


def test_choices_reach_the_network(model: SegmentationModel) -> None:
    image = photo(40, 40)
    net = model.network.net
    assert isinstance(net, Colours)
    tiled = model(image, tile=64, overlap=16)
    assert np.array_equal(tiled.labels, image.argmax(-1))
    net.batches.clear()
    found = model(image, scales=(0.5, 1.0), mirror=True)
    assert len(net.batches) == 4
    assert np.array_equal(found.labels, predict_labels(Colours(), image, MEAN, STD, (0.5, 1.0), True))
    assert not np.array_equal(found.labels, tiled.labels)
    with pytest.raises(ConfigError, match="'precision' = 'float8': .*'float32' or 'bfloat16'"):
        model(image, precision="float8")  # type: ignore[call-overload]
    with pytest.raises(ConfigError, match="'crf' = 'deeplab': .*'deeplabv2'"):
        model(image, crf="deeplab")


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (np.zeros((4, 4, 4), np.uint8), "shape (4, 4, 4) … expected (H, W, 3) uint8"),
        (np.zeros((4, 4, 3), np.int64), "type int64: expected"),
        (np.full((4, 4, 3), 255.0), "type float64 … values 255..255 … expected [0, 1] … not normalised"),
        (np.full((4, 4), np.nan), "expected [0, 1]"),
        (torch.zeros(4, 4, 3), "shape (4, 4, 3) … expected (3, H, W)"),
        (torch.zeros(2, 3, 4, 4), "give several as a list"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), "torch.uint8: expected"),
        (torch.full((3, 4, 4), 1.5), "values 1.5..1.5: expected [0, 1], not normalised"),
        (torch.full((3, 4, 4), float("nan")), "expected [0, 1]"),
        (7, "of type int … expected a path"),
        ("~nobody-here/x.jpg", "no home folder"),
        ("nowhere.jpg", "nowhere.jpg does not exist"),
    ],
)
def test_what_is_no_photo_is_named(given: Any, text: str, model: SegmentationModel) -> None:
    with refused(DataError, text):
        model(given)


def test_a_mode_without_a_way_to_rgb_is_named(model: SegmentationModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(image: Image.Image, mode: str) -> None:
        raise ValueError(f"conversion from {image.mode} to {mode} not supported")

    monkeypatch.setattr(Image.Image, "convert", refuse)
    with refused(DataError, "mode HSV", "convert it to RGB first"):
        model(Image.new("HSV", (3, 2)))


def test_the_bound_of_pixels_is_for_files(model: SegmentationModel, tmp_path: Path) -> None:
    path = as_file(photo(), tmp_path)
    with pytest.raises(DataError, match="54 pixels, more than the 53 allowed"):
        model(path, max_pixels=53)
    assert model(path, max_pixels=54).labels.shape == (9, 6)


def test_a_device_that_is_not_there_is_named() -> None:
    found = Found(LoadedNetwork(Colours(), MEAN, STD, CLASSES), "aa")
    with pytest.raises(ConfigError, match=r"setting 'device' = 'gpu'"):
        SegmentationModel(found, "gpu")


def test_a_run_gives_its_network_and_what_is_known_of_it(tmp_path: Path) -> None:
    net = tiny()
    run = write_run(tmp_path / "run", STAGES, {"segmenter": net})
    model = tag2mask.load(run, device="cpu")
    image = photo(33, 40)
    assert np.array_equal(model(image).labels, predict_labels(net, image, net.mean, net.std))
    assert model.classes == ("disc", "square")
    assert model.hash == file_hash(run / "segmenter" / "weights.safetensors")
    assert model.origin == Provenance(
        recipe="own-data", stage="segmenter", seed=0, data="folder, split train", n_images=12, initial="none",
        ledger=("tags",),
        numbers=(
            Number("predictions", "val", 7, 41.26, 0, "single scale", 30.2, 46.1),
            Number("crf", "val", 7, 43.0, 0, "scales 0.5 1, CRF deeplabv2"),
        ),
    )  # fmt: skip


def test_several_networks_of_a_run_need_a_choice(tmp_path: Path) -> None:
    stages = {**STAGES, "other": {"kind": "segmenter"}}
    run = write_run(tmp_path / "run", stages, {"segmenter": tiny(0), "other": tiny(1)})
    with refused(ConfigError, "2 networks: segmenter, other", "Choose one with --stage"):
        find_network(run)
    assert find_network(run, "other").hash == file_hash(run / "other" / "weights.safetensors")
    with refused(ConfigError, "'othr'", "did you mean 'other'"):
        find_network(run, "othr")
    with refused(ConfigError, "stage = 'other'", "a run folder"):
        find_network(run / "other" / "weights.safetensors", "other")


def test_a_run_of_several_seeds_names_them(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", STAGES, {"segmenter@0": tiny(0), "segmenter@5": tiny(1)}, seeds=(0, 5))
    with pytest.raises(ConfigError, match="holds 2 networks: segmenter@0, segmenter@5"):
        find_network(run)
    assert find_network(run, "segmenter@5").origin.seed == 5
    assert find_network(run, "segmenter@5").origin.numbers == ()


def test_a_run_without_a_finished_network_says_so(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", STAGES, {})
    with refused(StageError, "segmenter", "not finished", "tag2mask run", "recipe.yaml"):
        find_network(run)
    run = write_run(tmp_path / "maps", {"pseudo": {"kind": "pseudo-masks"}}, {})
    with refused(StageError, "kind 'segmenter'", "no network"):
        find_network(run)


def test_weights_that_are_not_what_the_run_has_trained_are_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", STAGES, {"segmenter": tiny(0)})
    weights, manifest = run / "segmenter" / "weights.safetensors", run / "segmenter" / "manifest.json"
    about = {"ledger": ["tags"], "n_images": 12, "files": {"weights.safetensors": file_hash(weights)}}
    write_json(manifest, sealed(about))
    assert tag2mask.load(run).origin.n_images == 12
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    again = rf"tag2mask run {run}/recipe.yaml --out {run}"
    with refused(StageError, str(weights), "'segmenter' has trained", again):
        tag2mask.load(run)
    with refused(StageError, str(weights), "its stage has trained"):
        tag2mask.load(weights)
    elsewhere = tmp_path / "weights.safetensors"
    elsewhere.write_bytes(bytes(data))
    tag2mask.load(elsewhere)  # nothing is known of it
    for garbled in ("", '{"files', "[]"):
        manifest.write_text(garbled)
        with pytest.raises(StageError, match=rf"{manifest}.* Rerun stage 'segmenter': {again}"):
            tag2mask.load(run)


@pytest.mark.parametrize("garbled", [b"", b'{"stage"', b"[]", b"\xff\x00"])
def test_numbers_that_are_garbled_do_not_stop_a_network(
    garbled: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = write_run(tmp_path / "run", STAGES, {"segmenter": tiny(0)})
    (run / "metrics.jsonl").write_bytes(garbled)
    assert tag2mask.load(run).origin.numbers == ()
    assert ("write them again: tag2mask run" in caplog.text) == bool(garbled)


def test_a_file_of_weights_is_loaded_without_its_run(tmp_path: Path) -> None:
    save_segmenter(tiny(), tmp_path / "net.safetensors", ("disc", "square"))
    found = find_network(tmp_path / "net.safetensors")
    assert found.origin == Provenance()
    assert found.network.classes == ("disc", "square")


def test_an_onnx_file_runs_through_its_own_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class OnnxSegmenter(Colours):
        def __init__(self, path: Path) -> None:
            super().__init__()
            self.mean, self.std, self.classes = MEAN, STD, list(CLASSES)
            self.max_side, self.min_side, self.background = None, None, True

    module = types.ModuleType("tag2mask.segmentation.onnx.runtime")
    module.OnnxSegmenter = OnnxSegmenter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tag2mask.segmentation.onnx.runtime", module)
    (tmp_path / "net.onnx").write_bytes(b"graph")
    model = tag2mask.load(tmp_path / "net.onnx", device="cpu")
    image = photo()
    assert np.array_equal(model(image).labels, image.argmax(-1))
    assert model.classes == CLASSES
    with refused(WeightsError, "ONNX", "cannot be saved"):
        model.save_pretrained(tmp_path / "saved")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("nothing", "nothing does not exist … expected a run folder … .safetensors or .onnx"),
        ("a/b/c", "a/b/c does not exist"),
        ("runs/net.safetensors", "net.safetensors does not exist"),
    ],
)
def test_what_is_not_there_is_not_looked_for_on_the_hub(
    name: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with refused(WeightsError, text):
        tag2mask.load(name)


def test_what_is_no_network_is_named(tmp_path: Path) -> None:
    with refused(WeightsError, "neither a run", "a saved network"):
        tag2mask.load(tmp_path)
    (tmp_path / "net.pth").write_bytes(b"x")
    with refused(WeightsError, "net.pth", "expected a run folder", "file of weights", "ends in"):
        tag2mask.load(tmp_path / "net.pth")
    (tmp_path / "net.safetensors").write_bytes(b"x")
    with pytest.raises(WeightsError, match="net.safetensors cannot be read"):
        tag2mask.load(tmp_path / "net.safetensors")


def test_a_network_in_the_home_of_nobody_is_named() -> None:
    with refused(DataError, "~nobody-here/run", "no home folder"):
        find_network("~nobody-here/run")


def test_what_is_no_network_by_its_kind_is_reported_and_not_looked_for_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tag2mask.segmentation.find_model.fetch", lambda name: pytest.fail("it was looked for"))
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    os.mkfifo("runs/pipe")
    Path("runs/link").symlink_to("nowhere")
    with refused(WeightsError, "runs/pipe is a named pipe", "expected a run folder"):
        tag2mask.load("runs/pipe")
    with pytest.raises(WeightsError, match="runs/link is a link to nothing"):
        tag2mask.load("runs/link")
    with refused(WeightsError, "cannot be read", "File name too long"):
        tag2mask.load("n" * 5000)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"segmenter": {"encoder": "test_efficientnet", "weights": "timm"}},
            "first weights, 'timm'",
        ),
        ({"segmenter": {"encoder": "hf-hub:owner/name", "weights": "none"}}, "unknown encoder"),
        ({"segmenter": {"encoder": "test_efficientnet.x/y", "weights": "none"}}, "what is behind the dot"),
        ({"segmenter": {"encoder": "test_efficientnet", "weights": "none", "kind": ["fpn"]}}, "cannot be rebuilt"),
        ({"segmenter": float("nan")}, "cannot be rebuilt"),
        ({"max_side": -1}, "cannot be rebuilt … max_side"),
        ({"max_side": float("nan")}, "cannot be rebuilt … max_side"),
        ({"max_side": [1]}, "cannot be rebuilt … max_side"),
        ({"initial": "evil"}, "cannot be rebuilt … initial"),
        ({"classes": ["disc", "disc"]}, "has class 'disc' twice"),
        ({"classes": ["disc", "a\nb"]}, "control character"),
        ({"classes": "ab"}, "cannot be rebuilt … classes"),
    ],
)
def test_odd_metadata_of_weights_is_named(tmp_path: Path, changes: dict[str, Any], text: str) -> None:
    path = tmp_path / "w.safetensors"
    save_segmenter(tiny(), path, CLASSES)
    with safe_open(path, "pt") as stream:
        about = json.loads(stream.metadata()["tag2mask"])
    save_file(load_file(path), path, {"tag2mask": json.dumps({**about, **changes})})
    with refused(WeightsError, text) as caught:
        tag2mask.load(path)
    assert "w.safetensors" in str(caught.value)
