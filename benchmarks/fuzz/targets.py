"""What is fuzzed: for each reader good files, how they are broken, and how the program reads them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.fuzz import mutate
from benchmarks.fuzz.mutate import Mutator, flipped, mixed
from tag2mask.backbones.files import load_network, save_network
from tag2mask.backbones.keymaps import read_state
from tag2mask.backbones.network import build_network
from tag2mask.backbones.settings import BackboneSettings
from tag2mask.config.recipe import load_recipe, shipped
from tag2mask.config.settings import validate
from tag2mask.core import palette
from tag2mask.core.types import ActivationMaps
from tag2mask.data import mask_files
from tag2mask.data.doctor import examine
from tag2mask.data.registry import data_settings, open_split
from tag2mask.inference.maps_file import check_maps, read_maps, write_maps
from tag2mask.pipeline.plan import make_plan
from tag2mask.pipeline.preflight import preflight
from tag2mask.pipeline.store import Store
from tag2mask.segmentation.find import find_network
from tag2mask.segmentation.photos import open_photo
from tests.helpers.draw import draw_coco, draw_folder, draw_scene, draw_voc
from tests.helpers.tiny import tiny_run

MapValues = np.ndarray[Any, np.dtype[np.float32]]
_SIZE = (48, 64)


@dataclass(frozen=True, slots=True)
class Good:
    """A good file, and how it is broken."""

    path: Path
    mutator: Mutator


@dataclass(frozen=True, slots=True)
class Target:
    """A reader.

    Attributes:
        name: of the reader.
        draw: writes good files below a folder and gives those that are broken, one at a time.
        read: reads the folder as the program does; called with the folder and the broken file.
    """

    name: str
    draw: Callable[[Path], list[Good]]
    read: Callable[[Path, Path], object]


def _voc(root: Path) -> list[Good]:
    draw_voc(root, n=3, splits=("train",))
    one = next((root / "JPEGImages").iterdir()).stem
    return [
        *[Good(root / "Annotations" / f"{one}.xml", mixed(flipped, mutate.xml_text, mutate.xml_text))] * 3,
        Good(root / "SegmentationClass" / f"{one}.png", flipped),
        Good(root / "JPEGImages" / f"{one}.jpg", flipped),
        Good(root / "ImageSets" / "Segmentation" / "train.txt", mixed(flipped, mutate.table_cell)),
        Good(root / "classes.txt", mixed(flipped, mutate.table_cell)),
    ]


def _coco(root: Path) -> list[Good]:
    draw_coco(root, n=3, splits=("train",))
    return [Good(root / "annotations" / "instances_train2017.json", mixed(*[mutate.json_value] * 4, flipped))]


def _folder(root: Path) -> list[Good]:
    draw_folder(root, n=4)
    return [
        *[Good(root / "tags.csv", mixed(flipped, mutate.table_cell))] * 2,
        Good(root / "masks" / "photo 00.png", flipped),
        Good(root / "images" / "photo 01.png", flipped),
    ]


def _data(kind: str, **settings: Any) -> Callable[[Path, Path], None]:
    """Every sample of a split as a run reads it, and doctor's look; doctor must name whatever a run refuses."""

    def read(root: Path, broken: Path) -> None:
        checked = data_settings(kind, {"root": str(root), "val": None, **settings})
        examine(kind, checked, quiet=True, workers=1)
        dataset = open_split(kind, checked, checked.train)
        for sample in dataset.samples:
            dataset.content_hash(sample)
            dataset.image(sample)
            dataset.truth(sample)

    return read


def _recipes(root: Path) -> list[Good]:
    for name in ("demo", "own-data", "voc12-amn-lpcam-upernet"):
        (root / f"{name}.yaml").write_bytes(shipped()[name].read_bytes())
    return [Good(path, mixed(*[mutate.yaml_value] * 4, flipped)) for path in sorted(root.glob("*.yaml"))]


def _plan(root: Path, broken: Path) -> None:
    preflight(make_plan(load_recipe(str(broken))))


def _overrides(root: Path) -> list[Good]:
    values = load_recipe("own-data").model_dump(mode="json")
    texts = sorted(set(_flat(values)))
    for number, text in enumerate(texts):
        (root / f"{number:03d}.txt").write_text(text, encoding="utf-8")
    return [Good(path, mixed(*[mutate.override] * 5, flipped)) for path in sorted(root.glob("*.txt"))]


def _flat(values: Any, path: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{path}{key}.")
        yield f"{path}{key}={value if isinstance(value, int | float | str) else 'null'}"


def _override(root: Path, broken: Path) -> None:
    preflight(make_plan(load_recipe("own-data", ["data.root=.", os.fsdecode(broken.read_bytes())])))


def _maps(root: Path) -> list[Good]:
    values = torch.rand(2, 12, 16, generator=torch.Generator().manual_seed(0))
    write_maps(root / "maps.npz", ActivationMaps((0, 2), values), _SIZE, "key")
    return [Good(root / "maps.npz", mixed(flipped, flipped, mutate.npz_array))]


def _read_maps(root: Path, broken: Path) -> None:
    found = read_maps(broken)
    check_maps(found.maps, _SIZE, 3, "the fuzz")


def _masks(root: Path) -> list[Good]:
    labels = draw_scene(1).labels
    palette.write_labels(root / "ours.png", labels, "key")
    for mode in ("L", "1", "RGB", "I;16"):
        name = f"{mode.replace(';', '')}.png"
        Image.fromarray(labels.astype(np.uint16) if mode == "I;16" else labels).convert(mode).save(root / name)
    return [*[Good(root / "ours.png", flipped)] * 3, *[Good(p, flipped) for p in sorted(root.glob("[!o]*.png"))]]


def _read_masks(root: Path, broken: Path) -> None:
    if broken.name == "ours.png":
        palette.labels_key(broken)
        palette.read_labels(broken)
    mask_files.read_labels(broken, {(0, 0, 0): 0, (1, 1, 1): 1, (2, 2, 2): 2, (3, 3, 3): 3})


def _store(root: Path) -> list[Good]:
    result = tiny_run(root)
    run = result.path
    manifests = [
        Good(done.artefact.path / "manifest.json", mixed(mutate.json_value, flipped)) for done in result.stages
    ]
    metrics = [Good(p, flipped) for p in sorted((run.parent / ".store").glob("*/metrics.jsonl"))]
    own = [
        Good(run / "recipe.yaml", mixed(mutate.yaml_value, flipped)), Good(run / "metrics.jsonl", flipped),
        Good(run / "environment.json", mixed(mutate.json_value, flipped)),
        *(Good(p, mixed(mutate.json_value, flipped)) for p in sorted((run.parent / ".store").glob("*.json"))),
    ]  # fmt: skip
    return [*manifests, *metrics, *own]


def _read_store(root: Path, broken: Path) -> None:
    from tag2mask.evaluation.rows import read_metrics
    from tag2mask.pipeline.report import open_run

    run = root / "runs" / "run"
    store = Store(run.parent / ".store")
    for folder in sorted(store.root.glob("*-*")):
        if (folder / "manifest.json").is_file():
            kind, _, key = folder.name.rpartition("-")
            store.manifest(kind, key)
    if broken.name == "metrics.jsonl":
        read_metrics(broken)
    open_run(run)


def _checkpoints(root: Path) -> list[Good]:
    net = build_network(validate(BackboneSettings, {"name": "test_efficientnet", "weights": "none"}, "backbone"), 3)
    for name, new in (("zip", True), ("old", False)):
        torch.save(net.state_dict(), root / f"{name}.pth", _use_new_zipfile_serialization=new)
    return [Good(p, mixed(flipped, flipped, mutate.checkpoint)) for p in sorted(root.glob("*.pth"))]


def _read_checkpoint(root: Path, broken: Path) -> None:
    read_state(broken)
    settings = {"name": "test_efficientnet", "weights": str(broken)}
    build_network(validate(BackboneSettings, settings, "backbone"), 3)


def _tiffs(root: Path) -> list[Good]:
    import tifffile

    pixels = np.random.default_rng(0).integers(0, 256, (96, 128, 3)).astype(np.uint8)
    forms: dict[str, dict[str, Any]] = {
        "tiles": {"tile": (32, 32)},
        "strips": {"rowsperstrip": 16},
        "deflate": {"tile": (32, 32), "compression": "zlib"},
        "lzw": {"rowsperstrip": 16, "compression": "lzw"},
        "jpeg": {"tile": (32, 32), "compression": "jpeg"},
    }
    for name, options in forms.items():
        tifffile.imwrite(root / f"{name}.tif", pixels, photometric="rgb", metadata=None, **options)
    tifffile.imwrite(root / "grey16.tif", pixels[..., 0].astype(np.uint16) * 257, tile=(32, 32), metadata=None)
    return [Good(p, mixed(flipped, mutate.tiff_tag)) for p in sorted(root.glob("*.tif"))]


def _read_tiff(root: Path, broken: Path) -> None:
    photo = open_photo(broken, max_pixels=1_000_000)
    height, width = photo.size
    for top, left in ((0, 0), (height // 2, width // 2)):
        photo.window(top, left, min(height, top + 64), min(width, left + 64))


def _weights(root: Path) -> list[Good]:
    from tag2mask.segmentation.files import save_segmenter
    from tests.segmentation.segment_drawn import build

    net = build_network(validate(BackboneSettings, {"name": "test_efficientnet", "weights": "none"}, "backbone"), 3)
    save_network(net, root / "classifier.safetensors", ("a", "b", "c"))
    save_segmenter(build(), root / "segmenter.safetensors", ("a", "b", "c"))
    return [
        Good(p, mixed(mutate.safetensors_metadata, mutate.safetensors_metadata, flipped))
        for p in sorted(root.glob("*.safetensors"))
    ]


def _read_weights(root: Path, broken: Path) -> None:
    if broken.name.startswith("classifier"):
        load_network(broken)
    find_network(broken)


TARGETS = (
    Target("voc", _voc, _data("voc", infer="train")),
    Target("coco", _coco, _data("coco", infer="train")),
    Target("folder", _folder, _data("folder", tags="tags.csv", images="images", train="all", infer="all")),
    Target("recipes", _recipes, _plan),
    Target("overrides", _overrides, _override),
    Target("maps", _maps, _read_maps),
    Target("masks", _masks, _read_masks),
    Target("store", _store, _read_store),
    Target("checkpoints", _checkpoints, _read_checkpoint),
    Target("tiffs", _tiffs, _read_tiff),
    Target("weights", _weights, _read_weights),
)
