"""The foreground set and the context set of a class: which images, which cells, and through a recipe's stages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
import yaml

from tag2mask.api import run
from tag2mask.config.recipe import recipe_text
from tag2mask.core.errors import ConfigError
from tag2mask.core.types import ActivationMaps, Sample
from tag2mask.data.base import Dataset
from tag2mask.evaluation.thresholds import Levels, Threshold
from tag2mask.methods.artefact import Artefact
from tag2mask.methods.lpcam.collect import collect
from tag2mask.methods.lpcam.sets import Sets, share_of
from tag2mask.pipeline.opened_run import OpenedRun
from tests.helpers.refused import refused
from tests.helpers.tiny import drawn, files_of, tiny_overrides

# --- which images -------------------------------------------------------------------------------------------------

SAMPLES = tuple(Sample(f"{i:02d}", tags) for i, tags in enumerate([(0,), (), (0, 1), (1,), (0,), (), (1,), (), (0, 2)]))


def data(*samples: Sample, background: str = "present") -> Dataset:
    return cast(Dataset, SimpleNamespace(samples=samples, background=background, classes=("crack", "weed", "car")))


def test_context_comes_of_as_many_images_without_the_class() -> None:
    sets = Sets(context="both", seed=3)
    found = sets.images(data(*SAMPLES), 0, None)
    assert [s.id for s in found[:4]] == ["00", "02", "04", "08"], "all of the class, in the data set's order"
    others = [s.id for s in found[4:]]
    assert others == sorted(others)
    assert len(set(others)) == 4
    assert set(others) < {"01", "03", "05", "06", "07"}, "untagged images have no crack either"
    assert sets.images(data(*SAMPLES), 0, None) == found
    drawn_by = {tuple(s.id for s in Sets(context="both", seed=n).images(data(*SAMPLES), 0, None)[4:]) for n in range(9)}
    assert len(drawn_by) > 1
    assert len(sets.images(data(*SAMPLES), 0, 2)) == 4, "two of the class, two without it"
    assert Sets(context="negatives", seed=3).images(data(*SAMPLES), 0, None) == found, "the foreground is in the first"
    assert Sets(seed=3).images(data(*SAMPLES), 0, None) == found[:4]
    assert [len(sets.images(data(*SAMPLES), c, None)) for c in (1, 2)] == [6, 2]


def test_a_class_that_no_image_has_needs_no_context() -> None:
    assert Sets(context="both").images(data(Sample("a", (1,)), Sample("b", ())), 0, None) == []


def test_without_an_image_that_lacks_the_class_its_own_are_the_context(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING", logger="tag2mask"):
        assert Sets(context="negatives").images(data(SAMPLES[0], SAMPLES[2]), 0, None) == [SAMPLES[0], SAMPLES[2]]
    assert "'crack'" in caplog.text
    assert "context = negatives" in caplog.text


def test_an_untagged_image_shows_nothing_where_every_pixel_is_of_a_class() -> None:
    everything = data(*SAMPLES, background="none")
    found = Sets(competes=False).images(everything, 0, None)
    assert {s.id for s in found[4:]} == {"03", "06"}


# --- which cells --------------------------------------------------------------------------------------------------

MAPS = torch.tensor([[[0.2, 0.5, 0.7, 0.9]], [[0.6, 0.6, 0.1, 0.61]]])
FOUND = ActivationMaps((0, 1), MAPS)


def artefact(found: ActivationMaps, wanted: list[str]) -> Artefact:
    def maps(_: object, __: Sample, scores: str) -> ActivationMaps:
        wanted.append(scores)
        return found

    return cast(Artefact, SimpleNamespace(maps=maps))


def test_the_foreground_is_where_the_map_exceeds_the_threshold_of_its_class() -> None:
    levels = Levels(0.9, (0.5, 0.6, None))
    sets, wanted = Sets(threshold=Threshold(None, "rule", rule="otsu/class", levels=levels), scores="raw"), list[str]()
    source, sample = artefact(FOUND, wanted), Sample("ab", (0, 1))
    shares = [cast(torch.Tensor, sets.share(source, data(), sample, c)) for c in (0, 1)]
    assert [(s >= sets.tau).tolist() for s in shares] == [[[False, False, True, True]], [[False, False, False, True]]]
    assert wanted == ["raw", "raw"]
    assert sets.share(source, data(), sample, 2) is None
    assert len(wanted) == 2, "an image without the class has no map of it"
    at = Sets(threshold=Threshold(0.65, "few-masks", 4)).share(source, data(), sample, 0)
    assert at is not None
    assert at.tolist() == [[0, 0, 1, 1]]


def test_without_a_threshold_tau_parts_the_map_itself() -> None:
    sets = Sets(cut=0.25)
    assert sets.tau == 0.25
    assert torch.equal(cast(torch.Tensor, sets.share(artefact(FOUND, []), data(), Sample("ab", (0, 1)), 1)), MAPS[1])
    assert share_of(FOUND, 0, False, 0.95).tolist() == [[0, 0, 1, 1]], "the largest, where nothing else competes"
    assert Sets(competes=False, cut=0.0).tau == 0.5, "cells that are 0 or 1 are not parted at tau"


def test_images_without_the_class_are_context_and_may_be_all_of_it() -> None:
    cells = torch.arange(8.0).reshape(2, 1, 4)
    pairs = [(cells, torch.tensor([[0.1, 0.9, 0.2, 0.8]])), (cells + 10, None)]
    with collect(pairs, 0.5) as (foreground, context):
        assert foreground.vectors.tolist() == [[1, 5], [3, 7]]
        assert context.vectors.tolist() == [[0, 4], [2, 6], [10, 14], [11, 15], [12, 16], [13, 17]]
        assert context.origins[:, 0].tolist() == [0, 0, 1, 1, 1, 1]
    with collect(pairs, 0.5, certain=True) as (foreground, context):
        assert foreground.vectors.tolist() == [[1, 5], [3, 7]]
        assert context.origins.tolist() == [[1, 0, 0], [1, 0, 1], [1, 0, 2], [1, 0, 3]]
    with collect(pairs, 0.0) as (foreground, context):
        assert set(context.origins[:, 0].tolist()) == {1}, "even where every cell of its own images is foreground"


# --- through a recipe's stages ------------------------------------------------------------------------------------

RECIPE = "light"
RULE: dict[str, Any] = {"kind": "rule", "reads": {"maps": "cam"}, "rule": "otsu", "per": "class", "scores": "raw"}
LEARNED = ["classifier.train.lr=0.01", "classifier.train.head_lr=0.3", "classifier.train.min_steps=12"]
"""Enough that the cells of a map differ."""
RAW = ["prototypes.scores=raw", "prototypes.reads.threshold=cam-rule"]


def clustered(tmp: Path, out: str, *more: str, rule: dict[str, Any] = RULE) -> OpenedRun:
    """A run of the light recipe up to its prototypes, with raw scores and a threshold for its CAM."""
    recipe = yaml.safe_load(recipe_text(RECIPE))
    recipe["stages"]["cam-rule"] = rule
    (tmp / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    words = [*tiny_overrides(RECIPE, drawn(tmp, RECIPE)), "cam.raw=true", *LEARNED, *more]
    return OpenedRun(run(str(tmp / "recipe.yaml"), *words, out=tmp / out, only=["prototypes"]).path)


def places(opened: OpenedRun) -> Iterator[tuple[str, str, str]]:
    """Class, side and image id of every place in the gallery."""
    for entry in json.loads((opened.artefact("prototypes").path / "gallery.json").read_text()):
        for patch in entry["patches"]:
            yield entry["class"], entry["name"].partition(":")[0], patch["id"]


@pytest.fixture(scope="module")
def tmp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sets")


def test_a_run_takes_context_of_images_without_the_class_alone(tmp: Path) -> None:
    opened = clustered(tmp, "negatives", *RAW, "prototypes.context=negatives", "prototypes.mu_b=1")
    dataset = opened.dataset("prototypes")
    tags = {s.id: [dataset.classes[c] for c in s.tags] for s in dataset.samples}
    found = list(places(opened))
    assert {side for _, side, _ in found} == {"foreground", "context"}
    assert all((name in tags[sample]) == (side == "foreground") for name, side, sample in found)
    again = clustered(
        tmp, "again", *RAW, "prototypes.context=negatives", "prototypes.mu_b=1", "prototypes.memory_mb=64"
    )
    assert again.artefact("prototypes").path != opened.artefact("prototypes").path
    assert files_of(again.path) == files_of(opened.path), "and the same in every run, whatever the memory"


def test_a_run_parts_the_cells_at_the_threshold_of_each_class(tmp: Path) -> None:
    opened = clustered(tmp, "both", *RAW, "prototypes.context=both", "prototypes.max_vectors=100000")
    dataset, maps = opened.dataset("prototypes"), opened.artefact("cam")
    level = opened.artefact("cam-rule").threshold().as_threshold()
    by_id = {s.id: s for s in dataset.samples}
    beyond = dict.fromkeys(("foreground", "context"), 0)
    for entry in json.loads((opened.artefact("prototypes").path / "gallery.json").read_text()):
        column, side = dataset.classes.index(entry["class"]), entry["name"].partition(":")[0]
        for patch in entry["patches"]:
            sample = by_id[patch["id"]]
            if column not in sample.tags:
                assert side == "context"
                beyond[side] += 1
                continue
            found = maps.maps(dataset, sample, scores="raw")
            own = found.maps[found.classes.index(column)]
            near = _around(own, patch["u"], patch["v"])
            inside = near > level.of(sample.id, [column])
            assert bool(inside.any()) if side == "foreground" else not bool(inside.all())
            beyond[side] += 1
    assert min(beyond.values()) > 0


def _around(cells: torch.Tensor, u: float, v: float) -> torch.Tensor:
    """The cells of a map around a place: the middle of a feature cell lies between them."""
    y, x = int(v * cells.shape[0]), int(u * cells.shape[1])
    return cells[max(0, y - 2) : y + 2, max(0, x - 2) : x + 2]


def test_a_threshold_of_another_form_is_refused_before_training(tmp: Path) -> None:
    with refused(ConfigError, "prototypes", "scores = normalised", "cam-rule", "prototypes.scores=raw"):
        clustered(tmp, "refused", "prototypes.reads.threshold=cam-rule")
    with refused(ConfigError, "prototypes", "scores = raw", "cam.raw=true", "prototypes.scores=normalised"):
        clustered(tmp, "refused", *RAW, "cam.raw=false", rule={**RULE, "scores": "normalised"})
    with refused(ConfigError, "prototypes", "threshold", "cam"):
        clustered(tmp, "refused", "prototypes.scores=raw", "prototypes.reads.threshold=cam")
    with refused(ConfigError, "prototypes.context", "outside", "'negatives'"):
        clustered(tmp, "refused", "prototypes.context=outside")
    assert not (tmp / "refused").exists()
