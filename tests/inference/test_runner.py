"""One pass over the images serves every stage; a stage may keep raw scores beside its maps."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from tag2mask.core.progress import progress
from tag2mask.core.types import ActivationMaps, Sample
from tag2mask.data.registry import load_dataset
from tag2mask.inference.multiscale import mean_of_scales, pair_features
from tag2mask.inference.raw_scores import RawScores, halved, logit_unit
from tag2mask.inference.runner import MapTask, image_tensor, make_maps
from tag2mask.inference.settings import MapsSettings
from tests.backbones.make import network


def strength(features: Tensor, classes: Tensor) -> Tensor:
    maps: Tensor = features[0].norm(dim=0).expand(len(classes), -1, -1)
    return maps


def signed(features: Tensor, classes: Tensor) -> Tensor:
    return features[0].mean(dim=0) * (classes[:, None, None] - 1.5)


def test_raw_scores_are_kept_where_a_stage_has_a_head_for_them() -> None:
    net, dataset = network(stride=8), load_dataset("parts", split="train", images=3, size=64)
    found: list[dict[str, ActivationMaps]] = [{}, {}]

    def task(place: int, raw: bool) -> MapTask:
        def write(sample: Sample, maps: ActivationMaps, size: tuple[int, int]) -> None:
            found[place][sample.id] = maps

        kept = RawScores(signed, logit_unit, len(dataset.classes)) if raw else None
        return MapTask(strength, lambda sample: True, write, kept)

    settings = MapsSettings(scales=(1.0,), mirror=False)
    with progress("maps", len(dataset), quiet=True) as counter:
        make_maps(
            net, [task(0, False), task(1, True)], dataset, dataset.samples, settings, torch.device("cpu"), counter
        )
    assert [maps.raw for maps in found[0].values()] == [None] * 3
    for sample in dataset.samples:
        plain, kept = (made[sample.id] for made in found)
        assert torch.equal(plain.maps, kept.maps)
        image = dataset.image(sample)
        views = [image_tensor(image, image.size[::-1], net.mean, net.std)]
        part = settings.part((image.height, image.width), net.stride)
        everything = torch.arange(len(dataset.classes))
        (scores,) = mean_of_scales(
            pair_features(net.features, views, mirror=False), [signed], everything,
            (kept.maps.shape[1], kept.maps.shape[2]), part,
        )  # fmt: skip
        assert kept.raw is not None
        assert kept.absent is not None
        units = logit_unit(scores)
        torch.testing.assert_close(kept.raw, units[list(sample.tags)], atol=1e-4, rtol=1e-4)
        assert float(kept.raw.std()) > 0
        units = halved(units)
        for column, counts in enumerate(kept.absent):
            if column in sample.tags:
                assert not counts.any(), "of present classes the map itself is kept"
                continue
            assert int(counts.sum()) == units[column].numel()
            mean = float((counts * torch.arange(251)).sum()) / 250 / units[column].numel()
            assert abs(mean - float(units[column].mean())) < 0.5 / 250 + 1e-4


def test_images_without_tags_pass_through_the_network_where_raw_scores_are_kept() -> None:
    net, dataset = network(stride=8), load_dataset("parts", split="train", images=2, size=64)
    samples = [replace(dataset.samples[0], tags=()), dataset.samples[1]]
    found: dict[str, ActivationMaps] = {}
    task = MapTask(
        strength, lambda sample: True, lambda sample, maps, size: found.update({sample.id: maps}),
        RawScores(signed, logit_unit, len(dataset.classes)),
    )  # fmt: skip
    with progress("maps", 2, quiet=True) as counter:
        make_maps(net, [task], dataset, samples, MapsSettings(scales=(1.0,)), torch.device("cpu"), counter)
    untagged = found[samples[0].id]
    assert untagged.classes == ()
    assert untagged.maps.shape == (0, 16, 16)
    assert untagged.raw is not None
    assert untagged.raw.shape == (0, 16, 16)
    assert untagged.absent is not None
    assert untagged.absent.sum(1).tolist() == [64] * len(dataset.classes)


def test_scales_are_of_the_training_where_a_stage_says_so() -> None:
    net, dataset = network(stride=8), load_dataset("parts", split="train", images=3, size=64)
    samples = [s for s in dataset.samples if dataset.image(s).size == (64, 64)]  # whose sizes are rounded once
    seen: list[tuple[int, ...]] = []

    def noted(features: Tensor, classes: Tensor) -> Tensor:
        seen.append(tuple(features.shape[2:]))
        return strength(features, classes)

    shapes = []
    for settings, side in (
        (MapsSettings(scales=(1.0, 1.5), mirror=False, relative_to="training"), 96),
        (MapsSettings(scales=(1.5, 2.25), mirror=False), 96),
        (MapsSettings(scales=(1.5, 2.25), mirror=False, relative_to="training"), None),
    ):
        seen.clear()
        made: dict[str, ActivationMaps] = {}
        task = MapTask(noted, lambda sample: True, lambda s, maps, _size, made=made: made.update({s.id: maps}))  # type: ignore[misc]
        with progress("maps", len(samples), quiet=True) as counter:
            make_maps(net, [task], dataset, samples, settings, torch.device("cpu"), counter, side)
        shapes.append((list(seen), [maps.maps for maps in made.values()]))
    (sizes, maps), *others = shapes
    assert sizes == [(12, 12), (18, 18)] * len(samples), "1 and 1.5 times 96 are 1.5 and 2.25 times 64"
    for other, same in others:
        assert other == sizes
        for one, two in zip(maps, same, strict=True):
            assert torch.equal(one, two), "maps keep the size of the image"


def test_an_image_has_its_own_size_or_that_of_the_training() -> None:
    assert MapsSettings().base((100, 50), 360) == (100, 50)
    assert MapsSettings(relative_to="training").base((100, 50), 360) == (360, 180)
    assert MapsSettings(relative_to="training").base((1000, 3), 360) == (360, 1)
    assert MapsSettings(relative_to="training").base((100, 50), None) == (100, 50)
    assert "relative_to" not in MapsSettings().model_dump()
