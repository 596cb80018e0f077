"""IRN as stages: through the registry, from refined seeds to weights, and from maps to walked maps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from tag2mask.backbones.files import WEIGHTS
from tag2mask.config.settings import key_values, validate
from tag2mask.core.errors import ConfigError, DataError, StageError, WeightsError
from tag2mask.core.types import ActivationMaps, Sample
from tag2mask.data.base import Dataset, Labels
from tag2mask.inference.maps_file import stride4, write_maps
from tag2mask.inference.runner import image_tensor
from tag2mask.methods.artefact import Artefact
from tag2mask.methods.context import ImageProgram, StageContext
from tag2mask.methods.irn.network import boundary_map, build_boundary, load_boundary, save_boundary
from tag2mask.methods.irn.settings import IrnSettings, WalkSettings
from tag2mask.methods.irn.stage import agreements, kept_to, walked, walked_without
from tag2mask.methods.registry import stage_kind
from tag2mask.methods.stage_kinds import Makes, SplitRole
from tag2mask.refine.pixels.learning import PixelNet
from tag2mask.refine.pixels.model import PixelModels, save_pixels
from tag2mask.refine.walk import random_walk
from tag2mask.training.label_images import at_grid
from tests.helpers.refused import refused
from tests.methods.irn.drawn import SIZE, data, seeds
from tests.training.toy import Drawn, engine

SMALL: dict[str, Any] = {
    "backbone": {"name": "test_efficientnet", "weights": "none"},
    "train": {"epochs": 1, "batch_size": 4, "accumulate": 2, "crop": 48},
    "radius": 4,
}


@dataclass(frozen=True)
class Seeds:
    """Stands for a stage of refined seeds."""

    labels: Callable[[Dataset, Sample], Labels]


def context(kind: str, out: Path, reads: dict[str, object], dataset: Drawn, **values: Any) -> StageContext[Any]:
    """What a stage of that kind is given."""
    found = validate(stage_kind(kind).settings, values, kind)
    roles = cast("dict[str, Artefact]", reads)
    return StageContext(stage_kind(kind), kind, found, roles, dataset, out, 0, engine())


def artefact(name: str, path: Path) -> Artefact:
    return Artefact(name, path, "key", lambda _dataset, sample: f"key of {sample.id}")


def drawn_maps(sample: Sample, seed: int = 0) -> Tensor:
    """Random maps with a maximum of 1; float16 holds them exactly."""
    values = torch.from_numpy(np.random.default_rng(seed).uniform(size=(len(sample.tags), *stride4(*SIZE))))
    return (values / values.amax((1, 2), keepdim=True)).half().float()


def store_maps(folder: Path, sample: Sample, maps: Tensor) -> None:
    write_maps(folder / "maps" / f"{sample.id}.npz", ActivationMaps(sample.tags, maps), SIZE, f"key of {sample.id}")


@pytest.fixture
def walk(tmp_path: Path) -> Callable[..., ImageProgram]:
    """A program of kind irn-walk on drawn images with stored maps and a random network."""
    torch.manual_seed(1)
    images = data()
    save_boundary(build_boundary(validate(IrnSettings, SMALL, "irn").backbone), tmp_path / "irn" / WEIGHTS)
    for sample in images.samples:
        store_maps(tmp_path / "cam", sample, drawn_maps(sample))
    reads: dict[str, object] = {r: artefact(n, tmp_path / n) for r, n in (("irn", "irn"), ("maps", "cam"))}

    def make(**values: Any) -> ImageProgram:
        program = stage_kind("irn-walk").load()(context("irn-walk", tmp_path / "out", reads, images, **values))
        assert isinstance(program, ImageProgram)
        return program

    return make


def made(program: ImageProgram, sample: Sample) -> ActivationMaps:
    (found,) = program.compute([program.prepare(sample)])
    assert isinstance(found, ActivationMaps)
    return found


def test_kinds_say_what_they_read_and_make() -> None:
    irn, walk = stage_kind("irn"), stage_kind("irn-walk")
    assert (irn.makes, irn.reads, irn.split_of(IrnSettings())) == (
        Makes.WEIGHTS,
        {"seeds": Makes.MASKS},
        SplitRole.TRAIN,
    )
    assert (walk.makes, walk.split) == (Makes.MAPS, SplitRole.INFER)
    assert walk.reads == {"irn": Makes.WEIGHTS, "maps": Makes.MAPS}
    assert irn.supervision_of(IrnSettings()) == frozenset()


def test_stage_trains_on_the_seeds_it_reads(tmp_path: Path) -> None:
    images = data()
    asked = []

    def labels(dataset: Dataset, sample: Sample) -> Labels:
        assert dataset is images
        asked.append(sample.id)
        return seeds(sample)

    stage_kind("irn").load()(context("irn", tmp_path, {"seeds": Seeds(labels)}, images, **SMALL))
    assert set(asked) == {s.id for s in images.samples}
    assert [p.name for p in tmp_path.iterdir()] == [WEIGHTS]
    assert load_boundary(tmp_path / WEIGHTS).settings.name == "test_efficientnet"


@pytest.mark.parametrize("thin", [(0, 1), (0, 1, 2)])
def test_nothing_is_trained_where_nothing_walks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, thin: tuple[int, ...]
) -> None:
    images = data()
    save_pixels(PixelModels(images.classes, {column: PixelNet() for column in thin}), tmp_path / "pixels" / WEIGHTS)
    asked = []

    def labels(_dataset: Dataset, sample: Sample) -> Labels:
        asked.append(sample.id)
        return seeds(sample)

    reads: dict[str, object] = {"seeds": Seeds(labels), "pixels": artefact("cam-pixels", tmp_path / "pixels")}
    caplog.set_level("INFO", "tag2mask")
    stage_kind("irn").load()(context("irn", tmp_path / "irn", reads, images, **SMALL))
    assert ("irn: not trained: every class has a model of its pixels" in caplog.text) == (len(thin) == 3)
    assert bool(asked) == (len(thin) == 2)
    assert load_boundary(tmp_path / "irn" / WEIGHTS).settings.name == "test_efficientnet"


def test_missing_seeds_are_the_artefacts_error(tmp_path: Path) -> None:
    reads: dict[str, object] = {"seeds": artefact("cam-refined", tmp_path / "none")}
    with refused(StageError, "'cam-refined' has no masks", "image '000'", "tag2mask run RECIPE"):
        stage_kind("irn").load()(context("irn", tmp_path, reads, data(), **SMALL))


def test_checkpoint_is_taken_as_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(2)
    backbone = {"name": "resnet50_irn", "weights": "none"}
    net = build_boundary(validate(IrnSettings, {"backbone": backbone}, "irn").backbone)
    own = net.state_dict()
    state = {f"resnet50.{k.removeprefix('body.')}": v for k, v in own.items() if k.startswith("body.")}
    state |= {f"fc_edge{n + 1}.0.weight": own[f"reduce.{n}.weight"] for n in range(5)}
    state |= {f"fc_edge{n + 1}.1.{k}": own[f"norms.{n}.{k}"] for n in range(5) for k in ("weight", "bias")}
    state |= {f"fc_edge6.{k}": own[f"join.{k}"] for k in ("weight", "bias")}
    path = tmp_path / "res50_irn.pth"
    torch.save(state, path)
    values = {"backbone": {"name": "resnet50_irn"}, "checkpoint": str(path)}
    with caplog.at_level("INFO", "tag2mask"):
        stage_kind("irn").load()(context("irn", tmp_path / "out", {}, data(), **values))
    assert f"irn: not trained, taken from {path}, which its authors trained on refined seeds" in caplog.text
    found = load_boundary(tmp_path / "out" / WEIGHTS).state_dict()
    assert all(torch.equal(found[k], v) for k, v in own.items())
    settings = validate(IrnSettings, values, "irn")
    kind = stage_kind("irn")
    assert kind.supervision_of(settings) == {"tags"}
    assert kind.fingerprint is not None
    before = kind.fingerprint(settings)
    path.write_bytes(b"another file")
    assert kind.fingerprint(settings) != before
    path.unlink()
    with refused(WeightsError, "'checkpoint' =", "res50_irn.pth: there is no such file"):
        kind.fingerprint(settings)


def test_fingerprint_follows_the_backbones_weights() -> None:
    kind = stage_kind("irn")
    assert kind.fingerprint is not None
    bundled, none = kind.fingerprint(IrnSettings()), kind.fingerprint(validate(IrnSettings, SMALL, "irn"))
    assert len({bundled, none}) == 2


def test_maps_walk_along_the_images_own_boundaries(tmp_path: Path, walk: Callable[..., ImageProgram]) -> None:
    images, net = data(), load_boundary(tmp_path / "irn" / WEIGHTS)
    for values in ({}, {"power": 1.3, "beta": 4, "log2_steps": 3, "radius": 4, "mirror": False, "pad": "512"}):
        program = walk(**values)
        s = validate(WalkSettings, values, "walk")
        for sample in images.samples[:7]:
            image = image_tensor(images.image(sample), SIZE, net.mean, net.std)
            with torch.no_grad():
                edge = boundary_map(net, image, s.mirror, s.pad)
            expected = random_walk(drawn_maps(sample) ** s.power, edge, s.radius, s.beta, s.log2_steps)
            found = made(program, sample)
            assert found.classes == sample.tags
            assert found.maps.dtype == torch.float32
            torch.testing.assert_close(found.maps, expected / expected.max(), rtol=1e-5, atol=1e-6)
            assert found.maps.max() == 1
            assert found.maps.min() >= 0


def test_padding_is_a_setting_that_leaves_the_key_alone_at_its_default() -> None:
    assert "pad" not in key_values(WalkSettings())
    found = {given: validate(WalkSettings, {"pad": given}, "walk").pad for given in ("cells", 512, "512", "none")}
    assert list(found.values()) == ["cells", 512, 512, "none"]
    assert key_values(WalkSettings(pad=512))["pad"] == 512
    with pytest.raises(ConfigError, match="setting 'walk.pad' = 640: .*'cells', 512 or 'none'"):
        validate(WalkSettings, {"pad": 640}, "walk")


def test_one_maximum_for_all_maps_of_an_image() -> None:
    maps = torch.zeros(2, 6, 7)
    maps[0, 2, 3] = 1
    maps[1, :, :] = 0.25
    edge = torch.full((6, 7), 0.1)
    found = walked(ActivationMaps((1, 4), maps), edge, WalkSettings()).maps
    plain = random_walk(maps, edge)
    assert found.max() == 1
    assert found[0].max() < 1
    torch.testing.assert_close(found[0].max() / found[1].max(), plain[0].max() / plain[1].max())


def test_zero_maps_stay_zero_and_power_applies_before_the_walk() -> None:
    edge = torch.rand(5, 6, generator=torch.Generator().manual_seed(0))
    zero = walked(ActivationMaps((0,), torch.zeros(1, 5, 6)), edge, WalkSettings())
    assert zero.maps.count_nonzero() == 0
    maps = torch.rand(2, 5, 6, generator=torch.Generator().manual_seed(1))
    squared = walked(ActivationMaps((0, 1), maps), edge, WalkSettings(power=2))
    torch.testing.assert_close(squared.maps, walked(ActivationMaps((0, 1), maps**2), edge, WalkSettings()).maps)


def test_image_without_tags_has_no_maps(walk: Callable[..., ImageProgram]) -> None:
    images = data()
    found = made(walk(), images.samples[7])
    assert images.samples[7].tags == found.classes == ()
    assert found.maps.shape == (0, 16, 20)


def test_several_images_at_once_are_each_as_alone(walk: Callable[..., ImageProgram]) -> None:
    program, samples = walk(), data().samples
    together = program.compute([program.prepare(s) for s in samples])
    for found, sample in zip(together, samples, strict=True):
        assert isinstance(found, ActivationMaps)
        assert torch.equal(found.maps, made(program, sample).maps)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda maps: maps[:, :-1], "'000' … 'cam' … shape"),
        (lambda maps: maps * float("nan"), "maps of '000' in stage 'cam' hold NaN"),
    ],
    ids=["size", "nan"],
)
def test_bad_maps_name_the_image(
    tmp_path: Path, walk: Callable[..., ImageProgram], change: Callable[[Tensor], Tensor], text: str
) -> None:
    sample = data().samples[0]
    store_maps(tmp_path / "cam", sample, change(drawn_maps(sample)))
    with refused(DataError, text):
        walk().prepare(sample)


def test_missing_and_foreign_maps_name_the_image(tmp_path: Path, walk: Callable[..., ImageProgram]) -> None:
    first, second = data().samples[:2]
    path = tmp_path / "cam" / "maps" / f"{first.id}.npz"
    write_maps(path, ActivationMaps(first.tags, drawn_maps(first)), SIZE, "another key")
    with refused(StageError, "image '000'", "'cam'", "from another"):
        walk().prepare(first)
    (tmp_path / "cam" / "maps" / f"{second.id}.npz").unlink()
    with refused(StageError, "'cam' has no maps", "image '001'"):
        walk().prepare(second)


def test_network_of_another_stage_is_refused(tmp_path: Path, walk: Callable[..., ImageProgram]) -> None:
    (tmp_path / "irn" / WEIGHTS).write_bytes(b"no network")
    with pytest.raises(WeightsError, match="weights.safetensors cannot be read"):
        walk()


def test_maps_of_thin_classes_do_not_walk() -> None:
    """The others walk as if they were alone, their largest value 1; with all of them thin nothing changes."""
    rng = np.random.default_rng(5)
    maps = torch.from_numpy(rng.uniform(size=(3, 9, 8)).astype(np.float32))
    edge = torch.from_numpy(rng.uniform(size=(9, 8)).astype(np.float32))
    given, settings = ActivationMaps((0, 2, 5), maps), WalkSettings(log2_steps=3, radius=2)
    found = walked_without({2, 7}, given, edge, settings)
    alone = walked(ActivationMaps((0, 5), maps[[0, 2]]), edge, settings)
    assert found.classes == (0, 2, 5)
    assert (found.maps[1] == maps[1]).all()
    assert (found.maps[[0, 2]] == alone.maps).all()
    assert (walked_without({0, 2, 5}, given, edge, settings).maps == maps).all()
    assert (walked_without((), given, edge, settings).maps == walked(given, edge, settings).maps).all()


def test_the_walk_reads_which_classes_are_thin(tmp_path: Path) -> None:
    """Class 0 has a pixel model: its maps come out as they went in, and an image of it alone needs no boundaries."""
    images = data()
    save_boundary(build_boundary(validate(IrnSettings, SMALL, "irn").backbone), tmp_path / "irn" / WEIGHTS)
    (tmp_path / "pixels").mkdir()
    save_pixels(PixelModels(images.classes, {0: PixelNet()}), tmp_path / "pixels" / WEIGHTS)
    names = {"irn": "irn", "maps": "cam", "pixels": "pixels"}
    reads: dict[str, object] = {role: artefact(name, tmp_path / name) for role, name in names.items()}
    for sample in images.samples:
        store_maps(tmp_path / "cam", sample, drawn_maps(sample))
    program = stage_kind("irn-walk").load()(context("irn-walk", tmp_path / "out", reads, images))
    alone, both = (next(s for s in images.samples if s.tags == tags) for tags in ((0,), (0, 1)))
    assert program.prepare(alone).image is None
    assert (made(program, alone).maps == drawn_maps(alone)).all()
    found = made(program, both).maps
    assert (found[0] == drawn_maps(both)[0]).all()
    assert (found[1] != drawn_maps(both)[1]).any()


def block(rows: slice, columns: slice, value: float = 1.0) -> Tensor:
    maps = torch.zeros(16, 20)
    maps[rows, columns] = value
    return maps


def test_agreement_is_the_iou_with_confident_pixels() -> None:
    """By hand: 8 x 8 seeds, of which a map has the half of 32, and 32 cells of background; 24 ignored ones are free."""
    seeds = torch.zeros(16, 20, dtype=torch.uint8)
    seeds[0:8, 0:8], seeds[0:8, 12:15] = 3, 255
    first = block(slice(0, 8), slice(4, 15), 0.6)  # 4 columns right, 4 of background, 3 ignored
    maps = torch.stack([first, block(slice(0, 16), slice(0, 20), 0.05)])
    for scale in (1.0, 0.1):
        found = agreements(seeds, ActivationMaps((2, 4), scale * maps))
        assert found[0].item() == pytest.approx(32 / (64 + 32)), scale
        assert found[1].item() == 0
    maps[0, :, 8:15] *= 0.9  # a threshold between the right columns and the others leaves the right ones alone
    assert agreements(seeds, ActivationMaps((2, 4), maps))[0].item() == pytest.approx(32 / 64)
    # Without background among the seeds the larger map wins, and nothing is cut: columns 0 to 3 become the other class.
    none = torch.where(seeds == 0, torch.tensor(5, dtype=torch.uint8), seeds)
    assert agreements(none, ActivationMaps((2, 4), maps))[0].item() == pytest.approx(32 / (64 + 32))
    assert agreements(seeds, ActivationMaps((), torch.zeros(0, 16, 20))).shape == (0,)


def test_maps_that_the_walk_spoils_stay() -> None:
    """One of three classes keeps enough of its seeds; of the last there are none to judge by."""
    seeds = torch.zeros(16, 20, dtype=torch.uint8)
    seeds[0:4, 0:10], seeds[8:12, 0:10] = 1, 2
    first, second, third = (block(slice(n, n + 4), slice(0, 10)) for n in (0, 8, 12))
    before = ActivationMaps((0, 1, 2), torch.stack([first, second, third]))
    spread = torch.stack([block(slice(0, 4), slice(0, 9)), block(slice(4, 12), slice(0, 20)), third * 0.5])
    after = ActivationMaps((0, 1, 2), spread)  # IoU 0.9, 0.25 and none
    kept = kept_to(seeds, before, after, 0.8).maps
    assert torch.equal(kept, torch.stack([spread[0], second, third]))
    assert torch.equal(kept_to(seeds, before, after, 0.95).maps, before.maps)
    assert torch.equal(kept_to(seeds, before, after, 0.2).maps[:2], spread[:2])
    assert torch.equal(kept_to(seeds, before, before, 0.8).maps, before.maps)
    quiet = ActivationMaps((0, 1, 2), 0.1 * spread)  # a walk that changes the scale alone spoils nothing
    assert torch.equal(kept_to(seeds, before, quiet, 0.8).maps[0], quiet.maps[0])


def test_without_boundaries_the_walk_changes_no_mask_for_the_worse() -> None:
    """Equal boundaries everywhere are those of a network that has learned nothing: 256 steps cover the image."""
    seeds = torch.zeros(16, 20, dtype=torch.uint8)
    seeds[6:10, 7:12] = 1
    before = ActivationMaps((0,), block(slice(6, 10), slice(7, 12))[None])
    after = walked(before, torch.full((16, 20), 0.35), WalkSettings())
    assert agreements(seeds, after).item() < 0.8
    assert torch.equal(kept_to(seeds, before, after, 0.8).maps, before.maps)
    # A boundary around the thing lets it walk, within it alone.
    ring = block(slice(5, 11), slice(6, 13)) - block(slice(6, 10), slice(7, 12))
    inside = walked(ActivationMaps((0,), block(slice(6, 9), slice(7, 12))[None]), ring, WalkSettings())
    found = kept_to(seeds, ActivationMaps((0,), block(slice(6, 9), slice(7, 12))[None]), inside, 0.8)
    assert torch.equal(found.maps, inside.maps)
    assert agreements(seeds, found).item() == 1


def test_the_walk_keeps_to_the_seeds_it_reads(tmp_path: Path) -> None:
    """A network with random weights spreads maps over the image: what disagrees comes out as it went in."""
    torch.manual_seed(1)
    images = data()
    save_boundary(build_boundary(validate(IrnSettings, SMALL, "irn").backbone), tmp_path / "irn" / WEIGHTS)
    for sample in images.samples:
        labels = at_grid(torch.from_numpy(seeds(sample)), *stride4(*SIZE))
        maps = [(labels == c + 1).float() for c in sample.tags]
        store_maps(tmp_path / "cam", sample, torch.stack(maps) if maps else torch.zeros(0, *stride4(*SIZE)))
    reads: dict[str, object] = {r: artefact(n, tmp_path / n) for r, n in (("irn", "irn"), ("maps", "cam"))}
    reads["seeds"] = Seeds(lambda _dataset, sample: seeds(sample))
    without = {role: reads[role] for role in ("irn", "maps")}
    runner, changed = stage_kind("irn-walk").load(), 0
    for sample in images.samples[:3]:
        plain = made(runner(context("irn-walk", tmp_path / "out", without, images)), sample)
        given = ActivationMaps(sample.tags, reads["maps"].maps(images, sample).maps)  # type: ignore[attr-defined]
        grid = at_grid(torch.from_numpy(seeds(sample)), *stride4(*SIZE))
        for share in (0.0, 1.0):
            found = made(runner(context("irn-walk", tmp_path / "out", reads, images, agreement=share)), sample)
            assert torch.equal(found.maps, kept_to(grid, given, plain, share).maps)
            changed += not torch.equal(found.maps, plain.maps)
    assert changed > 0


def test_seeds_and_their_settings_leave_other_keys_alone() -> None:
    assert "agreement" not in key_values(WalkSettings())
    assert "agreement" not in WalkSettings().model_dump()
    assert WalkSettings(agreement=0.5).model_dump()["agreement"] == 0.5
    with refused(ConfigError, "agreement", "1.5", "less than or equal to 1"):
        validate(WalkSettings, {"agreement": 1.5}, "walk")
