"""The fuzzed readers that need torch, or what imports it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.fuzz import mutate
from benchmarks.fuzz.mutate import flipped, mixed
from benchmarks.fuzz.targets import Good, Target
from tag2mask.backbones.build import build_network
from tag2mask.backbones.files import load_network, save_network
from tag2mask.backbones.settings import BackboneSettings
from tag2mask.backbones.state_dict import read_state
from tag2mask.config.recipe import load_recipe, recipe_text
from tag2mask.config.settings import validate
from tag2mask.core.types import ActivationMaps
from tag2mask.inference.maps_file import check_maps, read_maps, write_maps
from tag2mask.pipeline.plan import make_plan
from tag2mask.pipeline.preflight import preflight
from tag2mask.pipeline.store import Store
from tag2mask.segmentation.find_model import find_network
from tag2mask.segmentation.predict.photo_readers import open_photo
from tests.helpers.tiny import tiny_run

_SIZE = (48, 64)


def _recipes(root: Path) -> list[Good]:
    for name in ("demo", "own-data", "voc12-amn-lpcam-upernet"):
        (root / f"{name}.yaml").write_text(recipe_text(name), encoding="utf-8")
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
    from tag2mask.evaluation.result_tables import read_metrics
    from tag2mask.pipeline.opened_run import OpenedRun
    from tag2mask.run_report.build import finished_stages

    run = root / "runs" / "run"
    store = Store(run.parent / ".store")
    for folder in sorted(store.root.glob("*-*")):
        if (folder / "manifest.json").is_file():
            kind, _, key = folder.name.rpartition("-")
            store.manifest(kind, key)
    if broken.name == "metrics.jsonl":
        read_metrics(broken)
    finished_stages(OpenedRun(run))


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
    from tag2mask.segmentation.networks.factory import save_segmenter
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
    Target("recipes", _recipes, _plan),
    Target("overrides", _overrides, _override),
    Target("maps", _maps, _read_maps),
    Target("store", _store, _read_store),
    Target("checkpoints", _checkpoints, _read_checkpoint),
    Target("tiffs", _tiffs, _read_tiff),
    Target("weights", _weights, _read_weights),
)
